//! The window of a handle: what to fetch before it is asked for.
//!
//! A handle that reads on gets parallel fetches ahead of it, in file order, across objects; the window starts small and doubles while reads keep
//! hitting it, up to its share of the budget.
//!
//! Readahead only tries for memory, never waits, and gives way at once when a demand request needs room.

use std::{
    collections::VecDeque,
    ops::Range,
    sync::Arc,
    time::{Duration, Instant},
};

use super::fetch::Fetch;

/// The first window, in bytes.
pub(super) const WINDOW_MIN: u64 = 256 << 10;

/// Requests are not made smaller than this to have several of a window under way.
const REQUEST_MIN: u64 = 1 << 20;

/// A window is at most a quarter of what was read in order so far, or [`EARLY_MAX`]: who stops after some MiB has moved at most a quarter too
/// much. Who has read [`CERTAIN`] in order will likely read on, and may have as much ahead as lies behind, which far stores need.
const EARLY_SHARE: u64 = 4;
const EARLY_MAX: u64 = 768 << 10;
const CERTAIN: u64 = 8 << 20;

/// Reads that come this far out of order still count as going on: the kernel keeps several requests in flight.
const REORDER_BYTES: u64 = 2 << 20;

/// Something fetched ahead.
struct Ahead {
    /// The part of the file that it is for.
    file: Range<u64>,
    /// How much of that was not read yet.
    unread: u64,
    fetch: Arc<Fetch>,
}

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
    /// In the order of the file.
    fetches: VecDeque<Ahead>,
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
            let_go.extend(self.fetches.drain(..).map(|ahead| ahead.fetch));
            return None;
        }
        if range.end > self.next {
            self.next = range.end;
            self.streak += 1;
        }
        self.frontier = self.frontier.max(self.next);
        self.let_go_of_read(range, let_go);
        if self.streak < 2 {
            return None;
        }
        // One request more for each that was read: were half a window asked for at once, it would arrive at once and be read at once, and
        // the link would lie idle until the next half's first byte. What is scattered is better asked for in large pieces of the file: each
        // object that it lies in is asked once a piece.
        let ahead = self.frontier - self.next;
        // A window that cannot grow to more than a request is asked for as a whole when it is used up: others are served meanwhile.
        let step = if self.spread > 1 {
            self.size / 2
        } else if self.size >= size_max && size_max <= REQUEST_MIN {
            self.size
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

    /// What was read, or passed by, is of no more use.
    fn let_go_of_read(&mut self, read: Range<u64>, let_go: &mut Vec<Arc<Fetch>>) {
        let passed = self.next.saturating_sub(REORDER_BYTES);
        self.fetches.retain_mut(|ahead| {
            let from = ahead.file.start.max(read.start);
            let to = ahead.file.end.min(read.end);
            ahead.unread = ahead.unread.saturating_sub(to.saturating_sub(from));
            let keep = ahead.unread > 0 && ahead.file.end > passed;
            if !keep {
                let_go.push(ahead.fetch.clone());
            }
            keep
        });
    }

    pub(super) fn push(&mut self, range: Range<u64>, fetch: Arc<Fetch>) {
        self.frontier = self.frontier.max(range.end);
        self.fetches.push_back(Ahead {
            unread: range.end - range.start,
            file: range,
            fetch,
        });
    }

    /// For `wanted` bytes ahead so many are about to be fetched.
    pub(super) fn note_spread(&mut self, wanted: u64, fetched: u64) {
        self.spread = fetched.div_ceil(wanted.max(1)).max(1);
    }

    pub(super) fn idle_for(&self) -> Duration {
        self.last_read.elapsed()
    }

    /// Does it hold anything?
    pub(super) fn is_active(&self) -> bool {
        !self.fetches.is_empty()
    }

    /// Lets the fetch go that is furthest ahead.
    pub(super) fn shrink(&mut self) -> Option<(u64, Arc<Fetch>)> {
        let Ahead { file, fetch, .. } = self.fetches.pop_back()?;
        self.frontier = file.start.max(self.next);
        self.size /= 2;
        Some((file.end - file.start, fetch))
    }
}
