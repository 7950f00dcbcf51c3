//! Stretches: parts of a file that lies scattered, to be read in order because small reads in no
//! order miss so much of them.
//!
//! Neighbours in such a file are no neighbours in its objects, and one page of it can keep a whole
//! frame in memory. So a region of an object says little about the next read, and the frames of a
//! file may take more memory than there is. A stretch is read once, frame by frame in the order of
//! the objects, and its pages are kept by the kernel. The density policy decides, on windows of the
//! file in place of frames. What the misses cost is the time that they took.
//!
//! Promise: a stretch that takes much longer than the misses that paid for it is given up.

use std::{
    collections::VecDeque,
    ops::Range,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use super::{
    Readahead,
    density::{Density, MEMORY_SHARE_MAX, Miss},
};
use crate::{
    data::frames::{Cost, Outcome},
    meta::{Ino, ObjectId, SessionId},
};

/// A file lies scattered where its runs are shorter than a frame.
pub(crate) const RUN_MIN: u64 = WINDOW;

/// Smaller files are in one run, or nearly; what lies around them in their object is worth more.
pub(crate) const FILE_MIN: u64 = 1 << 20;

/// Misses of a file are counted in windows as long as a frame, which each of them brings.
const WINDOW: u64 = 64 << 10;

/// Windows of the shortest stretch: 64 MiB. The 16 pages of one frame are some 200 KiB apart, or
/// more, where 256 MiB were overwritten at random, so a shorter stretch would use few of them.
const STRETCH_MIN_LOG2: u32 = 10;

/// The longest stretch. The kernel has to keep it until it is read.
const STRETCH_MAX: u64 = 256 << 20;

/// Stored bytes that have to be fetched for each byte of a file that was overwritten at random, as
/// measured (docs/benchmarks.md, Reads in no order).
const SPREAD: f64 = 3.0;

/// A stretch is read no faster than this, whatever the link, in MB a second: each page has to be
/// found in a frame of its own. Measured: 130 to 170. Also the guess while the link is not known.
const SPEED_MAX: f64 = 100.0;

/// A miss counts for so many times what it took. A file that was overwritten at random and is read
/// at random will be read so for a while; at once, 20 ms away, the misses before the first stretch
/// took four of six seconds.
const MISS_WORTH: f64 = 3.0;

/// A stretch is given up after so many times what it was thought to take, but not within a second:
/// so much may be the machine's.
const PATIENCE: f64 = 3.0;
const TIME_MIN: Duration = Duration::from_secs(1);

/// Parts of files that are remembered as handed over.
const KEPT_MAX: usize = 64;

/// Decides about stretches, and knows which there were.
pub(crate) struct Stretches {
    density: Mutex<Density>,
    parts: Arc<Mutex<Parts>>,
}

/// Parts of files.
#[derive(Default)]
struct Parts {
    /// They are read. Bounded by the places that there are for stretches above (`fs/stretch.rs`).
    under_way: Vec<(Ino, Range<u64>)>,
    /// They were handed over, and not missed since; the latest last.
    kept: VecDeque<Kept>,
}

/// A part of a file that the kernel was given.
struct Kept {
    ino: Ino,
    range: Range<u64>,
    /// It has all of it since then.
    since: Instant,
}

/// A part of a file that should be read in order and kept.
pub struct Stretch {
    /// Its parts that are not kept yet, in order.
    pub ranges: Vec<Range<u64>>,
    /// It is not worth more time.
    pub time_max: Duration,
    ino: Ino,
    whole: Range<u64>,
    parts: Arc<Mutex<Parts>>,
}

impl Stretches {
    pub(crate) fn new() -> Stretches {
        Stretches {
            density: Mutex::new(Density::new(STRETCH_MIN_LOG2)),
            parts: Arc::default(),
        }
    }

    /// As [`Density::held_bytes`].
    pub(crate) fn held_bytes(&self) -> (u64, u64) {
        self.density.lock().held_bytes()
    }
}

impl Parts {
    /// Notes a miss of a read that began at `began`; whether it counts. It does not if a stretch
    /// brings it, or has brought it meanwhile.
    fn miss(&mut self, ino: Ino, offset: u64, began: Instant) -> bool {
        let is_there = |of: Ino, range: &Range<u64>| of == ino && range.contains(&offset);
        // The kernel has dropped some of what it was given before.
        self.kept
            .retain(|part| !is_there(part.ino, &part.range) || part.since > began);
        let mut kept = self.kept.iter();
        let mut under_way = self.under_way.iter();
        !kept.any(|part| is_there(part.ino, &part.range))
            && !under_way.any(|(of, range)| is_there(*of, range))
    }

    fn keep(&mut self, ino: Ino, range: Range<u64>) {
        let since = Instant::now();
        let goes_on = |before: &&mut Kept| before.ino == ino && before.range.end == range.start;
        if let Some(before) = self.kept.back_mut().filter(goes_on) {
            before.range.end = range.end;
            before.since = since;
            return;
        }
        if self.kept.len() >= KEPT_MAX {
            self.kept.pop_front();
        }
        self.kept.push_back(Kept { ino, range, since });
    }

    /// The parts of a file's `range` that are not kept, in order.
    fn missing_of(&self, ino: Ino, range: Range<u64>) -> Vec<Range<u64>> {
        let mut missing = vec![range];
        for kept in self.kept.iter().filter(|kept| kept.ino == ino) {
            let without = |part: Range<u64>| {
                let before = part.start..part.end.min(kept.range.start);
                let after = part.start.max(kept.range.end)..part.end;
                [before, after].into_iter().filter(|rest| !rest.is_empty())
            };
            missing = missing.into_iter().flat_map(without).collect();
        }
        missing
    }
}

impl Stretch {
    /// Notes that a part of it was handed over.
    pub fn kept(&self, range: Range<u64>) {
        self.parts.lock().keep(self.ino, range);
    }
}

impl Drop for Stretch {
    fn drop(&mut self) {
        let mut parts = self.parts.lock();
        let own = |(ino, range): &(Ino, Range<u64>)| *ino == self.ino && *range == self.whole;
        if let Some(place) = parts.under_way.iter().position(own) {
            parts.under_way.swap_remove(place);
        }
    }
}

impl Readahead {
    /// The part of a file of `size` bytes that should be read in order, now that a small read at
    /// `offset`, which began at `began`, did not find its bytes in memory.
    pub(crate) fn stretch_around(
        &self,
        ino: Ino,
        size: u64,
        offset: u64,
        began: Instant,
    ) -> Option<Stretch> {
        let stretches = &self.stretches;
        if !stretches.parts.lock().miss(ino, offset, began) {
            return None;
        }
        let window = offset / WINDOW;
        let miss = Miss {
            object: ObjectId {
                session: SessionId([0; 16]),
                number: ino.0,
            },
            frames: window..window + 1,
            object_frames: size.div_ceil(WINDOW),
            frame_len: WINDOW,
            was_evicted: false,
        };
        let speed_of_link = |bytes: u64| bytes as f64 / 1e6 / SPREAD;
        let speed = self.frames.link.bandwidth().map(speed_of_link);
        let cost = Cost {
            latency_us: MISS_WORTH * began.elapsed().as_micros() as f64,
            bandwidth: speed.unwrap_or(SPEED_MAX).min(SPEED_MAX),
        };
        let memory = STRETCH_MAX as f64 / MEMORY_SHARE_MAX;
        let windows =
            stretches
                .density
                .lock()
                .on_miss(&miss, &cost, memory as u64, Outcome::default());
        if windows == miss.frames {
            return None;
        }
        let whole = windows.start * WINDOW..(windows.end * WINDOW).min(size);
        let mut parts = stretches.parts.lock();
        let ranges = parts.missing_of(ino, whole.clone());
        parts.under_way.push((ino, whole.clone()));
        drop(parts);
        let len = ranges.iter().map(|range| range.end - range.start).sum();
        Some(Stretch {
            ranges,
            time_max: Duration::from_micros((PATIENCE * cost.of(len)) as u64).max(TIME_MIN),
            ino,
            whole,
            parts: Arc::clone(&stretches.parts),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: Ino = Ino(7);

    #[test]
    fn what_is_kept_is_not_read_again_until_it_is_missed() {
        let mut parts = Parts::default();
        parts.keep(FILE, 100..200);
        parts.keep(FILE, 200..300);
        parts.keep(FILE, 500..600);
        parts.keep(Ino(8), 600..700);
        assert_eq!(parts.kept.len(), 3, "neighbours are one part");
        assert_eq!(
            parts.missing_of(FILE, 0..1000),
            [0..100, 300..500, 600..1000]
        );
        let missing = parts.missing_of(FILE, 150..650);
        assert_eq!(missing, [300..500, 600..650]);
        assert!(parts.missing_of(FILE, 120..280).is_empty());
        let early = Instant::now() - Duration::from_secs(1);
        assert!(!parts.miss(FILE, 299, early), "it came meanwhile");
        assert!(parts.missing_of(FILE, 120..280).is_empty());
        assert!(parts.miss(FILE, 299, Instant::now()));
        assert_eq!(parts.missing_of(FILE, 0..1000), [0..500, 600..1000]);
        for part in 0..2 * KEPT_MAX as u64 {
            parts.keep(FILE, part * 10..part * 10 + 5);
        }
        assert_eq!(parts.kept.len(), KEPT_MAX);
    }

    #[test]
    fn misses_in_a_stretch_that_is_being_read_do_not_count() {
        let stretches = Stretches::new();
        let stretch = Stretch {
            ranges: Vec::new(),
            time_max: Duration::ZERO,
            ino: FILE,
            whole: 0..100,
            parts: Arc::clone(&stretches.parts),
        };
        stretches.parts.lock().under_way.push((FILE, 0..100));
        let miss = |offset| stretches.parts.lock().miss(FILE, offset, Instant::now());
        assert!(!miss(99) && miss(100));
        drop(stretch);
        assert!(miss(99));
    }
}
