//! What belongs to the process as a whole, read at each scrape: what the kernel says of it, and its log.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;

/// Descriptors, resident memory, tasks and log of this process.
#[derive(Debug)]
pub(super) struct Process;

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        if let Some(open) = open_descriptors() {
            let gauge = ConstGauge::new(open);
            let metric =
                encoder.encode_descriptor("process_open_fds", "Open file descriptors.", None, gauge.metric_type())?;
            gauge.encode(metric)?;
        }
        if let Some(bytes) = resident_bytes() {
            let gauge = ConstGauge::new(bytes);
            let metric = encoder.encode_descriptor(
                "process_resident_memory",
                "Resident memory.",
                Some(&Unit::Bytes),
                gauge.metric_type(),
            )?;
            gauge.encode(metric)?;
        }
        if let Some(tasks) = tasks() {
            let gauge = ConstGauge::new(tasks);
            let metric = encoder.encode_descriptor("tasks", "Tasks of the runtime.", None, gauge.metric_type())?;
            gauge.encode(metric)?;
        }
        let suppressed = ConstCounter::new(crate::logging::suppressed_lines());
        let metric = encoder.encode_descriptor(
            "log_lines_suppressed",
            "Log lines left out because too many of a kind came.",
            None,
            suppressed.metric_type(),
        )?;
        suppressed.encode(metric)
    }
}

/// Tasks of the runtime that serves this scrape. Nothing outside of one.
fn tasks() -> Option<u64> {
    let runtime = tokio::runtime::Handle::try_current().ok()?;
    u64::try_from(runtime.metrics().num_alive_tasks()).ok()
}

/// Open descriptors, less the one that counts them. Nothing where there is no `/proc`.
pub(crate) fn open_descriptors() -> Option<u64> {
    let open = std::fs::read_dir("/proc/self/fd").ok()?.count();
    u64::try_from(open).ok()?.checked_sub(1)
}

/// Resident memory in bytes. Nothing where there is no `/proc`.
pub(crate) fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim_end().parse().ok()?;
    kibibytes.checked_mul(1024)
}
