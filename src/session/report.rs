//! The answers of the control socket about a session.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

use parking_lot::Mutex;

use super::SessionConfig;
use crate::{
    budget::Governor,
    data::{Data, MemoryPlan},
    fs::Fs,
    fuse::{self, Mounted},
    meta::{Ino, Meta},
    seal::{keys::VolumeId, object_store::SealedObjectStore},
    session::{
        activity::{self, Activity},
        control::{Progress, Source},
        lease::Lease,
        memory::{self, Fixed},
        state::{Fingerprint, StateSeen},
        status::{
            self, DurabilityStatus, LinkStatus, MountStatus, REPORT_FORMAT, StatusReport,
            VolumeStatus,
        },
    },
    telemetry::Metrics,
};

/// The state that the session and its control socket share.
pub struct Shared {
    pub(super) config: SessionConfig,
    pub(super) volume: VolumeId,
    pub(super) plan: MemoryPlan,
    pub(super) runtime_bytes: u64,
    pub(super) sealed: SealedObjectStore,
    pub(super) since_unix_seconds: i64,
    pub(super) meta: Meta,
    pub(super) data: Data,
    pub(super) fs: Fs,
    pub(super) governor: Governor,
    pub(super) metrics: Arc<Metrics>,
    pub(super) lease: Option<Arc<Lease>>,
    /// Set once the mount answers.
    pub(super) mounted: OnceLock<Arc<Mounted>>,
    pub(super) draining: AtomicBool,
    pub(super) trouble: Mutex<Option<String>>,
}

impl Shared {
    /// Whether the kernel still has the mount. It is looked up when asked, because the kernel tells
    /// nobody when it lets go.
    fn state(&self) -> &'static str {
        if self.draining.load(Ordering::Acquire) {
            "draining"
        } else if self
            .mounted
            .get()
            .is_some_and(|mounted| mounted.has_failed())
        {
            "lost"
        } else if self.mounted.get().is_none_or(|mounted| mounted.is_there()) {
            "mounted"
        } else {
            "detached"
        }
    }

    fn device(&self) -> String {
        let mounted = self.mounted.get();
        mounted.map_or_else(String::new, |mounted| mounted.device().to_owned())
    }

    /// The newest state that is in the store. The log's head may be newer than the generation
    /// beside it, never older than durable.
    pub(super) fn state_seen(&self) -> StateSeen {
        StateSeen {
            generation: self.meta.generation(),
            log: self.sealed.log_head(),
        }
    }

    pub(super) fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(self.volume, &self.state_seen())
    }

    /// As the kernel has it now: the mount may have been remounted.
    fn read_only(&self) -> bool {
        let mounted = self.mounted.get();
        self.config.read_only || mounted.is_some_and(|mounted| mounted.is_read_only())
    }

    fn fixed(&self) -> Fixed {
        Fixed {
            runtime_bytes: self.runtime_bytes,
            request_buffers_bytes: fuse::request_buffers_bytes(self.plan.max_write_bytes),
            remembered: self.fs.remembered_bytes(),
            metadata: self.meta.memory(),
            metadata_objects: (self.sealed.cached_bytes(), self.sealed.cached_bytes_max()),
            disk_cache: (
                self.data.disk_status().map_or(0, |disk| disk.memory_bytes),
                self.plan.disk.map_or(0, |plan| plan.memory_bytes()),
            ),
            downloads: self.metrics.downloads_in_flight.get(),
            connections_max: self.plan.connections_max as u64,
        }
    }

    /// The counters of the process, and those that are kept where they are counted.
    fn counters(&self) -> BTreeMap<String, u64> {
        let mut counters = status::counters(&self.metrics);
        counters.insert("dirty_bytes".to_owned(), self.data.dirty_bytes());
        counters.insert("meta_flushes".to_owned(), self.meta.flushes());
        counters
    }

    pub(super) fn trouble(&self) -> Option<String> {
        let told = |(ino, why): (Option<Ino>, String)| match ino {
            Some(ino) => format!("{}: {why}", self.fs.known_path(ino)),
            None => why,
        };
        let drain = self.trouble.lock().clone();
        drain.or_else(|| self.data.trouble().map(told))
    }
}

impl Source for Shared {
    fn status(&self) -> StatusReport {
        let config = &self.config;
        let totals = self.meta.totals();
        let (data, disk) = (self.data.status(), self.data.disk_status());
        let uncommitted = self.data.uncommitted();
        StatusReport {
            format: REPORT_FORMAT,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            mount: MountStatus {
                url: config.url.to_string(),
                volume: self.volume.to_string(),
                mount_point: config.mount_point.display().to_string(),
                device: self.device(),
                state: self.state().to_owned(),
                read_only: self.read_only(),
                durability: config.durability.name().to_owned(),
                pid: std::process::id(),
                since_unix_seconds: self.since_unix_seconds,
                fingerprint: self.fingerprint().to_string(),
            },
            memory: memory::measure(
                &self.governor,
                config.memory_bytes,
                self.plan.meta_bytes,
                &self.fixed(),
            ),
            durability: DurabilityStatus {
                dirty_bytes: self.data.dirty_bytes(),
                lag_ms: self.meta.durability_lag_ms(),
                contents_lag_ms: uncommitted.lag.as_millis() as u64,
                lost_files: uncommitted.lost_files,
                failed: uncommitted.has_failed,
                uploads_in_flight: self.metrics.uploads_in_flight.get(),
                downloads_in_flight: self.metrics.downloads_in_flight.get(),
                trouble: self.trouble(),
            },
            lease: self.lease.as_ref().map(|lease| lease.status()),
            link: LinkStatus {
                latency_us: data.latency.map(|latency| latency.as_micros() as u64),
                bytes_per_second: data.bandwidth_bytes,
            },
            disk_cache: disk,
            volume: VolumeStatus {
                inodes: totals.inodes,
                bytes: totals.bytes,
            },
            counters: self.counters(),
            kernel_requests: self.metrics.kernel_requests.by_name(),
        }
    }

    fn activity(&self) -> Activity {
        activity::measure(self.status(), &self.metrics, &self.fs)
    }

    fn progress(&self) -> Progress {
        if !self.draining.load(Ordering::Acquire) {
            return Progress::Mounted;
        }
        Progress::Draining {
            dirty_bytes: self.data.dirty_bytes(),
            uploads_in_flight: self.metrics.uploads_in_flight.get(),
            trouble: self.trouble(),
        }
    }
}
