//! Opening a volume for serving: every layer, bottom up.

use std::{
    sync::{Arc, OnceLock, atomic::AtomicBool},
    time::{SystemTime, UNIX_EPOCH},
};

use parking_lot::Mutex;
use tokio::sync::watch;

use super::{Opened, SessionConfig, report::Shared};
use crate::{
    budget::Governor,
    cli::{
        control::{self, ControlServer, Progress},
        errors,
        exit::{CliError, Exit},
        lease::{self, Lease, LeaseRequest},
        memory,
        mount::Durability,
        mount_options::KernelFlag,
        state::{Seen, VolumeState},
    },
    data::{Data, MemoryPlan},
    fs::{self, Fs, FsConfig},
    fuse,
    meta::{Meta, MetaConfig},
    seal::object_store::SealedObjectStore,
    store::Retry,
};

/// The share of the metadata's memory that holds pieces of its objects, for reading around.
const OBJECT_CACHE_SHARE: u64 = 8;

/// A volume that is mounted. Dropping it lets go of everything without making anything durable: see [`super::serve`].
pub struct VolumeSession {
    pub(super) config: SessionConfig,
    pub(super) header_revision: u64,
    pub(super) state: VolumeState,
    pub(super) lease: Option<Arc<Lease>>,
    pub(super) meta: Meta,
    pub(super) data: Data,
    pub(super) fs: Fs,
    pub(super) mounted: Arc<fuse::Mounted>,
    pub(super) shared: Arc<Shared>,
    pub(super) control: ControlServer,
    pub(super) finished: watch::Sender<Option<Progress>>,
}

impl VolumeSession {
    /// Opens what was unlocked, mounts it, and returns when the mount answers. `tell` shows a line to the user while it waits.
    ///
    /// # Errors
    /// The volume is held by another mount, went back in time, does not authenticate; the kernel refuses.
    pub async fn open(
        config: SessionConfig,
        plan: MemoryPlan,
        opened: Opened,
        state: VolumeState,
        tell: &(dyn Fn(&str) + Send + Sync),
    ) -> Result<VolumeSession, CliError> {
        let runtime_bytes = memory::allocated_bytes();
        let header_revision = opened.loaded.header.revision();
        let seen = state.seen();
        refuse_older("header", header_revision, seen.header_revision, &config)?;
        let socket = state.socket(std::process::id());
        let lease = if config.read_only {
            None
        } else {
            let request = LeaseRequest {
                store: &opened.store,
                keys: &opened.unlocked.keys,
                socket: &socket,
                takeover: config.takeover,
                tell,
            };
            Some(Arc::new(lease::acquire(request).await?))
        };
        if !config.read_only {
            opened
                .loaded
                .repair(&opened.store, &opened.unlocked)
                .await
                .map_err(|error| errors::store(&error, &config.url))?;
        }
        let store = opened
            .store
            .with_retry(Retry::Outlasting(config.refusal_timeout));
        let keys = Arc::clone(&opened.unlocked.keys);
        let sealed = SealedObjectStore::new(
            store.clone(),
            Arc::clone(&keys),
            plan.meta_bytes / OBJECT_CACHE_SHARE,
        );
        let meta_config = MetaConfig {
            read_only: config.read_only,
            follow_every: config.follow_every,
            memory_bytes: plan.meta_bytes,
        };
        let meta = Meta::open(Arc::new(sealed.clone()), meta_config)
            .await
            .map_err(|error| errors::meta(&error, "the volume's metadata cannot be opened"))?;
        refuse_older("metadata", meta.generation(), seen.generation, &config)?;

        let governor = Governor::new(plan.shares);
        let data = Data::start(
            plan.data,
            governor.clone(),
            store.clone(),
            keys,
            meta.clone(),
        );
        if config.read_only {
            data.start_telling();
        } else {
            data.start_reclaim();
        }
        let metrics = Arc::clone(store.metrics());
        let fs_config = FsConfig {
            read_only: config.read_only,
            durability: match config.durability {
                Durability::Fsync => fs::Durability::Fsync,
                Durability::Close => fs::Durability::Close,
            },
            control: Some(socket.to_string_lossy().into_owned()),
        };
        let fs = Fs::new(meta.clone(), data.clone(), Arc::clone(&metrics), fs_config);
        let shared = Arc::new(Shared {
            config: config.clone(),
            volume: opened.loaded.header.volume(),
            plan,
            runtime_bytes,
            sealed,
            since_unix_seconds: unix_seconds_now(),
            meta: meta.clone(),
            data: data.clone(),
            fs: fs.clone(),
            governor,
            metrics: Arc::clone(&metrics),
            lease: lease.clone(),
            mounted: OnceLock::new(),
            draining: AtomicBool::new(false),
            trouble: Mutex::new(None),
        });
        let (finished, finishing) = watch::channel(None);
        let control = control::serve(
            &socket,
            Arc::clone(&shared) as Arc<dyn control::Source>,
            finishing,
        )
        .map_err(|error| {
            CliError::new(
                Exit::Unexpected,
                format!("cannot listen on {}: {error}", socket.display()),
                "choose another --state-dir",
            )
        })?;
        let mounted = fuse::mount(
            fs.clone(),
            metrics,
            mount_options(&config, &plan),
            &config.mount_point,
        )
        .await
        .map_err(|error| errors::mount(&error))?;
        let mounted = Arc::new(mounted);
        shared.mounted.get_or_init(|| Arc::clone(&mounted));
        let session = VolumeSession {
            config,
            header_revision,
            state,
            lease,
            meta,
            data,
            fs,
            mounted,
            shared,
            control,
            finished,
        };
        session.remember();
        Ok(session)
    }

    /// Notes the newest state of the volume, so that an older one is noticed.
    pub(super) fn remember(&self) {
        let seen = Seen {
            generation: self.meta.generation(),
            header_revision: self.header_revision,
        };
        let before = self.state.seen();
        let newest = if self.config.allow_rollback {
            seen
        } else {
            before.newest(seen)
        };
        if newest != before
            && let Err(error) = self.state.remember(newest)
        {
            tracing::warn!("what was seen of the volume cannot be remembered: {error}");
        }
    }
}

fn refuse_older(what: &str, found: u64, seen: u64, config: &SessionConfig) -> Result<(), CliError> {
    if found >= seen {
        return Ok(());
    }
    if config.allow_rollback {
        tracing::warn!(
            "the volume's {what} is at {found}, this machine has seen {seen}; accepted because of --allow-rollback"
        );
        return Ok(());
    }
    Err(CliError::new(
        Exit::RolledBack,
        format!(
            "the volume went back in time: its {what} is at {found}, this machine has seen {seen}"
        ),
        "find out who put an old state back; use --allow-rollback if it was you",
    ))
}

fn mount_options(config: &SessionConfig, plan: &MemoryPlan) -> fuse::MountOptions {
    let has = |flag| config.kernel_flags.contains(&flag);
    fuse::MountOptions {
        source: config.url.to_string(),
        allow_other: config.allow_other,
        suid: has(KernelFlag::Suid),
        dev: has(KernelFlag::Dev),
        exec: !has(KernelFlag::NoExec),
        timeout: config.timeout,
        max_write_bytes: plan.max_write_bytes,
        ..fuse::MountOptions::default()
    }
}

fn unix_seconds_now() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .ok()
        .and_then(|age| i64::try_from(age.as_secs()).ok())
        .unwrap_or_default()
}
