//! Reads of a follower: each uses one *view* of the file.
//!
//! On a read-only mount the writer's changes arrive while files are read. A view is a file's record
//! and its extents as they were at one moment. Each read uses one view from its beginning to its
//! end, and so do the attributes of an open file. When
//! [`Meta::generation`](crate::meta::Meta::generation) has moved, the next read looks whether the
//! file is another one now; if it is, that read and all later ones use the new view.
//!
//! A file that has lost its last name keeps its last view for as long as somebody has it open,
//! because from then on the writer takes it apart. Its objects stay for as long as
//! `space/readers.rs` can see to it. A read of an object that is gone all the same is
//! [`DataError::Stale`].
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

use super::{ReadReply, Reading, open_file::OpenFile};
use crate::{
    budget::Owner,
    data::{
        DataError,
        file::{ExtentWindow, FileState, Seen, View, view_cost},
    },
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

impl Reading {
    /// The present view of a file; `None` on a writable mount.
    pub(crate) async fn view(&self, file: &FileState) -> Result<Option<Arc<View>>, DataError> {
        if !self.shared.meta.is_follower() {
            return Ok(None);
        }
        match file.view_slot().seen() {
            Some(seen) if seen.looked_at >= self.shared.meta.generation() => Ok(Some(seen.view)),
            _ => self.look_again(file).await.map(Some),
        }
    }

    /// Looks up the present state of the file.
    async fn look_again(&self, file: &FileState) -> Result<Arc<View>, DataError> {
        let slot = file.view_slot();
        let _turn = slot.looking.lock().await;
        let before = slot.seen();
        let looked_at = self.shared.meta.generation();
        let found = self
            .shared
            .meta
            .file_snapshot(file.ino, VIEW_EXTENTS_MAX)
            .await?;
        // A name may lead to a file that has none: one whose replacement is not committed yet. A
        // program that opens such a file sees it as it is.
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
            let cost = view_cost(&extents);
            paid = Some(self.shared.governor.try_acquire(Owner::Table, cost)?);
            Some(Arc::new(extents.into_iter().map(owned).collect()))
        });
        View {
            inode: found.inode,
            extents,
            orphan: AtomicBool::new(false),
            paid,
        }
    }

    /// The extents of a view from `range.start` on; how far they are known is in the answer.
    pub(crate) async fn extents_of_view(
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
        match self.shared.meta.inode(view.inode.ino).await? {
            Some(now) if now == view.inode => Ok(window),
            _ => Err(DataError::Stale(format!(
                "ino:{} changed, and has too many extents to be held as it was",
                view.inode.ino.0
            ))),
        }
    }

    /// Reads one view, or a later one if an object of the first is there no more.
    pub(crate) async fn read_followed(
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
            "ino:{} changed at each of {VIEWS_TRIED_MAX} attempts to read it",
            open.file.ino.0
        )))
    }

    /// An object that the newest metadata names is not there.
    fn missing(&self, path: String) -> DataError {
        let missing = SealError::Missing { path };
        self.frames.note_unreadable(&missing);
        missing.into()
    }

    /// Another view than `view`, if there is one, or comes soon.
    async fn other_view(
        &self,
        file: &FileState,
        view: &Arc<View>,
    ) -> Result<Option<Arc<View>>, DataError> {
        let wait = self.shared.meta.follows_every().unwrap_or_default() + BEYOND_A_LOOK;
        let until = tokio::time::Instant::now() + wait;
        loop {
            let generation = self.shared.meta.generation();
            let now = self.look_again(file).await?;
            if !Arc::ptr_eq(&now, view) {
                return Ok(Some(now));
            }
            let later = self.shared.meta.generation_after(generation);
            if now.is_orphan() || tokio::time::timeout_at(until, later).await.is_err() {
                return Ok(None);
            }
        }
    }

    /// Gives an open file its first view.
    pub(crate) async fn hold(&self, file: &FileState) -> Result<(), DataError> {
        self.view(file).await.map(drop)
    }

    /// The record of a file that is open here, as it is read.
    pub(crate) async fn held_record(&self, ino: Ino) -> Result<Option<Inode>, DataError> {
        if !self.shared.meta.is_follower() {
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
    pub(crate) async fn look_at_open_files(&self) -> Vec<Ino> {
        let mut changed = Vec::new();
        for file in self.files.all(LOOKED_AT_MAX) {
            let slot = file.view_slot();
            if slot.seen().is_none() {
                continue;
            }
            // A file that cannot be looked at now is looked at when it is read.
            let looked_at = self.view(&file).await;
            if looked_at.is_ok() && slot.is_news.swap(false, Ordering::AcqRel) {
                changed.push(file.ino);
            }
        }
        changed
    }

    /// The oldest generation that something open here is read at.
    pub(crate) fn oldest_generation_read(&self) -> u64 {
        let published = self.shared.meta.generation();
        let files = self.files.all(usize::MAX);
        let held = files.iter().filter_map(|file| file.view_slot().seen());
        held.map(|seen| seen.generation).fold(published, u64::min)
    }
}

/// The extent, with bytes of its own instead of a part of a block of the metadata.
fn owned(mut extent: Extent) -> Extent {
    if let ExtentSource::Inline(bytes) = &mut extent.source {
        *bytes = bytes::Bytes::copy_from_slice(bytes);
    }
    extent
}
