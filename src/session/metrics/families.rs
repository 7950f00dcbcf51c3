//! The families of metrics, from a report and the histograms. `docs/operations.md` has a table of
//! them.

use std::{fmt, sync::Arc};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, text::encode},
    registry::{Registry, Unit},
};

use super::rows::{Family, Rows};
use crate::{clock, session::status::StatusReport, telemetry::Metrics};

/// The prefix of every name.
const PREFIX: &str = "strongroom";

/// The states of a mount, as `mount.state` has them.
const STATES: [&str; 4] = ["mounted", "detached", "draining", "lost"];

/// The room that a text is given at first. Most fit: one of a mount that had all kinds of requests
/// has 60 KiB.
const TEXT_BYTES: usize = 64 << 10;

const NONE: Option<Unit> = None;
const BYTES: Option<Unit> = Some(Unit::Bytes);
const SECONDS: Option<Unit> = Some(Unit::Seconds);

/// Families without labels: each with its figure.
macro_rules! figures {
    ($($name:literal $unit:ident $help:literal = $figure:expr;)*) => {
        [$((Family($name, $unit, $help), $figure)),*]
    };
}

/// The counters, and their keys in the report.
const COUNTERS: [(Family, &str); 16] = figures! {
    "store_retries" NONE "Requests sent again after a failure." = "retries";
    "store_errors" NONE "Requests that failed for good." = "store_errors";
    "store_received" BYTES "Bodies received from the store." = "received_bytes";
    "store_sent" BYTES "Bodies sent to the store." = "sent_bytes";
    "authentication_failures" NONE "Frames or headers that did not authenticate."
        = "authentication_failures";
    "missing_objects" NONE "Objects that the metadata names and the store has not."
        = "missing_objects";
    "fuse_errors" NONE "Requests of the kernel that failed otherwise than is ordinary."
        = "fuse_errors";
    "fuse_read" BYTES "Read by programs." = "fuse_read_bytes";
    "fuse_written" BYTES "Written by programs." = "fuse_written_bytes";
    "readahead_frames" NONE "Frames fetched ahead of a reader." = "readahead_frames";
    "page_fill" BYTES "Given to the kernel's page cache unasked." = "page_fill_bytes";
    "unread_gaps" NONE "Times that what lies between tiny pieces could not be read." = "unread_gaps";
    "sent_slices" NONE "Slices of files sent because memory ran short." = "sent_slices";
    "defragmented" BYTES "Read of scattered files, to put them in order." = "defragmented_bytes";
    "repacked" BYTES "Read out of objects that are mostly dead." = "repacked_bytes";
    "metadata_flushes" NONE "Flushes of the metadata's log." = "meta_flushes";
};

/// The gauges that the report has among its counters.
const GAUGES: [(Family, &str); 4] = figures! {
    "store_requests_in_flight" NONE "Requests that wait for the store or stream a body."
        = "requests_in_flight";
    "store_downloads_in_flight" NONE "Bodies being downloaded." = "downloads_in_flight";
    "store_uploads_in_flight" NONE "Parts and objects being uploaded." = "uploads_in_flight";
    "open_handles" NONE "Open files and directories." = "open_handles";
};

/// Everything in the OpenMetrics text format; `None` if it cannot be written.
pub fn text(report: StatusReport, metrics: &Arc<Metrics>) -> Option<String> {
    let mut registry = Registry::with_prefix(PREFIX);
    registry.register_collector(Box::new(Snapshot {
        report,
        metrics: Arc::clone(metrics),
    }));
    let mut text = String::with_capacity(TEXT_BYTES);
    encode(&mut text, &registry).ok()?;
    Some(text)
}

#[derive(Debug)]
struct Snapshot {
    report: StatusReport,
    metrics: Arc<Metrics>,
}

impl Collector for Snapshot {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut rows = Rows(&mut encoder);
        self.process(&mut rows)?;
        self.memory(&mut rows)?;
        self.durability(&mut rows)?;
        self.store(&mut rows)?;
        self.caches(&mut rows)?;
        self.kernel(&mut rows)?;
        for (family, key) in &COUNTERS {
            // A report without it leaves the family out.
            if let Some(count) = self.report.counters.get(*key) {
                rows.counter(family, *count)?;
            }
        }
        rows.all_gauges(GAUGES.map(|(family, key)| (family, self.counted(key) as f64)))
    }
}

impl Snapshot {
    fn counted(&self, name: &str) -> u64 {
        self.report.counters.get(name).copied().unwrap_or_default()
    }

    fn process(&self, rows: &mut Rows<'_, '_>) -> fmt::Result {
        let (mount, volume) = (&self.report.mount, &self.report.volume);
        rows.info(
            &Family("build", NONE, "The program."),
            &[("version", &self.report.version)],
        )?;
        rows.info(
            &Family("mount", NONE, "The volume and how it was mounted."),
            &[("volume", &mount.volume), ("durability", &mount.durability)],
        )?;
        let states = STATES.into_iter();
        rows.gauges(
            &Family("mount_state", NONE, "1 for the state that it is in."),
            "state",
            states.map(|state| (state, is(state == mount.state))),
        )?;
        let since = mount.since_unix_seconds;
        let up_seconds = clock::unix_seconds().saturating_sub(since).max(0);
        rows.all_gauges(figures! {
            "read_only" NONE "1 if it takes no changes." = is(mount.read_only);
            "start_time" SECONDS "When it was mounted, since 1970." = since as f64;
            "uptime" SECONDS "Since it was mounted." = up_seconds as f64;
            "volume_contents" BYTES "Live contents of files; holes do not count."
                = volume.bytes as f64;
            "volume_inodes" NONE "Inodes in use." = volume.inodes as f64;
        })
    }

    fn memory(&self, rows: &mut Rows<'_, '_>) -> fmt::Result {
        let memory = &self.report.memory;
        rows.all_gauges(figures! {
            "memory_limit" BYTES "The limit of the process: --memory." = memory.limit_bytes as f64;
            "memory_resident" BYTES "Resident memory." = memory.rss_bytes as f64;
            "memory_resident_peak" BYTES "The most that was resident."
                = memory.rss_peak_bytes as f64;
            "memory_allocated" BYTES "Handed out by the allocator."
                = memory.allocated_bytes as f64;
            "memory_budget" BYTES "What owners reserve from." = memory.budget_bytes as f64;
            "memory_unexplained" BYTES "Resident beyond owners and shares; may be negative."
                = memory.unexplained_bytes as f64;
        })?;
        let owners = || {
            memory
                .owners
                .iter()
                .map(|(name, owner)| (name.as_str(), owner))
        };
        rows.gauges(
            &Family("memory_owner", BYTES, "Reserved by each owner."),
            "owner",
            owners().map(|(name, owner)| (name, owner.current_bytes as f64)),
        )?;
        rows.gauges(
            &Family(
                "memory_owner_peak",
                BYTES,
                "The most that each owner reserved.",
            ),
            "owner",
            owners().map(|(name, owner)| (name, owner.peak_bytes as f64)),
        )?;
        rows.gauges(
            &Family("memory_owner_waiting", NONE, "Requests that wait for room."),
            "owner",
            owners().map(|(name, owner)| (name, owner.waiting as f64)),
        )?;
        let shares = memory.shares.iter();
        rows.gauges(
            &Family("memory_share", BYTES, "Held by what has a fixed share."),
            "share",
            shares.map(|(name, share)| (name.as_str(), share.current_bytes as f64)),
        )
    }

    fn durability(&self, rows: &mut Rows<'_, '_>) -> fmt::Result {
        let durability = &self.report.durability;
        rows.all_gauges(figures! {
            "dirty" BYTES "Contents written and not yet committed."
                = durability.dirty_bytes as f64;
            "durability_lag" SECONDS "Age of the oldest change that is not in the store."
                = durability.oldest_change_ms() as f64 / 1e3;
            "trouble" NONE "1 while something does not become durable."
                = is(durability.trouble.is_some());
            "failed" NONE "1 once nothing becomes durable any more." = is(durability.failed);
            "lost_files" NONE "Files with written bytes that can never be stored."
                = durability.lost_files as f64;
        })?;
        let lease = self.report.lease.as_ref();
        lease.map_or(Ok(()), |lease| {
            rows.all_gauges(figures! {
                "lease_age" SECONDS "Since the store confirmed the lease."
                    = lease.confirmed_ms_ago as f64 / 1e3;
            })
        })
    }

    fn store(&self, rows: &mut Rows<'_, '_>) -> fmt::Result {
        let requests = &self.metrics.store_requests;
        let outcomes = requests.outcomes();
        rows.counters(
            &Family(
                "store_requests",
                NONE,
                "Attempts of requests that have ended.",
            ),
            outcomes.map(|(operation, outcome, count)| {
                ([("operation", operation), ("outcome", outcome)], count)
            }),
        )?;
        rows.histograms(
            &Family(
                "store_request_duration",
                SECONDS,
                "Until an answer, or its head.",
            ),
            requests.durations(),
        )?;
        let link = &self.report.link;
        if let Some(latency_us) = link.latency_us {
            rows.all_gauges(figures! {
                "link_latency" SECONDS "How long an answer takes to begin."
                    = latency_us as f64 / 1e6;
            })?;
        }
        if let Some(bytes) = link.bytes_per_second {
            let unit = Some(Unit::Other("bytes_per_second".to_owned()));
            rows.all_gauges(figures! {
                "link_bandwidth" unit "What long answers bring." = bytes as f64;
            })?;
        }
        Ok(())
    }

    fn caches(&self, rows: &mut Rows<'_, '_>) -> fmt::Result {
        let disk = self.report.disk_cache.as_ref();
        let both = |memory: u64, disk: Option<u64>| {
            let disk = disk.map(|count| ([("cache", "disk")], count));
            [([("cache", "memory")], memory)].into_iter().chain(disk)
        };
        rows.counters(
            &Family("cache_hits", NONE, "Frames found in a cache."),
            both(self.counted("cache_hits"), disk.map(|disk| disk.hits)),
        )?;
        rows.counters(
            &Family(
                "cache_misses",
                NONE,
                "Frames not found there that a reader waited for.",
            ),
            both(self.counted("cache_misses"), disk.map(|disk| disk.misses)),
        )?;
        let Some(disk) = disk else { return Ok(()) };
        rows.all_gauges(figures! {
            "disk_cache_size" BYTES "Files of the disk cache." = disk.size_bytes as f64;
            "disk_cache_limit" BYTES "What they may take: --disk-cache."
                = disk.bound_bytes as f64;
        })?;
        let counters = figures! {
            "disk_cache_filled" BYTES "Written to the disk cache." = disk.filled_bytes;
            "disk_cache_not_filled_frames" NONE "Frames not kept: the disk was too slow or full."
                = disk.not_filled;
            "disk_cache_dropped_frames" NONE "Frames found damaged in it." = disk.dropped;
        };
        for (family, count) in counters {
            rows.counter(&family, count)?;
        }
        Ok(())
    }

    fn kernel(&self, rows: &mut Rows<'_, '_>) -> fmt::Result {
        let requests = &self.metrics.kernel_requests;
        let kinds = requests.by_kind();
        rows.counters(
            &Family("fuse_requests", NONE, "Requests from the kernel."),
            kinds.map(|(kind, count)| ([("operation", kind)], count)),
        )?;
        rows.histograms(
            &Family(
                "fuse_request_duration",
                SECONDS,
                "Until a request was answered.",
            ),
            requests.durations(),
        )
    }
}

fn is(value: bool) -> f64 {
    f64::from(u8::from(value))
}
