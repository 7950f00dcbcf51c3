//! Opening and closing the metadata of one volume.

use std::{
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use bytes::Bytes;
use parking_lot::Mutex;
use slatedb::{Db, DbStatus, config::CloseOptions, object_store::ObjectStore};
use tokio::sync::watch;

use super::{
    FileKind, Ino, Inode, Meta, MetaError, SessionId, Timestamp, Totals,
    database::{
        backing::Backing,
        existing::Existing,
        follower_store::FollowerStore,
        jobs::Upkeep,
        memory::{BlockCache, Memtables},
        pace::Pace,
        settings::{self, DB_PATH, Sizes},
    },
    flush,
    look::{self, Opened, Recovered},
    names::replaced,
    schema::{self, Counters, SessionRow, Table},
    state::{
        cache::Caches,
        change::Change,
        durability::SharedDurability,
        ids::{self, FIRST_ID, Ids},
        in_order::InOrder,
        locks::{Held, Locks},
        replacements::Replacements,
    },
    upkeep,
    volume::{Inner, is_fenced},
};
use crate::seal::object_store::SealedObjectStore;

/// How the metadata store is set up.
#[derive(Clone, Copy, Debug)]
pub struct MetaConfig {
    /// Follow another mount's volume: no session, no writes.
    pub read_only: bool,
    /// How often a follower looks for newer durable state.
    pub follow_every: Duration,
    /// Memory that SlateDB and the caches above it may take, bytes (40 MiB at `--memory 128MiB`).
    pub memory_bytes: u64,
}

/// A span that is longer than any check takes.
const NEVER: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

impl MetaConfig {
    /// A follower that sees the state that is durable when it is opened, and no later one.
    pub fn frozen(memory_bytes: u64) -> MetaConfig {
        MetaConfig {
            read_only: true,
            follow_every: NEVER,
            memory_bytes,
        }
    }
}

/// How long the database may take to close. By then the log is in the store, so only the speed of
/// the next open is at stake.
const CLOSE_TIME_MAX: Duration = Duration::from_secs(60);
/// Memory for formatting, which writes two dozen rows.
const FORMAT_MEMORY_BYTES: u64 = 20 * 1024 * 1024;

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

    /// Opens the volume that was looked at for writing: fences every earlier writer and begins a
    /// new session, whose record is durable before this returns.
    ///
    /// # Errors
    /// [`MetaError::Older`] if the store now shows less than `seen`; then no session was begun.
    pub async fn open_after(
        store: Arc<SealedObjectStore>,
        config: MetaConfig,
        seen: Recovered,
    ) -> Result<Meta, MetaError> {
        Meta::open_after_on(store, config, seen).await
    }

    /// As [`Meta::open_after`], on any object store, without sealing: for tests.
    pub async fn open_after_on(
        store: Arc<dyn ObjectStore>,
        config: MetaConfig,
        seen: Recovered,
    ) -> Result<Meta, MetaError> {
        Meta::open_writer(store, Sizes::for_memory(config.memory_bytes), seen).await
    }

    /// As [`Meta::format`], on any object store, without sealing: for tests.
    pub async fn format_on(
        store: Arc<dyn ObjectStore>,
        uid: u32,
        gid: u32,
    ) -> Result<(), MetaError> {
        let sizes = Sizes::for_memory(FORMAT_MEMORY_BYTES);
        let db = open_db(store, &sizes, BlockCache::for_sizes(&sizes), Arc::default()).await?;
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

    /// As [`Meta::open`], on any object store, without sealing: for tests.
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
        let (blocks, memtables) = (
            BlockCache::for_sizes(&sizes),
            Arc::new(Memtables::default()),
        );
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
        let (change, reserved) = opening_change(opened.counters, &row);
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
            tokio::spawn(flush::flush_when_due(weak.clone())).abort_handle(),
            tokio::spawn(upkeep::run(weak.clone())).abort_handle(),
            tokio::spawn(replaced::reap_released(weak.clone())).abort_handle(),
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
        let blocks = BlockCache::for_sizes(&sizes);
        let pace = Pace::new(every);
        let source = Some(store.clone());
        let store = Arc::new(FollowerStore::new(store, pace.clone()));
        let reader = look::open_reader(store, &sizes, blocks.clone()).await?;
        let status = reader.subscribe();
        pace.begin(status.clone()).await;
        let opened = Opened::read(Backing::Follower(Box::new(reader))).await?;
        let inner = Inner {
            backing: opened.backing,
            // The writer's changes arrive below these caches, so nothing is kept above SlateDB's
            // own.
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

    /// A follower of the state that is durable now.
    pub(super) async fn follow_frozen(
        store: Arc<dyn ObjectStore>,
        config: MetaConfig,
    ) -> Result<Meta, MetaError> {
        Meta::follow(store, Sizes::for_memory(config.memory_bytes), NEVER).await
    }

    /// Opens the volume of a follower once more, in the state that is durable now. `None` for the
    /// writer, which sees that state anyway.
    pub async fn look_again(&self) -> Result<Option<Meta>, MetaError> {
        match &self.inner.source {
            Some(source) => Meta::follow(source.clone(), self.inner.sizes, NEVER)
                .await
                .map(Some),
            None => Ok(None),
        }
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
        flushed.and(closed.map_err(|error| self.inner.record_fencing(error.into())))
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

/// The batch that opens a session: its row, its first reservation, and the version of what it
/// writes.
fn opening_change(counters: Counters, session_row: &SessionRow) -> (Change, Counters) {
    let next = ids::reserve(counters.ids_end, counters.next_session + 1);
    let mut change = Change::default();
    change.put(Table::Counters.single(), schema::encode_counters(&next));
    change.put(Table::Schema.single(), schema::encode_schema());
    change.put_session(counters.next_session, session_row);
    (change, next)
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

/// Notices that another mount took over even if no operation is under way here.
async fn watch_for_fencing(inner: std::sync::Weak<Inner>, mut status: watch::Receiver<DbStatus>) {
    if status.wait_for(is_fenced).await.is_ok()
        && let Some(inner) = inner.upgrade()
    {
        inner.record_fencing(MetaError::Fenced);
    }
}

/// Reads a follower's totals again after each generation that is published.
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
