//! What the process itself costs, read from `/proc/self` when somebody asks.
//!
//! Written by hand: the CPU time is a counter of fractions, and the `metrics` crate counts in whole numbers.

use std::fs;

use super::{Kind, Metric, Unit};

/// CPU time used.
pub(super) const CPU: Metric = Metric {
    name: "lemonade_process_cpu_seconds_total",
    kind: Kind::Counter,
    unit: Unit::Seconds,
    labels: &[],
    help: "CPU time of the process, user and system.",
};

/// Files and sockets open.
pub(super) const DESCRIPTORS: Metric = Metric {
    name: "lemonade_process_open_fds",
    kind: Kind::Gauge,
    unit: Unit::Count,
    labels: &[],
    help: "File descriptors open now.",
};

/// Memory in use.
pub(super) const RESIDENT: Metric = Metric {
    name: "lemonade_process_resident_memory_bytes",
    kind: Kind::Gauge,
    unit: Unit::Bytes,
    labels: &[],
    help: "Resident memory of the process.",
};

/// Appends what can be read; what cannot (no `/proc`) is left out rather than told as zero.
pub(super) fn write(text: &mut String) {
    let readings = [(CPU, cpu_seconds()), (DESCRIPTORS, descriptors()), (RESIDENT, resident_bytes())];
    for (metric, value) in readings {
        let Some(value) = value else { continue };
        let (name, help) = (metric.name, metric.help);
        let kind = format!("{:?}", metric.kind).to_lowercase();
        *text += &format!("# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n\n");
    }
}

/// Ticks per second in `/proc/self/stat`: USER_HZ, which is 100 on every architecture Rust runs on (proc(5), time(7)).
const TICKS: f64 = 100.0;

fn cpu_seconds() -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    ticks(&stat).map(|ticks| ticks as f64 / TICKS)
}

/// Fields 14 and 15 of `stat`; the second field, a name in parentheses, may hold anything.
fn ticks(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let mut next = || fields.next()?.parse::<u64>().ok();
    Some(next()? + next()?)
}

fn descriptors() -> Option<f64> {
    // One of them is the directory being read.
    fs::read_dir("/proc/self/fd").ok().map(|entries| entries.count().saturating_sub(1) as f64)
}

fn resident_bytes() -> Option<f64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    kilobytes(&status, "VmRSS:").map(|kilobytes| (kilobytes * 1024) as f64)
}

fn kilobytes(status: &str, field: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_blanks_and_parentheses_does_not_shift_the_fields() {
        let stat = "7 (a) b (c)) S 1 7 7 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 3 0 12345 1000 200";
        assert_eq!(ticks(stat), Some(300));
    }

    #[test]
    fn memory_is_told_in_bytes() {
        assert_eq!(kilobytes("Name:\tx\nVmRSS:\t    5120 kB\nThreads:\t3\n", "VmRSS:"), Some(5120));
        assert!(resident_bytes().unwrap() > 1e6);
    }

    #[test]
    fn descriptors_and_cpu_time_can_be_read() {
        let before = descriptors().unwrap();
        let held = [fs::File::open("/dev/null").unwrap(), fs::File::open("/dev/null").unwrap()];
        // Other tests open files too: at least ours are there.
        assert!(before >= 3.0 && held.len() == 2);
        assert!(cpu_seconds().is_some());
    }
}
