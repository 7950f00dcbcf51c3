//! The places of entries, in bounded memory.
//!
//! Entries are known by a hash of their key with a random seed. Two keys of one hash are taken for
//! the same. The frame that is read then does not open, which is a miss.

use std::{
    collections::{BTreeMap, HashMap},
    hash::{BuildHasher, RandomState},
    iter,
    ops::Range,
    sync::Arc,
};

use super::{
    FrameKey, OBJECT_LEN, READ_BYTES_MAX,
    segment::{ALIGNMENT, ENTRY_HEADER_LEN, Segment, entry_len},
};

/// A slot of the table: hash, place, and the table's own byte.
const SLOT_BYTES: u64 = 17;

/// An entry of a full frame: most are.
const FULL_ENTRY_BYTES: u64 = (64 << 10) + 16 + ENTRY_HEADER_LEN;

/// The index of a small cache: frames of small files may be much smaller than full ones.
const SLOTS_MIN: u64 = 4096;

/// Entries of which the index of a cache of `size_bytes` has at most so many: a quarter more than
/// there are full frames, in at most `bytes_max` of memory.
///
/// The table is never filled to more than half of its capacity, so that it clears removed slots
/// away without growing.
pub(super) fn entries_max(size_bytes: u64, bytes_max: u64) -> usize {
    let wanted = size_bytes / FULL_ENTRY_BYTES * 5 / 4;
    let mut slots = (wanted * 16 / 7).max(SLOTS_MIN).next_power_of_two();
    while slots * SLOT_BYTES > bytes_max && slots > SLOTS_MIN {
        slots /= 2;
    }
    (slots * 7 / 16) as usize
}

/// Memory of an index of `entries`.
pub(super) fn bytes(entries: usize) -> u64 {
    entries as u64 * 16 / 7 * SLOT_BYTES
}

#[derive(Clone, Copy)]
struct Place {
    segment: u32,
    /// Where the entry begins, and flags in the lowest bits, which are 0 since places are aligned.
    at: u32,
}

const WAS_READ: u32 = 1;
/// A guess: no reader has asked for it, neither before it came nor since.
const IS_GUESS: u32 = 2;
const FLAGS: u32 = WAS_READ | IS_GUESS;
const _: () = assert!(ALIGNMENT > FLAGS as u64);

impl Place {
    fn at(self) -> u64 {
        u64::from(self.at & !FLAGS)
    }
}

/// Outcomes of guesses: frames that were put in before a reader asked for them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Guesses {
    /// Frames that were read after all.
    pub right: u64,
    /// Frames that were evicted unread.
    pub wrong: u64,
}

/// The table of entries, and the segments that they lie in.
pub(super) struct Index {
    hasher: RandomState,
    places: HashMap<u64, Place>,
    segments: BTreeMap<u32, Arc<Segment>>,
    entries_max: usize,
    guesses: Guesses,
}

/// Adjoining bytes of one segment that hold frames in a row.
pub(super) struct Span {
    pub(super) segment: Arc<Segment>,
    pub(super) bytes: Range<u64>,
    /// The place of each sealed frame in these bytes.
    pub(super) frames: Vec<Range<u64>>,
}

/// A segment whose entries are no longer in the index.
pub(super) struct Evicted {
    pub(super) segment: Arc<Segment>,
    /// The places of its entries that were read, ascending.
    pub(super) read: Vec<u64>,
}

impl Index {
    pub(super) fn new(entries_max: usize) -> Index {
        Index {
            hasher: RandomState::new(),
            places: HashMap::with_capacity(2 * entries_max),
            segments: BTreeMap::new(),
            entries_max,
            guesses: Guesses::default(),
        }
    }

    fn hash(&self, key: &FrameKey) -> u64 {
        self.hasher.hash_one(key)
    }

    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    pub(super) fn held_bytes(&self) -> u64 {
        bytes(self.places.len())
    }

    pub(super) fn is_full(&self) -> bool {
        self.places.len() >= self.entries_max
    }

    pub(super) fn contains(&self, key: &FrameKey) -> bool {
        self.places.contains_key(&self.hash(key))
    }

    pub(super) fn add_segment(&mut self, segment: Arc<Segment>) {
        self.segments.insert(segment.number, segment);
    }

    /// Notes an entry of a segment that was added, unless the index is full.
    pub(super) fn insert(&mut self, key: &FrameKey, segment: u32, at: u64, is_guess: bool) {
        if self.is_full() {
            return;
        }
        if let Ok(at) = u32::try_from(at) {
            let at = at | if is_guess { IS_GUESS } else { 0 };
            self.places.insert(self.hash(key), Place { segment, at });
        }
    }

    /// Returns the outcomes since the last call.
    pub(super) fn take_guesses(&mut self) -> Guesses {
        std::mem::take(&mut self.guesses)
    }

    pub(super) fn remove(&mut self, key: &FrameKey) -> bool {
        self.places.remove(&self.hash(key)).is_some()
    }

    /// Forgets a segment and its entries.
    pub(super) fn evict(&mut self, number: u32) -> Option<Evicted> {
        let segment = self.segments.remove(&number)?;
        let (mut read, mut wrong) = (Vec::new(), 0);
        self.places.retain(|_, place| {
            let goes = place.segment == number;
            if goes && place.at & WAS_READ != 0 {
                read.push(place.at());
            }
            wrong += u64::from(goes && place.at & IS_GUESS != 0);
            !goes
        });
        self.guesses.wrong += wrong;
        read.sort_unstable();
        Some(Evicted { segment, read })
    }

    /// The places of frames in a row, from the first of `frames` on, which count as read; at most
    /// [`READ_BYTES_MAX`].
    pub(super) fn find(
        &mut self,
        object: &[u8; OBJECT_LEN],
        frames: Range<u64>,
        sealed_len: impl Fn(u64) -> u64,
    ) -> Vec<Span> {
        let mut spans: Vec<Span> = Vec::new();
        let mut bytes = 0;
        for frame in frames {
            let key = FrameKey {
                object: *object,
                frame,
            };
            let (hash, sealed_len) = (self.hash(&key), sealed_len(frame));
            bytes += entry_len(sealed_len);
            let Some(place) = self.places.get_mut(&hash) else {
                break;
            };
            if bytes > READ_BYTES_MAX {
                break;
            }
            let Some(segment) = self.segments.get(&place.segment) else {
                break;
            };
            self.guesses.right += u64::from(place.at & IS_GUESS != 0);
            place.at = place.at & !IS_GUESS | WAS_READ;
            let start = place.at() + ENTRY_HEADER_LEN;
            let end = start + sealed_len;
            match spans.last_mut() {
                Some(span)
                    if span.segment.number == place.segment
                        && span.bytes.end.next_multiple_of(ALIGNMENT) == place.at() =>
                {
                    let within = start - span.bytes.start..end - span.bytes.start;
                    span.frames.push(within);
                    span.bytes.end = end;
                }
                _ => spans.push(Span {
                    segment: Arc::clone(segment),
                    bytes: start..end,
                    frames: iter::once(0..sealed_len).collect(),
                }),
            }
        }
        spans
    }

    /// The first of `frames` from which on `run` frames, or all up to the end, are there; else
    /// their end.
    pub(super) fn next_run(&self, object: &[u8; OBJECT_LEN], frames: Range<u64>, run: u64) -> u64 {
        let mut began = None;
        for frame in frames.clone() {
            let object = *object;
            if !self.contains(&FrameKey { object, frame }) {
                began = None;
                continue;
            }
            let first = *began.get_or_insert(frame);
            if frame + 1 - first >= run || frame + 1 == frames.end {
                return first;
            }
        }
        frames.end
    }
}
