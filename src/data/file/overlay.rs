//! The overlay: what was written to one file and is not yet committed, over its committed extents.
//!
//! A piece is born dirty (bytes in memory), becomes sealed (bytes in an object that is being
//! uploaded) or inline (bytes that go into the metadata as they are), and leaves when that is
//! committed. Newer writes cut older pieces, whatever their state, so the overlay always says what
//! the file holds now; a commit takes from it only what is still there.

use std::{collections::BTreeMap, ops::Range};

use bytes::Bytes;

use crate::meta::{Extent, ExtentSource, ObjectId};

/// Where an uncommitted run of bytes is.
#[derive(Clone, Debug)]
pub(crate) enum Piece {
    /// In memory only.
    Dirty(Bytes),
    /// In memory, taken to be committed as it is.
    Inline {
        bytes: Bytes,
        /// Number of the take.
        take: u64,
    },
    /// In an object, at this plaintext offset.
    Sealed {
        /// The object.
        object: ObjectId,
        /// Offset in it.
        at: u64,
    },
}

impl Piece {
    /// The sub-run that starts `skip` bytes in and is `len` long.
    fn slice(&self, skip: u64, len: u64) -> Piece {
        match self {
            Piece::Dirty(bytes) => Piece::Dirty(bytes.slice(skip as usize..(skip + len) as usize)),
            Piece::Inline { bytes, take } => Piece::Inline {
                bytes: bytes.slice(skip as usize..(skip + len) as usize),
                take: *take,
            },
            Piece::Sealed { object, at } => Piece::Sealed {
                object: *object,
                at: at + skip,
            },
        }
    }
}

#[derive(Clone, Debug)]
struct Segment {
    len: u64,
    piece: Piece,
}

/// A part of a file range as the overlay sees it: a piece, or nothing (ask the committed extents).
#[derive(Clone, Debug)]
pub(crate) struct OverlayRun {
    pub(crate) range: Range<u64>,
    pub(crate) piece: Option<Piece>,
}

/// See the module's head.
#[derive(Debug, Default)]
pub(crate) struct Overlay {
    segments: BTreeMap<u64, Segment>,
    dirty_bytes: u64,
    total_bytes: u64,
}

impl Overlay {
    pub(crate) fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    /// Bytes in memory that nothing has taken yet.
    pub(crate) fn dirty_bytes(&self) -> u64 {
        self.dirty_bytes
    }

    /// Bytes of all pieces.
    pub(crate) fn total_bytes(&self) -> u64 {
        self.total_bytes
    }

    fn add(&mut self, offset: u64, segment: Segment) {
        if segment.len == 0 {
            return;
        }
        if matches!(segment.piece, Piece::Dirty(_)) {
            self.dirty_bytes += segment.len;
        }
        self.total_bytes += segment.len;
        self.segments.insert(offset, segment);
    }

    fn remove(&mut self, offset: u64) -> Option<Segment> {
        let segment = self.segments.remove(&offset)?;
        if matches!(segment.piece, Piece::Dirty(_)) {
            self.dirty_bytes -= segment.len;
        }
        self.total_bytes -= segment.len;
        Some(segment)
    }

    /// Offsets of the segments that overlap `range`.
    fn overlapping(&self, range: &Range<u64>) -> Vec<u64> {
        let first = self
            .segments
            .range(..=range.start)
            .next_back()
            .filter(|(offset, segment)| **offset + segment.len > range.start)
            .map_or(range.start, |(offset, _)| *offset);
        self.segments
            .range(first..range.end.max(first))
            .map(|(offset, _)| *offset)
            .collect()
    }

    /// Removes whatever lies in `range`, splitting pieces that reach over its ends.
    pub(crate) fn cut(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        for offset in self.overlapping(&range) {
            let Some(segment) = self.remove(offset) else {
                continue;
            };
            let end = offset + segment.len;
            if offset < range.start {
                let len = range.start - offset;
                self.add(
                    offset,
                    Segment {
                        len,
                        piece: segment.piece.slice(0, len),
                    },
                );
            }
            if end > range.end {
                let skip = range.end - offset;
                let len = end - range.end;
                self.add(
                    range.end,
                    Segment {
                        len,
                        piece: segment.piece.slice(skip, len),
                    },
                );
            }
        }
    }

    /// Puts freshly written bytes over whatever is there.
    pub(crate) fn write(&mut self, offset: u64, bytes: Bytes) {
        let len = bytes.len() as u64;
        self.cut(offset..offset + len);
        self.add(
            offset,
            Segment {
                len,
                piece: Piece::Dirty(bytes),
            },
        );
    }

    /// Runs of dirty bytes that begin at `from` or later, in order, however many pieces they came
    /// in.
    pub(crate) fn dirty_runs(&self, from: u64) -> impl Iterator<Item = Range<u64>> {
        let mut segments = self
            .segments
            .range(from..)
            .filter(|(_, segment)| matches!(segment.piece, Piece::Dirty(_)))
            .map(|(offset, segment)| *offset..offset + segment.len)
            .peekable();
        std::iter::from_fn(move || {
            let mut run = segments.next()?;
            while let Some(next) = segments.next_if(|next| next.start == run.end) {
                run.end = next.end;
            }
            Some(run)
        })
    }

    /// Dirty pieces that begin in `range`, in order, until they add up to `limit_bytes` or more.
    pub(crate) fn dirty_pieces(&self, range: Range<u64>, limit_bytes: u64) -> Vec<(u64, Bytes)> {
        let mut pieces = Vec::new();
        let mut sum = 0;
        if self.dirty_bytes == 0 || range.is_empty() {
            return pieces;
        }
        for (offset, segment) in self.segments.range(range) {
            if sum >= limit_bytes || sum == self.dirty_bytes {
                break;
            }
            if let Piece::Dirty(bytes) = &segment.piece {
                sum += segment.len;
                pieces.push((*offset, bytes.clone()));
            }
        }
        pieces
    }

    /// `bytes`, once written at `offset`, are now in `object` at `at`: what is left of them here
    /// becomes sealed. Bytes that a newer write replaced meanwhile are recognised by their address
    /// and left alone (the caller's view keeps the old address taken).
    pub(crate) fn mark_sealed(&mut self, offset: u64, bytes: &Bytes, object: ObjectId, at: u64) {
        let range = offset..offset + bytes.len() as u64;
        for start in self.overlapping(&range) {
            let Some(segment) = self.segments.get(&start) else {
                continue;
            };
            let Piece::Dirty(present) = &segment.piece else {
                continue;
            };
            let end = start + segment.len;
            let (from, to) = (start.max(range.start), end.min(range.end));
            let present_address = present.as_ptr() as usize + (from - start) as usize;
            let sealed_address = bytes.as_ptr() as usize + (from - range.start) as usize;
            if present_address != sealed_address {
                continue;
            }
            self.cut(from..to);
            self.add_sealed(from, to - from, object, at + (from - range.start));
        }
    }

    /// Puts a run that is in `object` over whatever is there.
    pub(crate) fn put_sealed(&mut self, offset: u64, len: u64, object: ObjectId, at: u64) {
        self.cut(offset..offset + len);
        self.add_sealed(offset, len, object, at);
    }

    /// Puts all pieces of `other` over whatever is there.
    pub(crate) fn lay(&mut self, other: &Overlay) {
        for (offset, segment) in &other.segments {
            self.cut(*offset..offset + segment.len);
            self.add(*offset, segment.clone());
        }
    }

    /// The dirty piece that begins before `at` and ends behind it.
    pub(crate) fn dirty_astride(&self, at: u64) -> Option<Range<u64>> {
        let (offset, segment) = self.segments.range(..at).next_back()?;
        let end = offset + segment.len;
        (matches!(segment.piece, Piece::Dirty(_)) && end > at).then_some(*offset..end)
    }

    /// The first dirty byte in `range`.
    pub(crate) fn first_dirty(&self, range: Range<u64>) -> Option<u64> {
        if range.is_empty() || self.dirty_bytes == 0 {
            return None;
        }
        let before = self
            .segments
            .range(..range.start)
            .next_back()
            .filter(|(offset, segment)| **offset + segment.len > range.start);
        before
            .into_iter()
            .chain(self.segments.range(range.clone()))
            .find(|(_, segment)| matches!(segment.piece, Piece::Dirty(_)))
            .map(|(offset, _)| (*offset).max(range.start))
    }

    /// Is anything in `object`?
    pub(crate) fn has_object(&self, object: ObjectId) -> bool {
        self.segments.values().any(
            |segment| matches!(segment.piece, Piece::Sealed { object: there, .. } if there == object),
        )
    }

    /// Adds a sealed run, joined to one that it continues, so that a stream commits as one extent.
    fn add_sealed(&mut self, offset: u64, len: u64, object: ObjectId, at: u64) {
        let before = self
            .segments
            .range(..offset)
            .next_back()
            .map(|(start, segment)| (*start, segment.clone()));
        if let Some((
            start,
            Segment {
                len: before_len,
                piece:
                    Piece::Sealed {
                        object: before_object,
                        at: before_at,
                    },
            },
        )) = before
            && start + before_len == offset
            && before_object == object
            && before_at + before_len == at
        {
            self.remove(start);
            self.add(
                start,
                Segment {
                    len: before_len + len,
                    piece: Piece::Sealed {
                        object,
                        at: before_at,
                    },
                },
            );
            return;
        }
        self.add(
            offset,
            Segment {
                len,
                piece: Piece::Sealed { object, at },
            },
        );
    }

    /// Takes all that is dirty, to be committed as it is; returns the same.
    pub(crate) fn take_inline(&mut self, take: u64) -> Overlay {
        let mut taken = Overlay::default();
        for (offset, segment) in &mut self.segments {
            if let Piece::Dirty(bytes) = &mut segment.piece {
                self.dirty_bytes -= segment.len;
                let bytes = std::mem::take(bytes);
                segment.piece = Piece::Inline { bytes, take };
                taken.add(*offset, segment.clone());
            }
        }
        taken
    }

    /// All runs that are in objects or go into the metadata, as extents to commit. Inline runs that
    /// follow each other are one, however many writes they came in.
    pub(crate) fn extents(&self) -> Vec<Extent> {
        let mut extents: Vec<Extent> = Vec::new();
        let mut inline: Vec<u8> = Vec::new();
        for (offset, segment) in &self.segments {
            match &segment.piece {
                Piece::Dirty(_) => {}
                Piece::Sealed { object, at } => extents.push(Extent {
                    offset: *offset,
                    len: segment.len,
                    source: ExtentSource::Object {
                        object: *object,
                        at: *at,
                    },
                }),
                Piece::Inline { bytes, .. } => {
                    let follows = extents.last_mut().filter(|last| {
                        last.offset + last.len == *offset
                            && matches!(last.source, ExtentSource::Inline(_))
                    });
                    if let Some(last) = follows {
                        inline.extend_from_slice(bytes);
                        last.len += segment.len;
                        last.source = ExtentSource::Inline(inline.clone().into());
                    } else {
                        inline = bytes.to_vec();
                        extents.push(Extent {
                            offset: *offset,
                            len: segment.len,
                            source: ExtentSource::Inline(bytes.clone()),
                        });
                    }
                }
            }
        }
        extents
    }

    /// Forgets the inline runs of takes below this number: they are committed now.
    pub(crate) fn forget_inline(&mut self, below: u64) {
        self.forget(|piece| matches!(piece, Piece::Inline { take, .. } if *take < below));
    }

    /// Forgets the runs that are in `object`: they are committed now, or lost.
    pub(crate) fn forget_object(&mut self, object: ObjectId) {
        self.forget(
            |piece| matches!(piece, Piece::Sealed { object: there, .. } if *there == object),
        );
    }

    fn forget(&mut self, is_meant: impl Fn(&Piece) -> bool) {
        let offsets: Vec<u64> = self
            .segments
            .iter()
            .filter(|(_, segment)| is_meant(&segment.piece))
            .map(|(offset, _)| *offset)
            .collect();
        for offset in offsets {
            self.remove(offset);
        }
    }

    /// `range` in order, piece by piece and gap by gap.
    pub(crate) fn view(&self, range: Range<u64>) -> Vec<OverlayRun> {
        let mut views = Vec::new();
        let mut at = range.start;
        for offset in self.overlapping(&range) {
            let Some(segment) = self.segments.get(&offset) else {
                continue;
            };
            let (from, to) = (
                offset.max(range.start),
                (offset + segment.len).min(range.end),
            );
            if at < from {
                views.push(OverlayRun {
                    range: at..from,
                    piece: None,
                });
            }
            views.push(OverlayRun {
                range: from..to,
                piece: Some(segment.piece.slice(from - offset, to - from)),
            });
            at = to;
        }
        if at < range.end {
            views.push(OverlayRun {
                range: at..range.end,
                piece: None,
            });
        }
        views
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::meta::SessionId;

    const SIZE: u64 = 64;

    fn object(number: u64) -> ObjectId {
        ObjectId {
            session: SessionId([7; 16]),
            number,
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Write(u64, u64),
        Cut(u64, u64),
        SealAll,
        WriteWhileSealing(u64, u64),
        Forget(u64),
        TakeInline,
        ForgetInline(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        let run = (0..SIZE - 1, 1..16u64);
        prop_oneof![
            4 => run.clone().prop_map(|(a, n)| Step::Write(a, n.min(SIZE - a))),
            1 => run.clone().prop_map(|(a, n)| Step::Cut(a, n.min(SIZE - a))),
            2 => Just(Step::SealAll),
            1 => run.prop_map(|(a, n)| Step::WriteWhileSealing(a, n.min(SIZE - a))),
            1 => (0..6u64).prop_map(Step::Forget),
            2 => Just(Step::TakeInline),
            1 => (0..6u64).prop_map(Step::ForgetInline),
        ]
    }

    proptest! {
        /// The model keeps, for each byte of the file, where it is.
        #[test]
        fn the_overlay_agrees_with_a_byte_by_byte_model(steps in proptest::collection::vec(step(), 1..60)) {
            #[derive(Clone, Copy, PartialEq, Debug)]
            enum Cell { Gap, Dirty(u8), Inline(u64, u8), Sealed(u64, u8) }
            let mut model = [Cell::Gap; SIZE as usize];
            let mut overlay = Overlay::default();
            let mut objects: Vec<Vec<u8>> = Vec::new();
            let mut stamp = 0u8;
            let mut takes = 0;
            for step in steps {
                let mut write = |overlay: &mut Overlay, model: &mut [Cell], a: u64, n: u64| {
                    stamp = stamp.wrapping_add(1);
                    overlay.write(a, Bytes::from(vec![stamp; n as usize]));
                    model[a as usize..(a + n) as usize].fill(Cell::Dirty(stamp));
                };
                match step {
                    Step::Write(a, n) => write(&mut overlay, &mut model, a, n),
                    Step::Cut(a, n) => {
                        overlay.cut(a..a + n);
                        model[a as usize..(a + n) as usize].fill(Cell::Gap);
                    }
                    Step::SealAll | Step::WriteWhileSealing(..) => {
                        let number = objects.len() as u64;
                        let taken = overlay.dirty_pieces(0..u64::MAX, u64::MAX);
                        let before = model;
                        if let Step::WriteWhileSealing(a, n) = step {
                            write(&mut overlay, &mut model, a, n);
                        }
                        let mut contents = Vec::new();
                        for (offset, bytes) in taken {
                            overlay.mark_sealed(offset, &bytes, object(number), contents.len() as u64);
                            contents.extend_from_slice(&bytes);
                        }
                        for (cell, old) in model.iter_mut().zip(before) {
                            if let (Cell::Dirty(value), true) = (*cell, *cell == old) {
                                *cell = Cell::Sealed(number, value);
                            }
                        }
                        objects.push(contents);
                    }
                    Step::Forget(number) => {
                        overlay.forget_object(object(number));
                        for cell in &mut model {
                            if matches!(cell, Cell::Sealed(there, _) if *there == number) {
                                *cell = Cell::Gap;
                            }
                        }
                    }
                    Step::TakeInline => {
                        overlay.take_inline(takes);
                        for cell in &mut model {
                            if let Cell::Dirty(value) = *cell {
                                *cell = Cell::Inline(takes, value);
                            }
                        }
                        takes += 1;
                    }
                    Step::ForgetInline(below) => {
                        overlay.forget_inline(below);
                        for cell in &mut model {
                            if matches!(cell, Cell::Inline(take, _) if *take < below) {
                                *cell = Cell::Gap;
                            }
                        }
                    }
                }
                let mut seen = [Cell::Gap; SIZE as usize];
                for view in overlay.view(0..SIZE) {
                    for at in view.range.clone() {
                        let skip = (at - view.range.start) as usize;
                        seen[at as usize] = match &view.piece {
                            None => Cell::Gap,
                            Some(Piece::Dirty(bytes)) => Cell::Dirty(bytes[skip]),
                            Some(Piece::Inline { bytes, take }) => Cell::Inline(*take, bytes[skip]),
                            Some(Piece::Sealed { object, at: start }) => {
                                Cell::Sealed(object.number, objects[object.number as usize][*start as usize + skip])
                            }
                        };
                    }
                }
                prop_assert_eq!(seen, model);
                let mut committed = [None; SIZE as usize];
                let mut last_end = None;
                for extent in overlay.extents() {
                    let ExtentSource::Inline(bytes) = &extent.source else { continue };
                    prop_assert_eq!(bytes.len() as u64, extent.len);
                    prop_assert!(last_end < Some(extent.offset), "extents that follow each other are one");
                    last_end = Some(extent.offset + extent.len);
                    for (at, byte) in (extent.offset..).zip(bytes) {
                        committed[at as usize] = Some(*byte);
                    }
                }
                let inline = model.map(|cell| if let Cell::Inline(_, value) = cell { Some(value) } else { None });
                prop_assert_eq!(committed, inline);
                let dirty = model.iter().filter(|cell| matches!(cell, Cell::Dirty(_))).count() as u64;
                prop_assert_eq!(overlay.dirty_bytes(), dirty);
                let total = model.iter().filter(|cell| !matches!(cell, Cell::Gap)).count() as u64;
                prop_assert_eq!(overlay.total_bytes(), total);
            }
        }
    }

    #[test]
    fn a_stream_sealed_piece_by_piece_commits_as_one_extent() {
        let mut overlay = Overlay::default();
        for index in 0..8u64 {
            overlay.write(index * 10, Bytes::from(vec![1; 10]));
        }
        let mut at = 0;
        for (offset, bytes) in overlay.dirty_pieces(0..u64::MAX, u64::MAX) {
            overlay.mark_sealed(offset, &bytes, object(0), at);
            at += bytes.len() as u64;
        }
        assert_eq!(overlay.extents().len(), 1);
    }
}
