//! What a process uses, as the kernel counts it.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result};

/// A reading of one process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Open descriptors.
    pub descriptors: usize,
    /// Threads.
    pub threads: usize,
    /// Resident memory, in bytes.
    pub resident: u64,
    /// Processor time of all its threads and of its children that have ended, user and system.
    pub cpu: Duration,
}

impl Usage {
    /// Reads the process `pid`.
    pub fn of(pid: u32) -> Result<Self> {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).context("read a process's status")?;
        let field = |name: &str| -> Result<u64> {
            let line =
                status.lines().find_map(|l| l.strip_prefix(name)).with_context(|| format!("{name} is missing"))?;
            let number = line.split_whitespace().next().context("an empty field")?;
            Ok(number.parse()?)
        };
        Ok(Self {
            descriptors: fs::read_dir(format!("/proc/{pid}/fd"))?.count(),
            threads: usize::try_from(field("Threads:")?)?,
            resident: field("VmRSS:")? * 1024,
            cpu: cpu(pid)?,
        })
    }

    /// The process `pid` and all that it has started, together. Memory that they share is counted for each.
    pub fn with_children(pid: u32) -> Result<Self> {
        let mut all = Self::of(pid)?;
        let mut next = children(pid);
        while let Some(child) = next.pop() {
            next.extend(children(child));
            // It may have ended by now, and is in its parent's time then.
            if let Ok(usage) = Self::of(child) {
                all.descriptors += usage.descriptors;
                all.threads += usage.threads;
                all.resident += usage.resident;
                all.cpu += usage.cpu;
            }
        }
        Ok(all)
    }
}

/// The children of all threads; none where the kernel does not tell.
fn children(pid: u32) -> Vec<u32> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let lists = threads.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    lists.flat_map(|list| list.split_whitespace().filter_map(|child| child.parse().ok()).collect::<Vec<_>>()).collect()
}

/// User and system time, and that of children that were waited for: fields 14 to 17 of `stat`, in ticks. The name in field 2 may hold anything but ends at the
/// last parenthesis.
fn cpu(pid: u32) -> Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, rest) = stat.rsplit_once(')').context("an odd stat line")?;
    let ticks = rest.split_whitespace().skip(11).take(4).map(str::parse::<u64>).sum::<Result<u64, _>>()?;
    Ok(Duration::from_millis(ticks * 1000 / rustix::param::clock_ticks_per_second()))
}
