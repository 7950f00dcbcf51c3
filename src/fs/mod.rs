//! POSIX over [`crate::meta`] and [`crate::data`]: the meaning of files, directories, links and
//! handles.
//!
//! Everything that an application can see of the filesystem is decided here, so that it can be
//! tested without a kernel; [`crate::fuse`] only translates.
//!
//! Promises:
//! - an orphan lives until its last handle is closed *and* the kernel has forgotten
//!   it, then its contents and record go;
//! - a handle that is released lets go of its readahead at once;
//! - attributes are the committed record overlaid by changes that [`crate::data`] has not committed
//!   yet;
//! - `fsync`, `fsyncdir` and, with [`Durability::Close`], `flush` return only when the
//!   changes that they promise are in the store;
//! - a failure carries one errno, chosen in one table (`error.rs`).
//!
//! Never: checks permissions (the kernel does, because the mount has `default_permissions`), keeps
//! access times, logs a name, a target or a byte of content.
//!
//! | file | what |
//! |---|---|
//! | `error.rs` | [`FsError`], [`Operation`], the errno table |
//! | `attr.rs` | attributes: the overlay, `setattr` |
//! | `acl.rs` | POSIX ACLs: the xattr form, mode and ACL, inheritance |
//! | `create.rs` | the properties that a new inode inherits |
//! | `namespace.rs` | lookup, mknod, mkdir, symlink, link, unlink, rmdir, rename |
//! | `dir.rs` | listings |
//! | `file.rs` | open, read, write, flush, fsync, release |
//! | `fill.rs`, `stretch.rs`, `dense_reads.rs`, `page_turns.rs` | pages that the kernel is given unasked |
//! | `space.rs` | fallocate, lseek, statfs |
//! | `xattr.rs` | extended attributes |
//! | `names.rs` | the names of files, for messages |
//! | `page_cache.rs` | which files the kernel may have pages of |
//! | `table.rs` | open handles and orphans |
//! | `busiest.rs` | bytes moved through handles |
//! | `reaper.rs` | deletes orphans in the background |

mod acl;
mod attr;
mod busiest;
mod caller;
mod create;
mod dense_reads;
mod dir;
mod error;
mod file;
mod fill;
#[cfg(any(fuzzing, test))]
pub(crate) mod fuzz;
mod names;
mod namespace;
mod page_cache;
mod page_turns;
mod reaper;
mod space;
mod stretch;
mod table;
mod xattr;

use std::{
    sync::{Arc, OnceLock, Weak},
    time::Duration,
};

pub use acl::{Acl, AclError};
pub use attr::{Attributes, SetAttributes, SetTime};
pub use busiest::FileBytes;
pub use caller::{Caller, now};
pub use dir::Listed;
pub use error::{FsError, Operation};
pub use file::Opened;
pub use fill::{Fill, PageCacheFiller};
pub use space::Space;
pub use xattr::CONTROL_XATTR;

use crate::{
    data::Data,
    meta::{Ino, Meta},
    telemetry::Metrics,
};

use names::Names;
use page_cache::PageCache;
use page_turns::PageTurns;
use reaper::Reaper;
use stretch::Stretches;
use table::HandleTable;

/// When `close` returns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// At once, as on a local disk: only `fsync` waits.
    #[default]
    Fsync,
    /// When the file is durable.
    Close,
}

/// How a volume behaves.
#[derive(Clone, Debug, Default)]
pub struct FsConfig {
    /// Refuse every change with EROFS.
    pub read_only: bool,
    /// When `close` returns.
    pub durability: Durability,
    /// The bytes that the volume may hold: more is refused with ENOSPC. Without it nothing is.
    pub capacity: Option<u64>,
    /// The value of the root's xattr [`CONTROL_XATTR`] (the control socket's path); without one
    /// there is no such attribute.
    pub control: Option<String>,
}

/// A volume as a POSIX filesystem. Cheap to clone.
#[derive(Clone)]
pub struct Fs {
    inner: Arc<Inner>,
}

/// A cache of attributes that were read here, to be told when they change without its having asked
/// for it: the kernel's.
pub trait AttributeCache: Send + Sync {
    /// The attributes of this inode must be asked for again. Does not wait.
    fn forget_attributes(&self, ino: Ino);
}

struct Inner {
    meta: Meta,
    data: Data,
    config: FsConfig,
    table: HandleTable,
    page_cache: PageCache,
    names: Names,
    reaper: Reaper,
    attribute_cache: OnceLock<Arc<dyn AttributeCache>>,
    page_turns: Arc<PageTurns>,
    metrics: Arc<Metrics>,
    filler: OnceLock<Arc<dyn PageCacheFiller>>,
    stretches: Arc<Stretches>,
}

/// A volume, unless it is no longer served.
pub struct WeakFs(Weak<Inner>);

impl WeakFs {
    /// The volume, if somebody serves it still.
    pub fn upgrade(&self) -> Option<Fs> {
        self.0.upgrade().map(|inner| Fs { inner })
    }
}

impl Fs {
    /// Begins to serve a volume, and to delete in the background the orphans that an earlier mount
    /// left. Must be called inside a tokio runtime.
    pub fn new(meta: Meta, data: Data, metrics: Arc<Metrics>, config: FsConfig) -> Fs {
        let table = HandleTable::new(Arc::clone(&metrics), data.governor().clone());
        let reaper = Reaper::start(meta.clone(), data.clone(), !config.read_only);
        Fs {
            inner: Arc::new(Inner {
                meta,
                data,
                config,
                table,
                page_cache: PageCache::new(),
                names: Names::new(),
                reaper,
                attribute_cache: OnceLock::new(),
                page_turns: Arc::default(),
                metrics,
                filler: OnceLock::new(),
                stretches: Arc::new(Stretches::new()),
            }),
        }
    }

    /// A reference that does not keep it alive.
    pub fn downgrade(&self) -> WeakFs {
        WeakFs(Arc::downgrade(&self.inner))
    }

    /// The path of a file, for messages, as far as it is known.
    pub fn known_path(&self, ino: Ino) -> String {
        self.inner.names.path(ino)
    }

    /// Finds the path of a file for the log, as far as it is known, for as long as this lives.
    pub fn paths_for_log(&self) -> impl Fn(u64) -> Option<String> + Send + Sync + 'static {
        let inner = Arc::downgrade(&self.inner);
        move |ino| inner.upgrade()?.names.path_for_log(Ino(ino))
    }

    /// The open files that most was moved of, in no order.
    pub fn busiest(&self) -> Vec<FileBytes> {
        self.inner.table.busiest()
    }

    /// The present size of bounded tables beside the budget, and its bound.
    pub fn remembered_bytes(&self) -> (u64, u64) {
        let (files, files_max) = self.inner.page_cache.bytes();
        let (data, data_max) = self.data().remembered_bytes();
        (files + data, files_max + data_max)
    }

    /// From now on `cache` is told about attributes that change by themselves. There can be only
    /// one: the first stays.
    pub fn tell(&self, cache: Arc<dyn AttributeCache>) {
        let _ = self.inner.attribute_cache.set(cache);
    }

    fn forget_attributes(&self, ino: Ino) {
        if let Some(cache) = self.inner.attribute_cache.get() {
            cache.forget_attributes(ino);
        }
    }

    /// Whether every change is refused.
    pub fn read_only(&self) -> bool {
        self.inner.config.read_only
    }

    /// On a mount that follows another one's changes, how long no answer will change yet.
    pub fn unchanged_for(&self) -> Option<Duration> {
        self.meta().unchanged_for()
    }

    /// A request has come. Returns when it can be answered: at once, but for the request that ends
    /// a time in which a mount that follows another one's changes was not used.
    pub async fn catch_up(&self) {
        self.meta().catch_up().await;
    }

    /// Waits for a generation after `seen`. Returns it with the open files that differ in it:
    /// remembered contents and attributes of these are stale. Never returns on a writable mount.
    pub async fn next_changes(&self, seen: u64) -> (u64, Vec<Ino>) {
        let generation = self.meta().generation_after(seen).await;
        (generation, self.data().changed_files().await)
    }

    /// Closes every handle, deletes every orphan and waits for that. Contents are not drained: call
    /// [`Data::drain`] next.
    pub async fn shutdown(&self) {
        for ino in self.inner.table.clear() {
            self.inner.reaper.reap(ino);
        }
        self.inner.reaper.stop().await;
    }

    fn writable(&self) -> Result<(), FsError> {
        if self.inner.config.read_only {
            Err(FsError::read_only())
        } else {
            Ok(())
        }
    }

    fn meta(&self) -> &Meta {
        &self.inner.meta
    }

    fn data(&self) -> &Data {
        &self.inner.data
    }
}
