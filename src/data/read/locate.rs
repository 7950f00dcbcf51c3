//! Finds where the bytes of a file are: in the overlay, or else in committed extents.

use std::{
    ops::Range,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{Reading, plan::Source};
use crate::{
    budget::{Owner, Reservation},
    data::{
        DataError,
        file::{EXTENT_WINDOW_MAX, ExtentWindow, FileState, Piece, View},
        frames::ObjectHandle,
    },
    meta::{Extent, ExtentSource, Ino},
};

/// Extents that are looked up at once for readahead; they are not kept.
const EXTENTS_AHEAD_MAX: usize = 1024;

/// While an upload of the file is refused, a read of bytes that are on their way waits for them at
/// least this long.
const REFUSED_READ_WAITS: Duration = Duration::from_secs(5);

/// Committed extents are looked up this far ahead of a read.
const EXTENT_LOOKAHEAD: u64 = 64 << 20;

impl Reading {
    /// Resolves a file range (within the size) to its sources, in order. A follower reads the
    /// extents of `view`.
    pub(crate) async fn locate(
        self: &Arc<Self>,
        file: &Arc<FileState>,
        view: Option<&View>,
        range: Range<u64>,
    ) -> Result<Vec<Source>, DataError> {
        let mut sources = Vec::new();
        let (views, visible_size) = {
            let content = file.content.lock();
            let visible_size = view.map_or_else(|| content.visible_size(), View::size);
            (content.overlay.view(range), visible_size)
        };
        for part in views {
            match part.piece {
                Some(Piece::Dirty(bytes) | Piece::Inline { bytes, .. }) => {
                    sources.push(Source::Memory(bytes))
                }
                Some(Piece::Sealed { object, at }) => {
                    let object = self.readable(file, object).await?;
                    let len = part.range.end - part.range.start;
                    sources.push(Source::Object {
                        object,
                        range: at..at + len,
                        follows: 0,
                    });
                }
                None => {
                    let committed =
                        part.range.start.min(visible_size)..part.range.end.min(visible_size);
                    if !committed.is_empty() {
                        self.locate_committed(file, view, committed.clone(), &mut sources)
                            .await?;
                    }
                    let hole = part.range.end - part.range.start.max(committed.end);
                    if hole > 0 {
                        sources.push(Source::Zeros(hole));
                    }
                }
            }
        }
        Ok(sources)
    }

    pub(crate) async fn locate_committed(
        self: &Arc<Self>,
        file: &Arc<FileState>,
        view: Option<&View>,
        range: Range<u64>,
        sources: &mut Vec<Source>,
    ) -> Result<(), DataError> {
        let mut at = range.start;
        while at < range.end {
            let window = match view {
                Some(view) => self.extents_of_view(view, at..range.end).await?,
                None => self.extents(file, at..range.end).await?,
            };
            for extent in window.extents.iter() {
                let (from, to) = (
                    extent.offset.max(at),
                    (extent.offset + extent.len).min(range.end),
                );
                if from >= to {
                    continue;
                }
                if at < from {
                    sources.push(Source::Zeros(from - at));
                }
                sources.push(self.source_of(extent, from..to).await?);
                at = to;
            }
            let known = window.range.end.min(range.end);
            if at < known {
                sources.push(Source::Zeros(known - at));
                at = known;
            }
        }
        Ok(())
    }

    async fn source_of(&self, extent: &Extent, range: Range<u64>) -> Result<Source, DataError> {
        let skip = range.start - extent.offset;
        let len = range.end - range.start;
        Ok(match &extent.source {
            ExtentSource::Inline(bytes) => {
                Source::Inline(bytes.slice(skip as usize..(skip + len) as usize))
            }
            ExtentSource::Object { object, at } => Source::Object {
                object: self.frames.objects.get(*object).await?,
                range: at + skip..at + skip + len,
                follows: extent.len - skip - len,
            },
        })
    }

    /// Committed extents from `range.start` on; how far they are known is in the answer.
    pub(crate) async fn extents(
        &self,
        file: &FileState,
        range: Range<u64>,
    ) -> Result<ExtentWindow, DataError> {
        let version = match known_extents(file, range.start) {
            Ok(window) => return Ok(window),
            Err(version) => version,
        };
        let wide = range.start..range.end.saturating_add(EXTENT_LOOKAHEAD);
        let window = self
            .look_up_extents(file.ino, wide, EXTENT_WINDOW_MAX)
            .await?;
        // Inline bytes are not kept, because no reservation would pay for them. Small files are
        // read at once, and the metadata store has a cache.
        let is_inline = |extent: &Extent| matches!(extent.source, ExtentSource::Inline(_));
        let keep = !window.extents.iter().any(is_inline);
        let Some(paid) = keep.then(|| self.room_to_keep(&window)).flatten() else {
            return Ok(window);
        };
        let mut content = file.content.lock();
        if content.extents_version == version {
            content.extents_paid = paid;
            content.extents = Some(window.clone());
        }
        Ok(window)
    }

    /// The same for a range that is far ahead; the extents that the file remembers stay where the
    /// reads are.
    pub(crate) async fn extents_ahead(
        &self,
        file: &FileState,
        view: Option<&View>,
        range: Range<u64>,
    ) -> Result<ExtentWindow, DataError> {
        if let Some(view) = view {
            return self.extents_of_view(view, range).await;
        }
        match known_extents(file, range.start) {
            Ok(window) => Ok(window),
            Err(_) => {
                self.look_up_extents(file.ino, range, EXTENTS_AHEAD_MAX)
                    .await
            }
        }
    }

    pub(crate) async fn look_up_extents(
        &self,
        ino: Ino,
        range: Range<u64>,
        limit: usize,
    ) -> Result<ExtentWindow, DataError> {
        let extents = self.shared.meta.extents(ino, range.clone(), limit).await?;
        let known_until = match extents.last() {
            Some(last) if extents.len() >= limit => last.offset + last.len,
            _ => range.end,
        };
        Ok(ExtentWindow {
            range: range.start..known_until,
            extents: Arc::new(extents),
        })
    }

    /// The reservation for extents that are kept between reads; `None` if there is no room to keep
    /// them. Extents leave half of their share to handles, which wait for room where this does not.
    fn room_to_keep(&self, window: &ExtentWindow) -> Option<Option<Reservation>> {
        let cost = window.cost();
        if cost == 0 {
            return Some(None);
        }
        let used = self.shared.governor.used_bytes(Owner::Table);
        if used + cost > self.shared.governor.owner_max_bytes(Owner::Table) / 2 {
            return None;
        }
        if used + cost > self.shared.governor.shares().table_min_bytes {
            return self
                .shared
                .governor
                .try_acquire(Owner::Table, cost)
                .map(Some);
        }
        // The memory that handles are guaranteed is free, or used by cached frames. If a few bytes
        // were acquired for them here, all frames that live on what others are guaranteed would be
        // evicted.
        let room = self.frames.spare_room(cost)?;
        Some(Some(room.reassign(Owner::Table)))
    }

    /// A handle on an object of `file` that may still be on its way; ends its upload early if need
    /// be. A refusal that lasts longer than the store's patience is reported, as to a sync.
    async fn readable(
        self: &Arc<Self>,
        file: &FileState,
        object: crate::meta::ObjectId,
    ) -> Result<Arc<ObjectHandle>, DataError> {
        let began = Instant::now();
        loop {
            let Some(pending) = self.frames.objects.pending(object) else {
                return self.frames.objects.get(object).await;
            };
            if let Some(error) = pending.lost() {
                return Err(error.into());
            }
            if let Some(handle) = pending.handle() {
                return Ok(handle);
            }
            // The error may be that of another upload of the file, so this one is given some time.
            let standing = file.content.lock().errors.standing().cloned();
            if let Some(error) = standing.filter(|_| began.elapsed() >= REFUSED_READ_WAITS) {
                return Err(error.into());
            }
            if let Some(ino) = pending.stream_of {
                self.streams_wanted.note(ino);
            }
            // Looks again now and then: the object may have ended in another way meanwhile.
            let _ = tokio::time::timeout(std::time::Duration::from_millis(200), pending.finished())
                .await;
        }
    }
}

/// The extents that the file remembers at `at`, or else the version that a lookup would be of.
fn known_extents(file: &FileState, at: u64) -> Result<ExtentWindow, u64> {
    let content = file.content.lock();
    match &content.extents {
        Some(window) if window.range.contains(&at) => Ok(window.clone()),
        _ => Err(content.extents_version),
    }
}
