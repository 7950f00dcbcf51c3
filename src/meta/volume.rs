//! Opening and closing the metadata of one volume.

use std::{
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use parking_lot::Mutex;
use slatedb::{Db, DbStatus, config::CloseOptions, object_store::ObjectStore};
use tokio::{sync::watch, task::AbortHandle};

use super::{
    FileKind, Ino, Inode, MetaError, SessionId, Timestamp, Totals,
    backing::{Backing, Rows, Scan},
    cache::Caches,
    crowding::Crowded,
    durability::{self, SharedDurability},
    follower::{FollowerStore, Pace},
    ids::{self, FIRST_ID, Ids},
    in_order::InOrder,
    locks::{Held, Locks},
    look::{self, Existing, Recovered},
    memory::{BlockCache, Memtables},
    replacements::{self, Replacements},
    schema::{self, Counters, SCHEMA_VERSION, SCHEMA_VERSION_MIN, SessionRow, Table},
    sessions::Sessions,
    settings::{self, DB_PATH, Sizes},
    upkeep::{self, Upkeep},
};
use crate::seal::object_store::SealedObjectStore;

/// How the metadata store is set up.
#[derive(Clone, Copy, Debug)]
pub struct MetaConfig {
    /// Follow another mount's volume: no session, no writes.
    pub read_only: bool,
    /// How often a follower looks for what the writer made durable.
    pub follow_every: Duration,
    /// What SlateDB and the caches above it may take, bytes (40 MiB at `--memory 128MiB`).
    pub memory_bytes: u64,
}

/// Longer than any check takes.
const NEVER: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

impl MetaConfig {
    /// A follower that sees the state that is durable when it is opened, and none after that.
    pub fn frozen(memory_bytes: u64) -> MetaConfig {
        MetaConfig {
            read_only: true,
            follow_every: NEVER,
            memory_bytes,
        }
    }
}

/// What the database is given to close in. By then the log is in the store: only the speed of the
/// next open is at stake.
const CLOSE_TIME_MAX: Duration = Duration::from_secs(60);
/// What formatting needs; it writes two dozen rows.
const FORMAT_MEMORY_BYTES: u64 = 20 * 1024 * 1024;

/// The metadata of a mounted volume. Cheap to clone.
#[derive(Clone)]
pub struct Meta {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub backing: Backing,
    pub caches: Caches,
    pub in_order: InOrder,
    pub locks: Locks,
    pub durability: SharedDurability,
    pub ids: Ids,
    pub sessions: Sessions,
    pub replacements: Replacements,
    /// Regions of files that lie in too many extents.
    pub crowded: Mutex<Crowded>,
    /// What batches count on; locked while one that changes them is written.
    pub totals: tokio::sync::Mutex<Totals>,
    /// The same for those who only look.
    pub totals_shown: Mutex<Totals>,
    pub session: SessionId,
    pub session_number: u32,
    fenced: AtomicBool,
    status: watch::Receiver<DbStatus>,
    /// Followers only.
    pub pace: Option<Arc<Pace>>,
    /// Followers only: what to open to see a newer state.
    source: Option<Arc<dyn ObjectStore>>,
    upkeep: Option<Upkeep>,
    pub sizes: Sizes,
    pub blocks: Arc<BlockCache>,
    pub memtables: Arc<Memtables>,
    tasks: Mutex<Vec<AbortHandle>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        for task in self.tasks.lock().drain(..) {
            task.abort();
        }
        if let Some(pace) = &self.pace {
            pace.abandon();
        }
    }
}

impl Inner {
    /// Fails when another mount has taken over.
    pub fn check(&self) -> Result<(), MetaError> {
        if self.fenced.load(Ordering::Relaxed) {
            Err(MetaError::Fenced)
        } else {
            Ok(())
        }
    }

    /// Remembers that this mount was fenced off.
    pub fn noted(&self, error: MetaError) -> MetaError {
        if matches!(error, MetaError::Fenced) && !self.fenced.swap(true, Ordering::Relaxed) {
            tracing::error!(
                "another mount has taken this volume over; this one can no longer read or write"
            );
        }
        error
    }

    pub async fn get(&self, key: &[u8]) -> Result<Option<Bytes>, MetaError> {
        self.check()?;
        self.backing
            .get(key)
            .await
            .map_err(|error| self.noted(error))
    }

    pub async fn scan(
        &self,
        range: Range<Vec<u8>>,
        scan: Scan,
    ) -> Result<NotedRows<'_>, MetaError> {
        self.check()?;
        let rows = self
            .backing
            .scan(range, scan)
            .await
            .map_err(|error| self.noted(error))?;
        Ok(NotedRows { rows, inner: self })
    }

    /// What the database is in.
    pub fn store(&self) -> Option<Arc<dyn ObjectStore>> {
        let own = self.upkeep.as_ref().map(|upkeep| upkeep.store.clone());
        own.or_else(|| self.source.clone())
    }

    pub fn upkeep(&self) -> Option<&Upkeep> {
        self.upkeep.as_ref()
    }

    /// What the database tells of itself.
    pub fn status(&self) -> watch::Receiver<DbStatus> {
        self.status.clone()
    }

    pub fn durable_sequence(&self) -> u64 {
        if let Some(published) = self.pace.as_ref().and_then(|pace| pace.published()) {
            return published;
        }
        self.durability
            .durable()
            .max(self.status.borrow().durable_seq)
    }
}

/// The rows of a scan.
pub(super) struct NotedRows<'a> {
    rows: Rows,
    inner: &'a Inner,
}

impl NotedRows<'_> {
    pub async fn next(&mut self) -> Result<Option<(Bytes, Bytes)>, MetaError> {
        self.rows
            .next()
            .await
            .map_err(|error| self.inner.noted(error))
    }
}

impl Meta {
    /// Makes the metadata of a new volume: the root directory (mode 0755, owned by `uid`, `gid`).
    /// Leaves it closed and durable.
    pub async fn format(
        store: Arc<SealedObjectStore>,
        uid: u32,
        gid: u32,
    ) -> Result<(), MetaError> {
        Meta::format_on(store, uid, gid).await
    }

    /// Opens, after a look. See [`Meta::open_after`].
    pub async fn open(
        store: Arc<SealedObjectStore>,
        config: MetaConfig,
    ) -> Result<Meta, MetaError> {
        Meta::open_on(store, config).await
    }

    /// Opens for writing what `seen` told of: fences every earlier writer and begins a new session,
    /// whose record is durable before this returns.
    ///
    /// # Errors
    /// [`MetaError::Older`] if the store now shows less than was seen; then no session was begun.
    pub async fn open_after(
        store: Arc<SealedObjectStore>,
        config: MetaConfig,
        seen: Recovered,
    ) -> Result<Meta, MetaError> {
        Meta::open_after_on(store, config, seen).await
    }

    /// As [`Meta::open_after`], on any object store. What is written is not sealed: for tests.
    pub async fn open_after_on(
        store: Arc<dyn ObjectStore>,
        config: MetaConfig,
        seen: Recovered,
    ) -> Result<Meta, MetaError> {
        Meta::open_writer(store, Sizes::for_memory(config.memory_bytes), seen).await
    }

    /// As [`Meta::format`], on any object store. What is written is not sealed: for tests.
    pub async fn format_on(
        store: Arc<dyn ObjectStore>,
        uid: u32,
        gid: u32,
    ) -> Result<(), MetaError> {
        let sizes = Sizes::for_memory(FORMAT_MEMORY_BYTES);
        let db = open_db(store, &sizes, sizes.cache(), Arc::default()).await?;
        let result = async {
            if db.get(Table::Schema.single()).await?.is_some() {
                return Err(MetaError::Store("the volume has metadata already".into()));
            }
            db.write(first_batch(uid, gid)).await?;
            Ok(())
        }
        .await;
        db.close().await?;
        result
    }

    /// As [`Meta::open`], on any object store. What is written is not sealed: for tests.
    pub async fn open_on(
        store: Arc<dyn ObjectStore>,
        config: MetaConfig,
    ) -> Result<Meta, MetaError> {
        let sizes = Sizes::for_memory(config.memory_bytes);
        if config.read_only {
            Meta::follow(store, sizes, config.follow_every).await
        } else {
            let seen = Meta::look_on(store.clone(), config).await?;
            Meta::open_writer(store, sizes, seen).await
        }
    }

    async fn open_writer(
        store: Arc<dyn ObjectStore>,
        sizes: Sizes,
        seen: Recovered,
    ) -> Result<Meta, MetaError> {
        let (blocks, memtables) = (sizes.cache(), Arc::new(Memtables::default()));
        let existing = Arc::new(Existing(store.clone()));
        let db = open_db(existing, &sizes, blocks.clone(), memtables.clone()).await?;
        let status = db.subscribe();
        let recovered = status.borrow().durable_seq;
        if recovered < seen.generation {
            db.close_with_options(CloseOptions { flush_type: None })
                .await?;
            return Err(MetaError::Older {
                recovered,
                seen: seen.generation,
            });
        }
        let opened = Opened::read(Backing::Writer(db)).await?;
        let mut session = SessionId([0; 16]);
        getrandom::fill(&mut session.0)
            .map_err(|error| MetaError::Store(format!("no randomness: {error}")))?;
        let row = SessionRow {
            session,
            ended: false,
            objects: 0,
        };
        let (change, reserved) = ids::opening_change(opened.counters, &row);
        let session_number = opened.counters.next_session;
        opened.sessions.insert(session_number, row);
        let durability = SharedDurability::default();
        durability.opened_at(status.borrow().durable_seq);
        let inner = Inner {
            backing: opened.backing,
            caches: Caches::new(sizes.records),
            in_order: InOrder::default(),
            locks: Locks::new(),
            durability,
            ids: Ids::new(
                opened.counters.ids_end..reserved.ids_end,
                reserved.next_session,
            ),
            sessions: opened.sessions,
            replacements: Replacements::default(),
            crowded: Mutex::default(),
            totals: tokio::sync::Mutex::new(opened.totals),
            totals_shown: Mutex::new(opened.totals),
            session,
            session_number,
            fenced: AtomicBool::new(false),
            status,
            pace: None,
            source: None,
            upkeep: Some(Upkeep::new(store, sizes)),
            sizes,
            blocks,
            memtables,
            tasks: Mutex::default(),
        };
        let meta = Meta {
            inner: Arc::new(inner),
        };
        meta.commit(change, Held::default()).await?;
        meta.undo_replacements().await?;
        meta.inner.flush().await?;
        let weak = Arc::downgrade(&meta.inner);
        let tasks = [
            tokio::spawn(durability::flush_when_due(weak.clone())).abort_handle(),
            tokio::spawn(upkeep::run(weak.clone())).abort_handle(),
            tokio::spawn(replacements::reap_released(weak.clone())).abort_handle(),
            tokio::spawn(watch_for_fencing(weak, meta.inner.status.clone())).abort_handle(),
        ];
        meta.inner.tasks.lock().extend(tasks);
        Ok(meta)
    }

    async fn follow(
        store: Arc<dyn ObjectStore>,
        sizes: Sizes,
        every: Duration,
    ) -> Result<Meta, MetaError> {
        let blocks = sizes.cache();
        let pace = Pace::new(every);
        let source = Some(store.clone());
        let store = Arc::new(FollowerStore::new(store, pace.clone()));
        let reader = look::open_reader(store, &sizes, blocks.clone()).await?;
        let status = reader.subscribe();
        pace.begin(status.clone()).await;
        let opened = Opened::read(Backing::Follower(Box::new(reader))).await?;
        let inner = Inner {
            backing: opened.backing,
            // The writer's changes arrive under it, so nothing is kept above SlateDB's own cache.
            caches: Caches::none(),
            in_order: InOrder::default(),
            locks: Locks::new(),
            durability: SharedDurability::default(),
            ids: Ids::new(0..0, 0),
            sessions: opened.sessions,
            replacements: Replacements::default(),
            crowded: Mutex::default(),
            totals: tokio::sync::Mutex::new(opened.totals),
            totals_shown: Mutex::new(opened.totals),
            session: SessionId([0; 16]),
            session_number: 0,
            fenced: AtomicBool::new(false),
            status,
            pace: Some(pace.clone()),
            source,
            upkeep: None,
            sizes,
            blocks,
            memtables: Arc::default(),
            tasks: Mutex::default(),
        };
        let meta = Meta {
            inner: Arc::new(inner),
        };
        let task = tokio::spawn(follow_totals(Arc::downgrade(&meta.inner), pace.subscribe()))
            .abort_handle();
        meta.inner.tasks.lock().push(task);
        Ok(meta)
    }

    /// Opens what a follower follows once more, in the state that is durable now. `None` for the
    /// writer, which sees that state anyway.
    pub async fn look_again(&self) -> Result<Option<Meta>, MetaError> {
        match &self.inner.source {
            Some(source) => Meta::follow(source.clone(), self.inner.sizes, NEVER)
                .await
                .map(Some),
            None => Ok(None),
        }
    }

    /// The session of this mount (writable mounts only; all zero otherwise).
    pub fn session(&self) -> SessionId {
        self.inner.session
    }

    /// Returns when another mount has taken the volume over, as soon as that is known here; never
    /// for a follower.
    pub async fn fenced(&self) {
        let mut status = self.inner.status.clone();
        if status.wait_for(is_fenced).await.is_err() {
            std::future::pending().await
        }
    }

    /// For statfs.
    pub fn totals(&self) -> Totals {
        *self.inner.totals_shown.lock()
    }

    /// Flushes everything, including the memtable if there is room for its table, so that the next
    /// open is quick, and closes.
    pub async fn close(&self) -> Result<(), MetaError> {
        let (flushed, closed) = match &self.inner.backing {
            Backing::Writer(db) => {
                self.reap_released().await;
                let flushed = self.inner.check().and(self.inner.flush().await);
                let flush_type = match &self.inner.upkeep {
                    Some(upkeep) if flushed.is_ok() => upkeep.finish(db).await,
                    Some(upkeep) => {
                        upkeep.stop().await;
                        None
                    }
                    None => None,
                };
                self.abort_tasks();
                let closed = db.close_with_options(CloseOptions { flush_type });
                let closed = match tokio::time::timeout(CLOSE_TIME_MAX, closed).await {
                    Ok(closed) => closed,
                    Err(_) => {
                        tracing::warn!(
                            "the metadata's last table did not get out; the next mount reads the log"
                        );
                        Ok(())
                    }
                };
                (flushed, closed)
            }
            Backing::Follower(reader) => {
                self.abort_tasks();
                if let Some(pace) = &self.inner.pace {
                    pace.close();
                }
                (Ok(()), reader.close().await)
            }
        };
        flushed.and(closed.map_err(|error| self.inner.noted(error.into())))
    }

    fn abort_tasks(&self) {
        for task in self.inner.tasks.lock().drain(..) {
            task.abort();
        }
    }
}

async fn open_db(
    store: Arc<dyn ObjectStore>,
    sizes: &Sizes,
    blocks: Arc<BlockCache>,
    memtables: Arc<Memtables>,
) -> Result<Db, MetaError> {
    let builder = Db::builder(DB_PATH, store)
        .with_settings(sizes.writer())
        .with_sst_block_size(settings::BLOCK_SIZE)
        .with_db_cache(blocks, 0)
        .with_metrics_recorder(memtables);
    Ok(builder.build().await?)
}

/// What is read at open.
pub(super) struct Opened {
    pub backing: Backing,
    counters: Counters,
    totals: Totals,
    sessions: Sessions,
}

impl Opened {
    pub async fn read(backing: Backing) -> Result<Opened, MetaError> {
        let missing = || MetaError::Missing;
        match backing.get(&Table::Schema.single()).await?.as_deref() {
            Some([SCHEMA_VERSION_MIN..=SCHEMA_VERSION]) => {}
            Some(_) => {
                return Err(MetaError::Store(
                    "the metadata was written by a newer version".into(),
                ));
            }
            None => return Err(missing()),
        }
        let counters = backing
            .get(&Table::Counters.single())
            .await?
            .ok_or_else(missing)?;
        let totals = backing
            .get(&Table::Totals.single())
            .await?
            .ok_or_else(missing)?;
        let sessions = Sessions::read(&backing).await?;
        let (counters, totals) = (
            schema::decode_counters(&counters)?,
            schema::decode_totals(&totals)?,
        );
        Ok(Opened {
            backing,
            counters,
            totals,
            sessions,
        })
    }
}

fn first_batch(uid: u32, gid: u32) -> slatedb::WriteBatch {
    let now = Timestamp::now();
    let root = Inode {
        ino: Ino::ROOT,
        kind: FileKind::Directory,
        mode: 0o755,
        uid,
        gid,
        nlink: 2,
        rdev: 0,
        size: 0,
        allocated: 0,
        atime: now,
        mtime: now,
        ctime: now,
        btime: now,
        parent: Ino::ROOT,
        entries: 0,
        target: Bytes::new(),
        has_xattrs: false,
    };
    let mut batch = slatedb::WriteBatch::new();
    batch.put(Table::Schema.single(), schema::encode_schema());
    batch.put(
        Table::Counters.single(),
        schema::encode_counters(&Counters {
            ids_end: FIRST_ID,
            next_session: 1,
        }),
    );
    batch.put(
        Table::Totals.single(),
        schema::encode_totals(&Totals {
            inodes: 1,
            bytes: 0,
        }),
    );
    batch.put(schema::inode_key(root.ino), schema::encode_inode(&root));
    batch
}

fn is_fenced(status: &DbStatus) -> bool {
    status.close_reason == Some(slatedb::CloseReason::Fenced)
}

/// Notices that another mount took over even if nothing is being done here.
async fn watch_for_fencing(inner: std::sync::Weak<Inner>, mut status: watch::Receiver<DbStatus>) {
    if status.wait_for(is_fenced).await.is_ok()
        && let Some(inner) = inner.upgrade()
    {
        inner.noted(MetaError::Fenced);
    }
}

/// Keeps a follower's totals with what it has seen.
async fn follow_totals(inner: std::sync::Weak<Inner>, mut published: watch::Receiver<Option<u64>>) {
    while published.changed().await.is_ok() {
        let Some(inner) = inner.upgrade() else { return };
        if let Ok(Some(value)) = inner.backing.get(&Table::Totals.single()).await
            && let Ok(totals) = schema::decode_totals(&value)
        {
            *inner.totals_shown.lock() = totals;
        }
    }
}
