//! The answers of the control socket about a session.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::{Semaphore, mpsc};

use super::SessionConfig;
use crate::{
    budget::Governor,
    check::{self, Inventory, Writing},
    data::{Data, MemoryPlan},
    fs::Fs,
    fuse::{self, Mounted},
    meta::{Ino, Meta},
    record::{self, Recorder},
    seal::{keys::VolumeId, object_store::SealedObjectStore},
    session::{
        activity::{self, Activity},
        control::{Look, Progress, Sent, Source, Told},
        diagnosis::{Diagnosis, Reached},
        drain_meter::DrainMeter,
        exit::Exit,
        lease::Lease,
        look,
        memory::{self, Fixed},
        metrics,
        state::{Fingerprint, StateSeen},
        status::{
            self, DurabilityStatus, LinkStatus, MountStatus, REPORT_FORMAT, StatusReport,
            VolumeStatus,
        },
    },
    store::Store,
    telemetry::{InLog, Metrics, log},
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
    pub(super) store: Store,
    /// The right to answer a question about the places of contents.
    pub(super) looking: Arc<Semaphore>,
    pub(super) lease: Option<Arc<Lease>>,
    /// Set once the mount answers.
    pub(super) mounted: OnceLock<Arc<Mounted>>,
    pub(super) draining: AtomicBool,
    pub(super) trouble: Mutex<Option<String>>,
    pub(super) drain: DrainMeter,
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
        let recording = self.store.recorder().map(|_| record::MEMORY_BYTES);
        Fixed {
            // The queue of a recording is there before anything else.
            runtime_bytes: self.runtime_bytes.saturating_sub(recording.unwrap_or(0)),
            request_buffers_bytes: fuse::request_buffers_bytes(self.plan.max_write_bytes),
            remembered: self.fs.remembered_bytes(),
            metadata: self.meta.memory(),
            metadata_objects: (self.sealed.cached_bytes(), self.sealed.cached_bytes_max()),
            disk_cache: (
                self.data.disk_status().map_or(0, |disk| disk.memory_bytes),
                self.plan.disk.map_or(0, |plan| plan.memory_bytes()),
            ),
            recording,
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

    /// How far the drain is; the first call begins it.
    pub(super) fn sent(&self) -> Sent {
        let passed = self.metrics.passed_bytes.get();
        self.drain.look(self.data.dirty_bytes(), passed)
    }

    /// The obstacle, for the user of this machine: it names paths.
    fn trouble(&self) -> Option<String> {
        self.trouble_of(|ino| self.fs.known_path(ino))
    }

    /// The obstacle, as it may stand in a log.
    pub(super) fn trouble_in_log(&self) -> Option<String> {
        self.trouble_of(|ino| InLog(ino.0).to_string())
    }

    fn trouble_of(&self, name: impl Fn(Ino) -> String) -> Option<String> {
        let told = |(ino, why): (Option<Ino>, String)| match ino {
            Some(ino) => format!("{}: {why}", name(ino)),
            None => why,
        };
        let drain = self.trouble.lock().clone();
        drain
            .or_else(|| self.data.trouble().map(told))
            .or_else(|| self.rotated())
    }

    /// Objects are met that the keys of this mount do not open: those of a later epoch.
    fn rotated(&self) -> Option<String> {
        let epoch = self.sealed.unknown_epoch()?;
        Some(format!(
            "there are objects under key epoch {}, which this mount does not have: if the key was rotated \
             since, nothing newer is shown until the volume is unmounted and mounted again",
            epoch.0
        ))
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
                upload_limit: self.config.store.rates.upload,
                download_limit: self.config.store.rates.download,
            },
            disk_cache: disk,
            recording: self.store.recorder().map(Recorder::status),
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

    fn diagnosis(&self) -> Diagnosis {
        let (config, settings) = (&self.config, &self.config.store);
        let mut status = self.status();
        let metrics = metrics::text(status.clone(), &self.metrics);
        // The report is for this user alone, and names paths; a diagnosis travels.
        status.durability.trouble = match config.log_paths {
            false => self.trouble_in_log(),
            true => self
                .trouble()
                .map(|_| "left out: it may name a path".to_owned()),
        };
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let endpoint = self.store.endpoint();
        Diagnosis {
            status,
            metrics,
            log_file: log::file().map(text),
            log_names_paths: config.log_paths,
            reached: Reached {
                endpoint_url: endpoint.contains("://").then(|| endpoint.to_owned()),
                region: settings.region.clone(),
                profile: settings.profile.clone(),
                ca_bundle: settings.ca_bundle.as_deref().map(text),
                path_style: settings.path_style,
            },
        }
    }

    fn progress(&self) -> Progress {
        if !self.draining.load(Ordering::Acquire) {
            return Progress::Mounted;
        }
        Progress::Draining {
            dirty_bytes: self.data.dirty_bytes(),
            uploads_in_flight: self.metrics.uploads_in_flight.get(),
            trouble: self.trouble(),
            sent: Some(self.sent()),
        }
    }

    fn look(&self, look: Look, told: mpsc::Sender<Told>) -> BoxFuture<'static, ()> {
        let inventory = Inventory {
            store: self.store.clone(),
            meta: self.meta.clone(),
            writing: match self.config.read_only {
                true => Writing::Somebody,
                false => Writing::Session(self.meta.session()),
            },
            progress: Arc::new(check::Progress::default()),
        };
        let mount_point = self.config.mount_point.clone();
        let looking = Arc::clone(&self.looking).try_acquire_owned();
        Box::pin(async move {
            let Ok(_looking) = looking else {
                let refusal = Told::Failed {
                    exit: Exit::Unexpected.code(),
                    what: "this mount answers another such question".to_owned(),
                    advice: "ask again when it is done".to_owned(),
                };
                let _ = told.send(refusal).await;
                return;
            };
            look::answer(look, inventory, Some(&mount_point), told).await;
        })
    }
}
