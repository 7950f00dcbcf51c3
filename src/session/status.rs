//! The report of a mount about itself.
//!
//! The field names of [`StatusReport`] are the keys of `status --json`. They are stable: fields are
//! added, never renamed or given another meaning (`docs/operations.md` lists them).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::memory::MemoryStatus;
use crate::{disk::DiskStatus, record::RecordingStatus, telemetry::Metrics};

/// The version of the report's form.
pub const REPORT_FORMAT: u32 = 1;

/// Everything that a mount tells about itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StatusReport {
    /// [`REPORT_FORMAT`].
    pub format: u32,
    /// The program's version.
    pub version: String,
    /// The mount: volume, place, state.
    pub mount: MountStatus,
    /// Memory of the process.
    pub memory: MemoryStatus,
    /// Changes that are not yet in the store.
    pub durability: DurabilityStatus,
    /// The right to write; absent for read-only mounts.
    pub lease: Option<LeaseStatus>,
    /// How far away the store is, by requests for contents.
    #[serde(default)]
    pub link: LinkStatus,
    /// The cache on the local disk; absent without one.
    #[serde(default)]
    pub disk_cache: Option<DiskStatus>,
    /// The recording of the requests to the store; absent without one.
    #[serde(default)]
    pub recording: Option<RecordingStatus>,
    /// Size of the volume.
    pub volume: VolumeStatus,
    /// Counters since the mount began, by name.
    pub counters: BTreeMap<String, u64>,
    /// Requests from the kernel since the mount began, by kind; kinds of which there were none are
    /// left out.
    #[serde(default)]
    pub kernel_requests: BTreeMap<String, u64>,
}

/// The mount: volume, place, state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountStatus {
    /// `s3://bucket/prefix`.
    pub url: String,
    /// The volume's id, hexadecimal.
    pub volume: String,
    /// The directory.
    pub mount_point: String,
    /// `major:minor` of the filesystem that the kernel shows there; empty until it is mounted.
    #[serde(default)]
    pub device: String,
    /// `mounted`, `detached` (lazily unmounted, still in use) or `draining`.
    pub state: String,
    /// Whether it was mounted read-only.
    pub read_only: bool,
    /// `fsync` or `close`.
    pub durability: String,
    /// The process that serves it.
    pub pid: u32,
    /// Since when, seconds since 1970.
    pub since_unix_seconds: i64,
    /// The fingerprint of the newest state that is in the store, for `mount --expect`.
    #[serde(default)]
    pub fingerprint: String,
}

/// Changes that are not yet in the store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DurabilityStatus {
    /// Contents written and not yet committed.
    pub dirty_bytes: u64,
    /// Age of the oldest change of metadata that is not yet durable.
    pub lag_ms: u64,
    /// Age of the oldest change of contents that is not yet committed.
    #[serde(default)]
    pub contents_lag_ms: u64,
    /// Files with written bytes that can never be stored.
    #[serde(default)]
    pub lost_files: u64,
    /// Nothing becomes durable any more, whatever happens: the volume was taken over.
    #[serde(default)]
    pub failed: bool,
    /// Parts and objects being uploaded.
    pub uploads_in_flight: u64,
    /// Bodies being downloaded.
    pub downloads_in_flight: u64,
    /// The reason why nothing becomes durable at present, if so.
    pub trouble: Option<String>,
}

impl DurabilityStatus {
    /// Age of the oldest change, of metadata or contents, that is not in the store.
    pub fn oldest_change_ms(&self) -> u64 {
        self.lag_ms.max(self.contents_lag_ms)
    }
}

/// The right to write.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseStatus {
    /// `mounted`, `draining`, `released` or `lost`.
    pub state: String,
    /// Since when it is held, seconds since 1970.
    pub acquired_unix_seconds: i64,
    /// How long ago the store confirmed it last.
    pub confirmed_ms_ago: u64,
}

/// How far away the store is, and how wide the link; absent until it was seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkStatus {
    /// How long an answer takes to begin: the lower quartile of the last 64.
    pub latency_us: Option<u64>,
    /// The bandwidth of long bodies: the upper quartile of the last 64.
    pub bytes_per_second: Option<u64>,
    /// `--max-upload-rate`, bytes a second.
    pub upload_limit: Option<u64>,
    /// `--max-download-rate`.
    pub download_limit: Option<u64>,
}

/// Size of the volume.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeStatus {
    /// Inodes in use.
    pub inodes: u64,
    /// Bytes of file contents; holes do not count.
    pub bytes: u64,
}

/// All counters by name.
pub fn counters(metrics: &Metrics) -> BTreeMap<String, u64> {
    macro_rules! table {
        ($($name:ident),* $(,)?) => {
            [$((stringify!($name), metrics.$name.get())),*]
        };
    }
    table![
        get_requests,
        put_requests,
        part_requests,
        multipart_requests,
        head_requests,
        list_requests,
        delete_requests,
        retries,
        store_errors,
        received_bytes,
        sent_bytes,
        requests_in_flight,
        downloads_in_flight,
        uploads_in_flight,
        cache_hits,
        cache_misses,
        readahead_frames,
        page_fill_bytes,
        authentication_failures,
        missing_objects,
        unread_gaps,
        defragmented_bytes,
        sent_slices,
        repacked_bytes,
        fuse_read_bytes,
        fuse_written_bytes,
        fuse_errors,
        open_handles,
    ]
    .into_iter()
    .chain([("fuse_requests", metrics.kernel_requests.total())])
    .map(|(name, value)| (name.to_owned(), value))
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_counter_is_reported() {
        let shown = counters(&Metrics::default());
        let debug = format!("{:?}", Metrics::default());
        let is_total = |name: &str| name == "fuse_requests";
        for name in shown.keys().filter(|name| !is_total(name)) {
            assert!(debug.contains(&format!("{name}:")), "{name}");
        }
        // The drain's progress alone uses it.
        assert!(debug.contains("passed_bytes: Counter("));
        let not_shown = 1;
        assert_eq!(
            debug.matches(": Counter(").count() + debug.matches(": Gauge(").count() + 1,
            shown.len() + not_shown
        );
    }
}
