//! Opening a volume for serving: every layer, bottom up. Stored state is read and compared before
//! the first object is written.
//!
//! 1. The metadata is opened as a reader ([`Meta::look`]) and its state is compared with this
//!    machine's knowledge and with `--expect`. A refusal up to here has written nothing, however
//!    often it is repeated.
//! 2. The lease is taken.
//! 3. The metadata is opened for writing. The state that the writer recovers must not be older than
//!    the one that the reader saw.
//! 4. Only then: the session's row, the repair of the header, reclaim.
//!
//! A failure after step 2 gives the lease back ([`Opening`]).

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::sync::{Semaphore, watch};

use super::{Opened, SessionConfig, notes::Notes, report::Shared};
use crate::{
    budget::Governor,
    data::{Data, MemoryPlan},
    disk::DiskCache,
    fs::{self, Fs, FsConfig},
    fuse::{self, MountError},
    meta::{Ino, Meta, MetaConfig, MetaError, Recovered},
    seal::object_store::{LogFault, SealedObjectStore},
    session::{
        config::{Durability, KernelFlag},
        control::{self, ControlServer, Progress},
        drain_meter::DrainMeter,
        errors,
        exit::Exit,
        failure::Failure,
        last_session::SessionRecord,
        lease::{self, Lease, LeaseRequest},
        memory, mountpoint,
        state::{Known, StateSeen, VolumeState},
    },
    store::Retry,
};

/// The share of the metadata's memory that holds pieces of its objects, for reading around.
pub(super) const OBJECT_CACHE_SHARE: u64 = 8;

/// A volume that is mounted. Dropping it lets go of everything without making anything durable: see
/// [`super::serve`].
pub struct VolumeSession {
    pub(super) config: SessionConfig,
    pub(super) lease: Option<Arc<Lease>>,
    pub(super) meta: Meta,
    pub(super) data: Data,
    pub(super) fs: Fs,
    pub(super) mounted: Arc<fuse::Mounted>,
    pub(super) shared: Arc<Shared>,
    pub(super) notes: Notes,
    pub(super) record: Option<SessionRecord>,
    pub(super) control: ControlServer,
    pub(super) finished: watch::Sender<Option<Progress>>,
}

/// The things that an opening has to give back if it fails, or is interrupted at any point.
#[derive(Debug, Default)]
pub struct Opening {
    lease: OnceLock<Arc<Lease>>,
    /// The kernel may have the mount by now, and programs may write to it.
    attaching: AtomicBool,
}

impl Opening {
    /// Whether programs may have written already: then the opening must not be dropped.
    pub fn is_attaching(&self) -> bool {
        self.attaching.load(Ordering::Acquire)
    }

    /// Gives the lease back, if it was taken.
    pub async fn give_back(&self) {
        if let Some(lease) = self.lease.get()
            && let Err(error) = lease.release().await
        {
            tracing::debug!("the lease was not given back: {error}");
        }
    }
}

/// The layers below the contents.
struct Base {
    sealed: SealedObjectStore,
    meta: Meta,
    lease: Option<Arc<Lease>>,
    disk: Option<DiskCache>,
}

impl VolumeSession {
    /// Mounts an unlocked volume, and returns when the mount answers. `tell` shows a line to the
    /// user while it waits. After a failure, and if this is dropped before it is done, the caller
    /// lets `opening` give back the lease.
    ///
    /// # Errors
    /// The volume is held by another mount, went back in time, does not authenticate; the kernel
    /// refuses.
    pub async fn open(
        config: SessionConfig,
        plan: MemoryPlan,
        opened: Opened,
        state: VolumeState,
        opening: &Opening,
        tell: &(dyn Fn(&str) + Send + Sync),
    ) -> Result<VolumeSession, Failure> {
        let runtime_bytes = memory::allocated_bytes();
        let disk = match plan.disk {
            Some(plan) => config
                .disk_cache
                .open(opened.loaded.header.volume(), plan)?,
            None => None,
        };
        let sealed = SealedObjectStore::new(
            opened
                .store
                .with_retry(Retry::Outlasting(config.refusal_timeout)),
            Arc::clone(&opened.unlocked.keys),
            plan.meta_bytes / OBJECT_CACHE_SHARE,
        );
        let opener = MetaOpener {
            opened: &opened,
            sealed: &sealed,
            config: MetaConfig {
                read_only: config.read_only,
                follow_every: config.follow_every,
                memory_bytes: plan.meta_bytes,
            },
        };
        let socket = state.socket(std::process::id());
        let (meta, lease) = if config.read_only {
            (opener.follow().await?, None)
        } else {
            let request = LeaseRequest {
                store: &opened.store,
                keys: &opened.unlocked.keys,
                socket: &socket,
                takeover: config.takeover,
                log: &sealed,
                tell,
            };
            // The copy of the header is read meanwhile, and mended only afterwards.
            let fault = opened.loaded.fault(&opened.store);
            let (entered, fault) = tokio::join!(opener.enter(request, opening), fault);
            let (meta, lease) = entered?;
            if let Err(error) = opened.mend_header(fault).await {
                close_unused(&meta).await;
                return Err(errors::store(&error, &config.url));
            }
            (meta, Some(lease))
        };
        let base = Base {
            sealed,
            meta: meta.clone(),
            lease,
            disk,
        };
        let session = VolumeSession::above(
            config,
            plan,
            &opened,
            &state,
            base,
            runtime_bytes,
            &opening.attaching,
        );
        let session = session.await;
        if session.is_err() {
            close_unused(&meta).await;
        }
        session
    }

    /// Everything above the metadata.
    async fn above(
        config: SessionConfig,
        plan: MemoryPlan,
        opened: &Opened,
        state: &VolumeState,
        base: Base,
        runtime_bytes: u64,
        attaching: &AtomicBool,
    ) -> Result<VolumeSession, Failure> {
        let Base {
            sealed,
            meta,
            lease,
            disk,
        } = base;
        let header = &opened.loaded.header;
        let socket = state.socket(std::process::id());
        let store = opened
            .store
            .with_retry(Retry::Outlasting(config.refusal_timeout));
        let governor = Governor::new(plan.shares);
        let data = Data::start(
            plan.data,
            governor.clone(),
            store.clone(),
            Arc::clone(&opened.unlocked.keys),
            meta.clone(),
            disk,
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
            capacity: config.capacity,
            control: Some(socket.to_string_lossy().into_owned()),
        };
        let fs = Fs::new(meta.clone(), data.clone(), Arc::clone(&metrics), fs_config);
        if config.log_paths {
            crate::telemetry::log_paths(fs.paths_for_log());
        }
        let shared = Arc::new(Shared {
            config: config.clone(),
            volume: header.volume(),
            plan,
            runtime_bytes,
            sealed,
            since_unix_seconds: crate::clock::unix_seconds(),
            meta: meta.clone(),
            data: data.clone(),
            fs: fs.clone(),
            governor,
            metrics: Arc::clone(&metrics),
            store,
            looking: Arc::new(Semaphore::new(1)),
            lease: lease.clone(),
            mounted: OnceLock::new(),
            draining: AtomicBool::new(false),
            trouble: Mutex::new(None),
            drain: DrainMeter::default(),
        });
        let (finished, finishing) = watch::channel(None);
        let control = control::serve(
            &socket,
            Arc::clone(&shared) as Arc<dyn control::Source>,
            finishing,
        )
        .map_err(|error| {
            Failure::new(
                Exit::Unexpected,
                format!("cannot listen on {}: {error}", socket.display()),
                "choose another --state-dir",
            )
        })?;
        // The kernel asks for the root first. It is read while a signal still ends this at once,
        // however long the store takes.
        fs.getattr(Ino::ROOT)
            .await
            .map_err(|error| errors::mount(&MountError::root(error)))?;
        let found = Known {
            state: shared.state_seen(),
            ..Known::of_header(header)
        };
        let notes = Notes::start(Arc::clone(&shared), opened.trust.clone(), found)?;
        attaching.store(true, Ordering::Release);
        let record = begin(&config).await?;
        let mounted = fuse::mount(
            fs.clone(),
            metrics,
            mount_options(&config, &plan),
            &config.mount_point,
        )
        .await;
        let mounted = match mounted {
            Ok(mounted) => Arc::new(mounted),
            Err(error) => {
                if let Some(record) = record {
                    record.forget();
                }
                return Err(errors::mount(&error));
            }
        };
        shared.mounted.get_or_init(|| Arc::clone(&mounted));
        notes.adopt();
        Ok(VolumeSession {
            config,
            lease,
            meta,
            data,
            fs,
            mounted,
            shared,
            notes,
            record,
            control,
            finished,
        })
    }
}

/// Makes way for the mount, at the last moment: programs must not write into the directory below.
/// Notes that a session begins there.
async fn begin(config: &SessionConfig) -> Result<Option<SessionRecord>, Failure> {
    let (dir, root) = (config.mount_point.clone(), config.state_root.clone());
    let url = config.url.to_string();
    let begun = tokio::task::spawn_blocking(move || {
        let record = SessionRecord::begin(&root, &dir, &url);
        match mountpoint::clear_dead(&dir) {
            Ok(()) => Ok(record),
            Err(error) => {
                if let Some(record) = record {
                    record.forget();
                }
                Err(errors::mount(&error))
            }
        }
    });
    begun
        .await
        .map_err(|error| Failure::unexpected(format!("cannot mount: {error}")))?
}

/// Opening the metadata is given up when nothing that authenticates came for this long: two lost
/// answers in a row, each of which takes `STALL_TIMEOUT` to be noticed, and a slow third.
const OPEN_STALL: Duration = Duration::from_secs(45);

/// The metadata of a volume that is to be opened, and the knowledge that it is compared with.
pub(super) struct MetaOpener<'a> {
    pub(super) opened: &'a Opened,
    pub(super) sealed: &'a SealedObjectStore,
    pub(super) config: MetaConfig,
}

impl MetaOpener<'_> {
    /// Returns this machine's knowledge. To be called before the store is read: another mount on
    /// this machine may write meanwhile, and its notes are then newer than the state that was read.
    /// Each log object that is read is compared with that knowledge too.
    fn known_before(&self) -> Result<Option<Known>, Failure> {
        let known = self.known();
        if self.opened.trust.accepts_rollback() {
            self.sealed.accept_any_log();
        } else if let Some(seen) = known.as_ref().and_then(|known| known.state.log) {
            self.sealed
                .expect_log(seen)
                .map_err(|fault| self.refuse_log(&fault, Some(seen.number)))?;
        }
        Ok(known)
    }

    fn known(&self) -> Option<Known> {
        let volume = self.opened.loaded.header.volume();
        self.opened.trust.known(volume)
    }

    /// Runs `work`, which reads the metadata, unless nothing that authenticates comes for
    /// [`OPEN_STALL`]. The metadata store repeats its requests for ever, whatever the answers are.
    async fn unless_stuck<T>(
        &self,
        work: impl Future<Output = Result<T, MetaError>>,
    ) -> Result<T, Failure> {
        tokio::pin!(work);
        let mut opened_bytes = self.sealed.opened_bytes();
        loop {
            match tokio::time::timeout(OPEN_STALL, &mut work).await {
                Ok(done) => return done.map_err(|error| self.cannot_open(&error)),
                Err(_) if self.sealed.opened_bytes() > opened_bytes => {
                    opened_bytes = self.sealed.opened_bytes();
                }
                Err(_) => {
                    let trouble = self.opened.store.trouble();
                    return Err(Failure::new(
                        Exit::Unreachable,
                        format!(
                            "the volume's metadata cannot be read: for {} s the store gave nothing that authenticates{}",
                            OPEN_STALL.as_secs(),
                            trouble.map(|why| format!(" ({why})")).unwrap_or_default(),
                        ),
                        "try again when the store answers; if it does not help, find out who can change the bucket",
                    ));
                }
            }
        }
    }

    /// Opens for reading, which writes nothing at all.
    pub(super) async fn follow(&self) -> Result<Meta, Failure> {
        let known = self.known_before()?;
        let meta = self
            .unless_stuck(Meta::open(Arc::new(self.sealed.clone()), self.config))
            .await?;
        let checked = self.check(meta.generation(), known.as_ref());
        if checked.is_err() {
            close_unused(&meta).await;
        }
        checked.map(|()| meta)
    }

    /// Looks, takes the lease, opens for writing.
    pub(super) async fn enter(
        &self,
        request: LeaseRequest<'_>,
        opening: &Opening,
    ) -> Result<(Meta, Arc<Lease>), Failure> {
        let (seen, holder) = tokio::join!(self.look(), lease::look(request.store, request.keys));
        let mut seen = seen?;
        let lease = Arc::new(lease::acquire(request, holder?).await?);
        let lease = Arc::clone(opening.lease.get_or_init(|| lease));
        // A mount on this machine that drained meanwhile has noted the state that it left.
        if self
            .known()
            .is_some_and(|known| known.state.generation > seen.generation)
        {
            seen = self.look().await?;
        }
        let sealed = Arc::new(self.sealed.clone());
        let meta = self
            .unless_stuck(Meta::open_after(sealed, self.config, seen))
            .await?;
        Ok((meta, lease))
    }

    /// Reads the stored state, as a reader, and compares it.
    async fn look(&self) -> Result<Recovered, Failure> {
        let known = self.known_before()?;
        let seen = self
            .unless_stuck(Meta::look(Arc::new(self.sealed.clone()), self.config))
            .await?;
        self.check(seen.generation, known.as_ref())?;
        Ok(seen)
    }

    fn check(&self, generation: u64, known: Option<&Known>) -> Result<(), Failure> {
        let found = StateSeen {
            generation,
            log: self.sealed.log_head(),
        };
        let volume = self.opened.loaded.header.volume();
        let log_at = |number| self.sealed.log_at(number);
        let trust = &self.opened.trust;
        trust.check_state(volume, &found, known, &log_at)
    }

    fn refuse_log(&self, fault: &LogFault, seen: Option<u64>) -> Failure {
        let refusal = errors::log(fault, seen);
        match refusal.exit {
            Exit::RolledBack | Exit::Forked => {
                let volume = self.opened.loaded.header.volume();
                self.opened.trust.name_place(volume, refusal)
            }
            _ => refusal,
        }
    }

    fn cannot_open(&self, error: &MetaError) -> Failure {
        match self.sealed.log_fault() {
            Some(fault) => {
                let seen = self.known().and_then(|known| known.state.log);
                self.refuse_log(&fault, seen.map(|seen| seen.number))
            }
            None => errors::meta(error, "the volume's metadata cannot be opened"),
        }
    }
}

/// Closes metadata of which no mount was made. Its session wrote nothing.
pub(super) async fn close_unused(meta: &Meta) {
    let ended = meta.end_session(meta.session()).await;
    if let Err(error) = ended.and(meta.close().await) {
        tracing::debug!("the metadata was not closed: {error}");
    }
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
