//! The overlay: what was written to one file and is not yet committed, over its committed extents.
//!
//! A piece is born dirty (bytes in memory), becomes sealed (bytes in an object that is being
//! uploaded) or inline (bytes that go into the metadata as they are), and leaves when that is
//! committed. Newer writes cut older pieces, whatever their state, so the overlay is always the
//! file as it is now; a commit removes from it only pieces that are still there.

use std::{collections::BTreeMap, ops::Range};

use bytes::Bytes;

use crate::meta::{Extent, ExtentSource, ObjectId};

/// Where an uncommitted run of bytes is.
#[derive(Clone, Debug)]
pub(crate) enum Piece {
    /// In memory only.
    Dirty(Bytes),
    /// In memory, and in flight to be committed as it is.
    Inline {
        bytes: Bytes,
        /// Number of the write-back in flight.
        number: u64,
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
            Piece::Inline { bytes, number } => Piece::Inline {
                bytes: bytes.slice(skip as usize..(skip + len) as usize),
                number: *number,
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

    /// Dirty bytes: in memory, and not in flight.
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

    /// Removes the pieces in `range`, splitting those that reach over its ends.
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

    /// Puts freshly written bytes over the pieces that are there.
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

    /// `bytes`, once written at `offset`, are now in `object` at `at`: those that are left here
    /// become sealed. Bytes that a newer write replaced meanwhile are recognised by their address
    /// and left alone (the caller's view keeps the old address in use).
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

    /// Puts a run that is in `object` over the pieces that are there.
    pub(crate) fn put_sealed(&mut self, offset: u64, len: u64, object: ObjectId, at: u64) {
        self.cut(offset..offset + len);
        self.add_sealed(offset, len, object, at);
    }

    /// Puts all pieces of `other` over the pieces that are there.
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

    /// Turns all dirty pieces into inline ones, to be committed as they are; returns them.
    pub(crate) fn begin_inline(&mut self, number: u64) -> Overlay {
        let mut taken = Overlay::default();
        for (offset, segment) in &mut self.segments {
            if let Piece::Dirty(bytes) = &mut segment.piece {
                self.dirty_bytes -= segment.len;
                let bytes = std::mem::take(bytes);
                segment.piece = Piece::Inline { bytes, number };
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

    /// Forgets the inline runs of write-backs below this number: they are committed now.
    pub(crate) fn forget_inline(&mut self, below: u64) {
        self.forget(|piece| matches!(piece, Piece::Inline { number, .. } if *number < below));
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
