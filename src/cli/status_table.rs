//! The status report as an aligned table for people.

use std::{collections::BTreeMap, fmt::Write};

use crate::{
    session::status::StatusReport,
    telemetry::{human_size, moment, shown},
};

/// A longer text of the mount's is cut: a path may have 4,096 bytes.
const TEXT_CHARS_MAX: usize = 6000;

/// Renders the report; lines are `section  label  value`.
pub fn render(report: &StatusReport) -> String {
    let mut table = StatusTable::default();
    mount(report, &mut table);
    memory(report, &mut table);
    durability(report, &mut table);
    store(report, &mut table);
    reading(report, &mut table);
    disk_cache(report, &mut table);
    recording(report, &mut table);
    table.out
}

#[derive(Default)]
struct StatusTable {
    out: String,
}

impl StatusTable {
    fn heading(&mut self, text: &str) {
        if !self.out.is_empty() {
            self.out.push('\n');
        }
        self.out.push_str(&shown(text, TEXT_CHARS_MAX));
        self.out.push('\n');
    }

    fn line(&mut self, label: &str, value: impl AsRef<str>) {
        let label = shown(label, TEXT_CHARS_MAX);
        let value = shown(value.as_ref(), TEXT_CHARS_MAX);
        // Writing to a string cannot fail.
        let _ = writeln!(self.out, "  {label:<22} {value}");
    }
}

fn mount(report: &StatusReport, table: &mut StatusTable) {
    let mount = &report.mount;
    table.heading(&format!("{} on {}", mount.url, mount.mount_point));
    let access = if mount.read_only {
        "read-only"
    } else {
        "writable"
    };
    table.line(
        "state",
        format!("{}, {access}, durability {}", mount.state, mount.durability),
    );
    table.line("volume", &mount.volume);
    table.line("fingerprint", &mount.fingerprint);
    table.line(
        "process",
        format!(
            "{} (strongroom {}), since {}",
            mount.pid,
            report.version,
            moment(mount.since_unix_seconds)
        ),
    );
    table.line(
        "contents",
        format!(
            "{} in {} inodes",
            human_size(report.volume.bytes),
            report.volume.inodes
        ),
    );
    if let Some(lease) = &report.lease {
        table.line(
            "lease",
            format!(
                "{}, confirmed {} s ago",
                lease.state,
                lease.confirmed_ms_ago / 1000
            ),
        );
    }
}

fn memory(report: &StatusReport, table: &mut StatusTable) {
    let memory = &report.memory;
    table.heading("Memory");
    table.line(
        "resident",
        format!(
            "{} (peak {}) of {}",
            human_size(memory.rss_bytes),
            human_size(memory.rss_peak_bytes),
            human_size(memory.limit_bytes)
        ),
    );
    table.line(
        "allocator",
        format!(
            "{} in use, {} kept",
            human_size(memory.allocated_bytes),
            human_size(memory.allocator_resident_bytes)
        ),
    );
    let reserved: u64 = memory
        .owners
        .values()
        .map(|owner| owner.current_bytes)
        .sum();
    table.line(
        "reserved",
        format!(
            "{} of {}",
            human_size(reserved),
            human_size(memory.budget_bytes)
        ),
    );
    for (name, owner) in &memory.owners {
        let mut text = format!(
            "{:>9}  peak {:>9}",
            human_size(owner.current_bytes),
            human_size(owner.peak_bytes)
        );
        if owner.waiting > 0 {
            let _ = write!(text, "  {} waiting", owner.waiting);
        }
        table.line(&format!("  {name}"), text);
    }
    table.line("fixed shares", human_size(shares_bytes(report)));
    for (name, share) in &memory.shares {
        let mut text = format!("{:>9}", human_size(share.current_bytes));
        if let Some(bound) = share.bound_bytes {
            let _ = write!(text, "  of   {:>9}", human_size(bound));
        }
        table.line(&format!("  {}", name.replace('_', " ")), text);
    }
    table.line("sum", human_size(memory.explained_bytes));
    // Reservations come before their bytes, so the sum may be the larger one.
    if let Ok(rest @ 1..) = u64::try_from(memory.unexplained_bytes) {
        table.line("unexplained", human_size(rest));
    }
}

fn shares_bytes(report: &StatusReport) -> u64 {
    let shares = report.memory.shares.values();
    shares.map(|share| share.current_bytes).sum()
}

fn durability(report: &StatusReport, table: &mut StatusTable) {
    let durability = &report.durability;
    table.heading("Not yet in the store");
    table.line("contents", human_size(durability.dirty_bytes));
    table.line(
        "oldest metadata change",
        format!("{} ms", durability.lag_ms),
    );
    table.line(
        "uploads in flight",
        durability.uploads_in_flight.to_string(),
    );
    if let Some(trouble) = &durability.trouble {
        table.line("held up by", trouble);
    }
}

fn store(report: &StatusReport, table: &mut StatusTable) {
    let counter = |name: &str| report.counters.get(name).copied().unwrap_or_default();
    table.heading("Store");
    table.line(
        "requests",
        format!(
            "GET {}  PUT {}  part {}  multipart {}  HEAD {}  LIST {}  DELETE {}",
            counter("get_requests"),
            counter("put_requests"),
            counter("part_requests"),
            counter("multipart_requests"),
            counter("head_requests"),
            counter("list_requests"),
            counter("delete_requests")
        ),
    );
    table.line("received", human_size(counter("received_bytes")));
    table.line("sent", human_size(counter("sent_bytes")));
    table.line("in flight", counter("requests_in_flight").to_string());
    let latency = report
        .link
        .latency_us
        .map(|micros| format!("{:.1} ms", micros as f64 / 1e3));
    let bandwidth = report.link.bytes_per_second;
    let bandwidth = bandwidth.map(|bytes| format!("{}/s", human_size(bytes)));
    table.line(
        "latency, bandwidth",
        format!(
            "{}, {}",
            latency.as_deref().unwrap_or("not seen yet"),
            bandwidth.as_deref().unwrap_or("not seen yet")
        ),
    );
    let limits = [report.link.upload_limit, report.link.download_limit];
    if limits.iter().any(Option::is_some) {
        let [up, down] = limits.map(|limit| match limit {
            Some(bytes) => format!("{}/s", human_size(bytes)),
            None => "none".to_owned(),
        });
        table.line("limits up, down", format!("{up}, {down}"));
    }
    table.line(
        "retries, errors",
        format!("{}, {}", counter("retries"), counter("store_errors")),
    );
    table.line(
        "failed authentication",
        counter("authentication_failures").to_string(),
    );
    table.line("missing objects", counter("missing_objects").to_string());
    table.line("unreadable gaps", counter("unread_gaps").to_string());
}

/// Kinds of requests that are shown.
const KINDS_SHOWN: usize = 5;

/// The most frequent kinds of requests.
fn most(requests: &BTreeMap<String, u64>) -> String {
    let mut kinds: Vec<_> = requests.iter().collect();
    kinds.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    let shown: Vec<_> = kinds
        .into_iter()
        .take(KINDS_SHOWN)
        .map(|(kind, count)| format!("{kind} {count}"))
        .collect();
    shown.join(", ")
}

fn reading(report: &StatusReport, table: &mut StatusTable) {
    let counter = |name: &str| report.counters.get(name).copied().unwrap_or_default();
    let (hits, misses) = (counter("cache_hits"), counter("cache_misses"));
    table.heading("Files");
    table.line("open handles", counter("open_handles").to_string());
    table.line(
        "kernel requests",
        format!(
            "{}, {} failed",
            counter("fuse_requests"),
            counter("fuse_errors")
        ),
    );
    table.line("of these", most(&report.kernel_requests));
    table.line(
        "downloads in flight",
        report.durability.downloads_in_flight.to_string(),
    );
    let share = match (hits * 100).checked_div(hits + misses) {
        Some(percent) => format!("{hits} hits, {misses} misses ({percent} %)"),
        None => "not used yet".to_owned(),
    };
    table.line("frame cache", share);
    table.line("frames read ahead", counter("readahead_frames").to_string());
    table.line(
        "given to the kernel",
        human_size(counter("page_fill_bytes")),
    );
}

fn disk_cache(report: &StatusReport, table: &mut StatusTable) {
    let Some(disk) = &report.disk_cache else {
        return;
    };
    table.heading("Disk cache");
    let (size, bound) = (human_size(disk.size_bytes), human_size(disk.bound_bytes));
    table.line("size", format!("{size} of {bound}, {} frames", disk.frames));
    let (hits, misses) = (disk.hits, disk.misses);
    table.line("frames", format!("{hits} hits, {misses} misses"));
    table.line(
        "filled",
        format!(
            "{}, {} frames left out",
            human_size(disk.filled_bytes),
            disk.not_filled
        ),
    );
    table.line("damaged, dropped", disk.dropped.to_string());
    if let Some(trouble) = &disk.trouble {
        table.line("held up by", trouble);
    }
}

fn recording(report: &StatusReport, table: &mut StatusTable) {
    let Some(recording) = &report.recording else {
        return;
    };
    table.heading("Recording");
    table.line("file", &recording.file);
    let bound = human_size(recording.bound_bytes);
    table.line(
        "keeps",
        format!("{} minutes, {bound} at most", recording.minutes),
    );
    let (recorded, dropped) = (recording.recorded, recording.dropped);
    table.line("requests", format!("{recorded}, {dropped} left out"));
    if let Some(trouble) = &recording.trouble {
        table.line("held up by", trouble);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::memory::OwnerStatus;

    #[test]
    fn the_table_shows_owners_and_shares() {
        let mut report = StatusReport::default();
        report.memory.owners.insert(
            "cache".to_owned(),
            OwnerStatus {
                current_bytes: 1 << 20,
                peak_bytes: 2 << 20,
                waiting: 3,
            },
        );
        report.counters.insert("cache_hits".to_owned(), 3);
        report.counters.insert("cache_misses".to_owned(), 1);
        let text = render(&report);
        assert!(text.contains("not seen yet, not seen yet"), "{text}");
        report.link.latency_us = Some(20_130);
        report.link.bytes_per_second = Some(100 << 20);
        let text = render(&report);
        assert!(text.contains("20.1 ms, 100 MiB/s"), "{text}");
        assert!(
            text.contains("1.0 MiB  peak   2.0 MiB  3 waiting"),
            "{text}"
        );
        assert!(text.contains("(75 %)"), "{text}");
    }
}
