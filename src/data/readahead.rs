//! Readahead: what to fetch before it is asked for.
//!
//! Two detectors share [`Fetch`]. A handle that reads on gets a *window*: parallel fetches ahead of it, in file order, across objects; it starts
//! small and doubles while reads keep hitting it, up to its share of the budget. Small files of a pack are read *around*: when the files read one
//! after the other lie one after the other in the pack, the next miss fetches their neighbours too.
//!
//! Readahead only tries for memory, never waits, and gives way at once when a demand request needs room.

use std::{
    collections::VecDeque,
    num::NonZeroUsize,
    ops::Range,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use lru::LruCache;
use parking_lot::Mutex;

use super::fetch::Fetch;
use crate::{budget::Reclaim, meta::ObjectId};

/// The first window, in bytes.
pub(super) const WINDOW_MIN: u64 = 256 << 10;

/// A window is at most a quarter of what was read in order so far, or [`EARLY_MAX`]: who stops after some MiB has moved at most a quarter too
/// much. Who has read [`CERTAIN`] in order will likely read on, and may have as much ahead as lies behind, which far stores need.
const EARLY_SHARE: u64 = 4;
const EARLY_MAX: u64 = 768 << 10;
const CERTAIN: u64 = 8 << 20;

/// Reads that come this far out of order still count as going on: the kernel keeps several requests in flight.
const REORDER_BYTES: u64 = 2 << 20;

/// Frames fetched around a small file at most.
const NEIGHBOURS_MAX: u64 = 64;

/// Closed windows that stay in the list of all at most, unless more are open.
const CLOSED_KEPT: usize = 64;

/// Packs whose reading order is remembered.
const PACKS_REMEMBERED: NonZeroUsize = NonZeroUsize::new(64).unwrap();

/// A handle's window.
pub(super) struct Window {
    /// Where the next read is expected.
    next: u64,
    /// Where the reads in order began.
    began: u64,
    /// Reads in a row that went on.
    streak: u32,
    /// Bytes to keep ahead.
    size: u64,
    /// Fetches were started up to here.
    pub(super) frontier: u64,
    /// How many bytes were last fetched for each byte ahead: more than one where the file lies scattered over its objects.
    spread: u64,
    /// File ranges and their fetches, in order.
    fetches: VecDeque<(Range<u64>, Arc<Fetch>)>,
    last_read: Instant,
}

impl Window {
    pub(super) fn new() -> Window {
        Window {
            next: 0,
            began: 0,
            streak: 0,
            size: 0,
            frontier: 0,
            spread: 1,
            fetches: VecDeque::new(),
            last_read: Instant::now(),
        }
    }

    /// Notes a read; returns the range that should be fetched ahead now, if any. `size_max` is the handle's share, `request_bytes` how
    /// much one request brings at most. Fetches that are
    /// no longer wanted are moved to `let_go`, to be dropped when the lock on this window is not held: dropping gives memory back,
    /// and that may ask windows to give way.
    pub(super) fn on_read(
        &mut self,
        range: Range<u64>,
        size_max: u64,
        request_bytes: u64,
        let_go: &mut Vec<Arc<Fetch>>,
    ) -> Option<Range<u64>> {
        self.last_read = Instant::now();
        let goes_on =
            range.start <= self.next + REORDER_BYTES && range.start + REORDER_BYTES >= self.next;
        if !goes_on {
            self.streak = 0;
            self.size = 0;
            self.next = range.end;
            self.began = range.start;
            self.frontier = range.end;
            let_go.extend(self.fetches.drain(..).map(|(_, fetch)| fetch));
            return None;
        }
        if range.end > self.next {
            self.next = range.end;
            self.streak += 1;
        }
        self.frontier = self.frontier.max(self.next);
        let behind = self.next.saturating_sub(REORDER_BYTES);
        while self
            .fetches
            .front()
            .is_some_and(|(fetched, _)| fetched.end <= behind)
        {
            let_go.extend(self.fetches.pop_front().map(|(_, fetch)| fetch));
        }
        if self.streak < 2 {
            return None;
        }
        // One request more for each that was read: were half a window asked for at once, it would arrive at once and be read at once, and
        // the link would lie idle until the next half's first byte. What is scattered is better asked for in large pieces of the file: each
        // object that it lies in is asked once a piece.
        let ahead = self.frontier - self.next;
        let step = if self.spread > 1 {
            self.size / 2
        } else {
            request_bytes.min(self.size / 2)
        };
        if ahead + step > self.size {
            return None;
        }
        self.size = (self.size * 2).max(WINDOW_MIN);
        let read = self.next - self.began;
        let earned = if read < CERTAIN {
            (read.saturating_sub(WINDOW_MIN) / EARLY_SHARE).max(EARLY_MAX)
        } else {
            read
        };
        // What is scattered takes more memory than it is long, and the frames of one piece are held until the next has come.
        let size_max = (2 * size_max / self.spread).min(size_max);
        self.size = self.size.min(earned).min(size_max);
        (ahead < self.size).then(|| self.frontier..self.next + self.size)
    }

    pub(super) fn push(&mut self, range: Range<u64>, fetch: Arc<Fetch>) {
        self.frontier = self.frontier.max(range.end);
        self.fetches.push_back((range, fetch));
    }

    /// For `wanted` bytes ahead so many are about to be fetched.
    pub(super) fn note_spread(&mut self, wanted: u64, fetched: u64) {
        self.spread = fetched.div_ceil(wanted.max(1)).max(1);
    }

    pub(super) fn is_active(&self) -> bool {
        !self.fetches.is_empty()
    }

    /// Lets the fetch go that is furthest ahead.
    fn shrink(&mut self) -> Option<(u64, Arc<Fetch>)> {
        let (range, fetch) = self.fetches.pop_back()?;
        self.frontier = range.start.max(self.next);
        self.size /= 2;
        Some((range.end - range.start, fetch))
    }
}

/// All windows, so that they can be asked to give way; bounded by the open handles.
#[derive(Default)]
pub(super) struct Windows {
    all: Mutex<Vec<Weak<Mutex<Window>>>>,
    /// Windows closed since the last look at which of them are left.
    closed: AtomicUsize,
}

impl Windows {
    pub(super) fn register(&self, window: &Arc<Mutex<Window>>) {
        self.all.lock().push(Arc::downgrade(window));
    }

    /// A window goes. Now and then those that went leave the list, and the memory that a weak pointer keeps.
    pub(super) fn closed(&self) {
        let closed = self.closed.fetch_add(1, Ordering::Relaxed) + 1;
        let mut all = self.all.lock();
        if closed >= CLOSED_KEPT && closed * 2 >= all.len() {
            all.retain(|window| window.strong_count() > 0);
            let room = all.len() * 2;
            all.shrink_to(room);
            self.closed.store(0, Ordering::Relaxed);
        }
    }

    /// Handles that read ahead now.
    pub(super) fn active(&self) -> usize {
        self.all
            .lock()
            .iter()
            .filter_map(Weak::upgrade)
            .filter(|window| window.lock().is_active())
            .count()
    }
}

impl Windows {
    /// Lets everything go that handles fetched ahead which did not read for `idle`.
    pub(super) fn trim(&self, idle: Duration) {
        let windows: Vec<_> = self.all.lock().iter().filter_map(Weak::upgrade).collect();
        let mut dropped = Vec::new();
        for window in windows {
            let mut window = window.lock();
            if window.last_read.elapsed() >= idle {
                while let Some((_, fetch)) = window.shrink() {
                    dropped.push(fetch);
                }
            }
        }
        drop(dropped);
    }
}

impl Reclaim for Windows {
    fn reclaim(&self, bytes: u64) -> u64 {
        let mut windows: Vec<_> = self.all.lock().iter().filter_map(Weak::upgrade).collect();
        // Idle handles first.
        windows.sort_by_cached_key(|window| window.lock().last_read);
        let mut freed = 0;
        let mut dropped = Vec::new();
        for window in windows {
            while freed < bytes {
                let Some((len, fetch)) = window.lock().shrink() else {
                    break;
                };
                freed += len;
                dropped.push(fetch);
            }
        }
        drop(dropped);
        freed
    }
}

/// The last fetch that read around a small file, kept alive beyond the read that started it: its frames are wanted next.
#[derive(Default)]
pub(super) struct Around {
    last: Mutex<Option<Arc<Fetch>>>,
}

impl Around {
    pub(super) fn keep(&self, fetch: Arc<Fetch>) {
        let before = self.last.lock().replace(fetch);
        drop(before);
    }

    pub(super) fn let_go(&self) -> Option<Arc<Fetch>> {
        self.last.lock().take()
    }
}

impl Reclaim for Around {
    /// What it brought is in the cache as well: only what is still to come is given back here.
    fn reclaim(&self, _bytes: u64) -> u64 {
        self.let_go().map_or(0, |fetch| fetch.outstanding_bytes())
    }
}

/// How long the store takes to begin an answer, without what our own load adds: the least that was seen lately.
///
/// Each request costs processor time, so few and large ones are best for a store that is near. One that is far gives each connection only so much,
/// and needs many at once.
#[derive(Default)]
pub(super) struct Distance {
    micros: AtomicU64,
}

impl Distance {
    /// A store that takes longer is far away.
    const NEAR_MICROS: u64 = 8_000;
    /// Requests of one window that a far store is asked at once.
    const PARALLEL: u64 = 8;

    pub(super) fn note(&self, first_byte_after: Duration) {
        let seen = first_byte_after.as_micros() as u64;
        let known = self.micros.load(Ordering::Relaxed);
        // Another's note may be lost, which does no harm.
        let now = if known == 0 {
            seen
        } else {
            seen.min(known + seen.saturating_sub(known) / 16)
        };
        self.micros.store(now, Ordering::Relaxed);
    }

    /// The largest single request ahead of a reader whose window grows up to `window_bytes`.
    pub(super) fn request_bytes(&self, window_bytes: u64, request_bytes_max: u64) -> u64 {
        if self.micros.load(Ordering::Relaxed) <= Self::NEAR_MICROS {
            return request_bytes_max;
        }
        (window_bytes / Self::PARALLEL)
            .max(1 << 20)
            .min(request_bytes_max)
    }
}

/// The reading order of packs.
pub(super) struct Neighbours {
    packs: Mutex<LruCache<ObjectId, Order>>,
}

struct Order {
    next_frame: u64,
    frames: u64,
}

impl Neighbours {
    pub(super) fn new() -> Neighbours {
        Neighbours {
            packs: Mutex::new(LruCache::new(PACKS_REMEMBERED)),
        }
    }

    /// A small file's `missing` frames are about to be fetched: how many after them should come along?
    pub(super) fn on_miss(&self, object: ObjectId, missing: &Range<u64>) -> u64 {
        let mut packs = self.packs.lock();
        let order = packs.get_or_insert_mut(object, || Order {
            next_frame: u64::MAX,
            frames: 0,
        });
        let goes_on = order.next_frame <= missing.start + 1
            && missing.start <= order.next_frame.saturating_add(1);
        // A pack read from its start is likely read on.
        order.frames = match (goes_on, missing.start) {
            (true, _) => (order.frames * 2).clamp(2, NEIGHBOURS_MAX),
            (false, 0) => 4,
            (false, _) => 0,
        };
        order.next_frame = missing.end + order.frames;
        order.frames
    }
}
