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
    /// Processor time of all its threads, user and system.
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
}

/// User and system time: fields 14 and 15 of `stat`, in ticks. The name in field 2 may hold anything but ends at the
/// last parenthesis.
fn cpu(pid: u32) -> Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, rest) = stat.rsplit_once(')').context("an odd stat line")?;
    let ticks = rest.split_whitespace().skip(11).take(2).map(str::parse::<u64>).sum::<Result<u64, _>>()?;
    Ok(Duration::from_millis(ticks * 1000 / rustix::param::clock_ticks_per_second()))
}
