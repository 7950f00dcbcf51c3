//! What a follower reads of a file: one *view* at a time.
//!
//! On a read-only mount the writer's changes arrive underneath. A view is a file's record and its
//! extents as they were at one moment. Each read uses one view from its beginning to its end, and
//! so do the attributes of an open file. When [`Meta::generation`](crate::meta::Meta::generation)
//! has moved, the next read looks whether the file is another one now; if it is, that read and all
//! later ones use the new view.
//!
//! A file that has lost its last name keeps its last view for as long as somebody has it open: what
//! the writer does to it from then on is taking it apart. Its objects stay for as long as
//! `readers.rs` can see to it. What is gone all the same is [`DataError::Stale`].
//!
//! Never: used on a writable mount; mixes two views in one read.

use std::{
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tracing::error;

use super::{
    DataError, Inner, OpenFile, ReadReply, Seek,
    content::{EXTENTS_PAID_FOR, ExtentWindow},
    file::FileState,
};
use crate::{
    budget::{Owner, Reservation},
    meta::{Extent, ExtentSource, FileKind, FileSnapshot, Ino, Inode},
    seal::SealError,
};

/// Extents that a view holds at most; 56 bytes each. A file with more is looked up read by read,
/// and is not held once it is replaced.
const VIEW_EXTENTS_MAX: usize = 4096;

/// Extents looked up at once where a view does not hold them.
const LOOK_UP_MAX: usize = 1024;

/// Views that one read tries. Each is of a later generation, and these come `--follow-every` apart.
const VIEWS_TRIED_MAX: usize = 8;

/// Open files that are looked at when a generation comes; the others are looked at when they are
/// read.
const LOOKED_AT_MAX: usize = 4096;

/// A read that finds an object deleted waits so much longer than one look of the follower for a
/// generation that says so.
const BEYOND_A_LOOK: Duration = Duration::from_secs(1);

/// See the module's head.
pub(super) struct View {
    inode: Inode,
    /// All of them, in order; `None` if they are too many, or there is no room for them.
    extents: Option<Arc<Vec<Extent>>>,
    /// The file has no name any more: the view is its last one, unless it is given a name again.
    orphan: AtomicBool,
    _paid: Option<Reservation>,
}

impl View {
    pub(super) fn size(&self) -> u64 {
        self.inode.size
    }

    fn is_orphan(&self) -> bool {
        self.orphan.load(Ordering::Acquire)
    }

    fn shows(&self, found: &FileSnapshot) -> bool {
        let extents = self.extents.as_ref().map(|extents| extents.as_slice());
        self.inode == found.inode && extents == found.extents.as_deref()
    }

    /// SEEK_DATA and SEEK_HOLE. A file whose extents are not held is one run of data.
    pub(super) fn seek(&self, offset: u64, what: Seek) -> Option<u64> {
        let size = self.size();
        if offset >= size {
            return None;
        }
        let Some(extents) = &self.extents else {
            return Some(if what == Seek::Data { offset } else { size });
        };
        let mut at = offset;
        for extent in extents.iter() {
            let end = extent.offset + extent.len;
            if end <= at {
                continue;
            }
            match what {
                Seek::Data => return Some(at.max(extent.offset)).filter(|found| *found < size),
                Seek::Hole if extent.offset > at => return Some(at),
                Seek::Hole => at = end,
            }
        }
        match what {
            Seek::Data => None,
            Seek::Hole => Some(at.min(size)),
        }
    }
}

/// A view, the last generation of which it was known to be true, and the last that was looked at.
#[derive(Clone)]
struct Seen {
    view: Arc<View>,
    generation: u64,
    looked_at: u64,
}

/// The view of one file.
#[derive(Default)]
pub(super) struct ViewSlot {
    seen: Mutex<Option<Seen>>,
    /// The view is another one than when the kernel was last told.
    is_news: AtomicBool,
    looking: tokio::sync::Mutex<()>,
}

impl ViewSlot {
    fn seen(&self) -> Option<Seen> {
        self.seen.lock().clone()
    }
}

impl Inner {
    /// The present view of a file; `None` on a writable mount.
    pub(super) async fn view(&self, file: &FileState) -> Result<Option<Arc<View>>, DataError> {
        if !self.meta.is_follower() {
            return Ok(None);
        }
        match file.view_slot().seen() {
            Some(seen) if seen.looked_at >= self.meta.generation() => Ok(Some(seen.view)),
            _ => self.look_again(file).await.map(Some),
        }
    }

    /// Looks what the file is now.
    async fn look_again(&self, file: &FileState) -> Result<Arc<View>, DataError> {
        let slot = file.view_slot();
        let _turn = slot.looking.lock().await;
        let before = slot.seen();
        let looked_at = self.meta.generation();
        let found = self.meta.file_snapshot(file.ino, VIEW_EXTENTS_MAX).await?;
        // A name may lead to a file that has none: one whose replacement is not committed yet. Who
        // opens that sees it as it is.
        let is_new = before.is_none();
        let named = found.filter(|found| {
            found.inode.kind == FileKind::File && (found.inode.nlink > 0 || is_new)
        });
        let seen = match (named, before) {
            (Some(found), Some(before)) if before.view.shows(&found) => {
                before.view.orphan.store(false, Ordering::Release);
                Seen {
                    generation: found.generation,
                    looked_at,
                    ..before
                }
            }
            (Some(found), before) => {
                slot.is_news.fetch_or(before.is_some(), Ordering::AcqRel);
                Seen {
                    generation: found.generation,
                    looked_at,
                    view: Arc::new(self.view_of(found)),
                }
            }
            (None, Some(before)) => {
                before.view.orphan.store(true, Ordering::Release);
                Seen {
                    looked_at,
                    ..before
                }
            }
            (None, None) => return Err(DataError::NotFound),
        };
        *slot.seen.lock() = Some(seen.clone());
        Ok(seen.view)
    }

    fn view_of(&self, found: FileSnapshot) -> View {
        let mut paid = None;
        let extents = found.extents.and_then(|extents| {
            let cost = cost_of(&extents);
            paid = Some(self.governor.try_acquire(Owner::Table, cost)?);
            Some(Arc::new(extents.into_iter().map(owned).collect()))
        });
        View {
            inode: found.inode,
            extents,
            orphan: AtomicBool::new(false),
            _paid: paid,
        }
    }

    /// The extents of a view from `range.start` on; how far they are known is in the answer.
    pub(super) async fn extents_of_view(
        &self,
        view: &View,
        range: Range<u64>,
    ) -> Result<ExtentWindow, DataError> {
        if let Some(extents) = &view.extents {
            return Ok(ExtentWindow {
                range: 0..u64::MAX,
                extents: extents.clone(),
            });
        }
        let window = self
            .look_up_extents(view.inode.ino, range, LOOK_UP_MAX)
            .await?;
        match self.meta.inode(view.inode.ino).await? {
            Some(now) if now == view.inode => Ok(window),
            _ => Err(DataError::Stale(format!(
                "inode {} changed, and has too many extents to be held as it was",
                view.inode.ino.0
            ))),
        }
    }

    /// A read of one view; of a later one, if what the first names is there no more.
    pub(super) async fn read_followed(
        self: &Arc<Self>,
        open: &OpenFile,
        mut view: Arc<View>,
        offset: u64,
        len: u32,
    ) -> Result<ReadReply, DataError> {
        for _ in 0..VIEWS_TRIED_MAX {
            let read = self.read_at(open, Some(&view), view.size(), offset, len);
            let gone = match read.await {
                Err(DataError::Stale(gone)) => gone,
                outcome => return outcome,
            };
            match self.other_view(&open.file, &view).await? {
                Some(other) => view = other,
                None if view.is_orphan() => return Err(DataError::Stale(gone)),
                None => return Err(self.missing(gone)),
            }
        }
        Err(DataError::Stale(format!(
            "inode {} changed at each of {VIEWS_TRIED_MAX} attempts to read it",
            open.file.ino.0
        )))
    }

    /// What the newest metadata names is not there.
    fn missing(&self, path: String) -> DataError {
        let missing = SealError::Missing { path };
        self.store.metrics().authentication_failures.increment();
        error!("read: {missing}");
        missing.into()
    }

    /// Another view than `view`, if there is one, or comes soon.
    async fn other_view(
        &self,
        file: &FileState,
        view: &Arc<View>,
    ) -> Result<Option<Arc<View>>, DataError> {
        let wait = self.meta.follows_every().unwrap_or_default() + BEYOND_A_LOOK;
        let until = tokio::time::Instant::now() + wait;
        loop {
            let generation = self.meta.generation();
            let now = self.look_again(file).await?;
            if !Arc::ptr_eq(&now, view) {
                return Ok(Some(now));
            }
            let later = self.meta.generation_after(generation);
            if now.is_orphan() || tokio::time::timeout_at(until, later).await.is_err() {
                return Ok(None);
            }
        }
    }

    /// Gives an open file its first view.
    pub(super) async fn hold(&self, file: &FileState) -> Result<(), DataError> {
        self.view(file).await.map(drop)
    }

    /// The record of a file that is open here, as it is read.
    pub(super) async fn held_record(&self, ino: Ino) -> Result<Option<Inode>, DataError> {
        if !self.meta.is_follower() {
            return Ok(None);
        }
        let Some(file) = self.known_file(ino) else {
            return Ok(None);
        };
        if file.view_slot().seen().is_none() {
            return Ok(None);
        }
        Ok(self.view(&file).await?.map(|view| {
            let mut inode = view.inode.clone();
            if view.is_orphan() {
                inode.nlink = 0;
            }
            inode
        }))
    }

    /// Looks at the files that are open, and tells which have changed.
    pub(super) async fn look_at_open_files(&self) -> Vec<Ino> {
        let mut changed = Vec::new();
        for file in self.files.all(LOOKED_AT_MAX) {
            let slot = file.view_slot();
            if slot.seen().is_none() {
                continue;
            }
            // One that cannot be looked at now is looked at when it is read.
            let looked_at = self.view(&file).await;
            if looked_at.is_ok() && slot.is_news.swap(false, Ordering::AcqRel) {
                changed.push(file.ino);
            }
        }
        changed
    }

    /// The oldest generation that something open here is read at.
    pub(super) fn oldest_generation_read(&self) -> u64 {
        let published = self.meta.generation();
        let files = self.files.all(usize::MAX);
        let held = files.iter().filter_map(|file| file.view_slot().seen());
        held.map(|seen| seen.generation).fold(published, u64::min)
    }
}

/// What a view takes beyond what an open file has paid for.
fn cost_of(extents: &[Extent]) -> u64 {
    let inline: usize = extents
        .iter()
        .map(|extent| match &extent.source {
            ExtentSource::Inline(bytes) => bytes.len(),
            ExtentSource::Object { .. } => 0,
        })
        .sum();
    let beyond = extents.len().saturating_sub(EXTENTS_PAID_FOR);
    let fixed = size_of::<View>() + size_of::<ViewSlot>();
    (fixed + beyond * size_of::<Extent>() + inline) as u64
}

/// The extent, with bytes of its own instead of a part of a block of the metadata.
fn owned(mut extent: Extent) -> Extent {
    if let ExtentSource::Inline(bytes) = &mut extent.source {
        *bytes = bytes::Bytes::copy_from_slice(bytes);
    }
    extent
}
