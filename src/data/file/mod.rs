//! One file that is open or has uncommitted contents.
//!
//! The record in `meta` says what is durable; this says what is true now. Sequence numbers tie the
//! two: each change takes the next `change`, and `committed` is the last one that the record
//! covers.
//!
//! `content.rs` is the state. The other files change it, each in one way: dirty bytes leave memory
//! (`leave.rs`, `slices.rs`, `crumbs.rs`), objects are stored, refused or lost (`outcome.rs`),
//! write-back in flight is committed (`commits.rs`), the file is truncated (`truncation.rs`). No
//! I/O here: `write_back` drives it.

mod commits;
mod content;
mod crumbs;
mod errors;
mod extents;
mod in_flight;
mod leave;
mod outcome;
mod overlay;
#[cfg(test)]
mod overlay_tests;
mod pattern;
mod scattered;
mod slices;
mod truncation;
mod view;

use std::{
    collections::HashMap,
    sync::{Arc, OnceLock, Weak, atomic::AtomicBool},
};

use parking_lot::Mutex;
use tokio::sync::{Notify, OnceCell};

use self::view::ViewSlot;
use crate::{
    data::{DataError, upload::ObjectWriter},
    meta::{FileKind, Ino, Meta},
};

pub use content::LiveAttributes;

pub(crate) use commits::FileCommit;
pub(crate) use content::Content;
pub(crate) use crumbs::HOLE_MIN;
pub(crate) use extents::{EXTENT_WINDOW_MAX, ExtentWindow};
pub(crate) use overlay::Piece;
pub(crate) use pattern::overwritten_wait;
pub(crate) use scattered::ScatteredFiles;
pub(crate) use view::{Seen, View, view_cost};

/// The largest file offset.
pub(crate) const OFFSET_MAX: u64 = i64::MAX as u64;

/// Places that the table of files keeps when they are empty; 16 bytes each.
const PLACES_KEPT: usize = 1024;

/// Files that somebody holds: an open handle, the table of the dirty, a task under way. The last
/// holder that lets go removes the file from the table.
#[derive(Default)]
pub(crate) struct FileTable {
    files: Mutex<HashMap<Ino, Weak<FileState>>>,
}

impl FileTable {
    /// The state of a file, made if there is none.
    pub(crate) fn get(self: &Arc<Self>, ino: Ino) -> Arc<FileState> {
        let mut files = self.files.lock();
        if let Some(file) = files.get(&ino).and_then(Weak::upgrade) {
            return file;
        }
        let file = Arc::new(FileState::new(ino, self.clone()));
        files.insert(ino, Arc::downgrade(&file));
        file
    }

    pub(crate) fn len(&self) -> usize {
        self.files.lock().len()
    }

    /// At most `max` files, in no order.
    pub(crate) fn all(&self, max: usize) -> Vec<Arc<FileState>> {
        let files = self.files.lock();
        files.values().filter_map(Weak::upgrade).take(max).collect()
    }

    /// The state of a file that somebody holds.
    pub(crate) fn known(&self, ino: Ino) -> Option<Arc<FileState>> {
        self.files.lock().get(&ino).and_then(Weak::upgrade)
    }
}

/// See the module's head.
pub(crate) struct FileState {
    pub(crate) ino: Ino,
    pub(crate) content: Mutex<Content>,
    /// Held while extents of this file change in `meta`, so that a truncation cannot pass a commit
    /// under way.
    pub(crate) commit: Arc<tokio::sync::Mutex<()>>,
    /// The file's open stream, if it has one; most files never have one, so it is kept apart. The
    /// lock is held while write-back of the file begins, so that it begins in order and nothing is
    /// truncated meanwhile. Locked before `commit` where both are.
    pub(crate) stream: tokio::sync::Mutex<Option<Box<ObjectWriter>>>,
    /// Told whenever `committed` moved.
    pub(crate) progress: Notify,
    /// A task sends full parts of its stream.
    pub(crate) pumping: AtomicBool,
    /// A task will send all that is dirty.
    pub(crate) queued: AtomicBool,
    loaded: OnceCell<()>,
    /// Followers only.
    view: OnceLock<Box<ViewSlot>>,
    table: Arc<FileTable>,
}

impl Drop for FileState {
    fn drop(&mut self) {
        let mut files = self.table.files.lock();
        // The entry may belong to a later state of the same file by now.
        if files
            .get(&self.ino)
            .is_some_and(|listed| std::ptr::eq(listed.as_ptr(), self))
        {
            files.remove(&self.ino);
        }
        // Once many were open, their places are given back too.
        if files.capacity() > PLACES_KEPT && files.len() * 4 < files.capacity() {
            let room = files.len() * 2;
            files.shrink_to(room);
        }
    }
}

impl FileState {
    fn new(ino: Ino, table: Arc<FileTable>) -> FileState {
        FileState {
            ino,
            content: Mutex::new(Content::new()),
            commit: Arc::default(),
            stream: tokio::sync::Mutex::new(None),
            progress: Notify::new(),
            pumping: AtomicBool::new(false),
            queued: AtomicBool::new(false),
            loaded: OnceCell::new(),
            view: OnceLock::new(),
            table,
        }
    }

    pub(crate) fn view_slot(&self) -> &ViewSlot {
        self.view.get_or_init(Box::default)
    }

    /// Reads the committed size, once.
    pub(crate) async fn load(&self, meta: &Meta) -> Result<(), DataError> {
        self.loaded
            .get_or_try_init(|| async {
                let inode = meta.inode(self.ino).await?.ok_or(DataError::NotFound)?;
                if inode.kind != FileKind::File {
                    return Err(DataError::NotFound);
                }
                self.content.lock().load(inode.size);
                Ok(())
            })
            .await
            .copied()
    }
}
