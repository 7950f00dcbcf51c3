//! The window of a handle: it decides what to fetch before it is asked for.
//!
//! A handle that reads on gets parallel fetches ahead of it, in file order, across objects; the
//! window starts small and doubles while reads keep hitting it, up to its share of the budget.
//!
//! Readahead only tries for memory, never waits, and gives way at once when a demand request needs
//! room.

use std::{
    collections::VecDeque,
    ops::Range,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::data::frames::Fetch;

/// The first window, in bytes.
pub(crate) const WINDOW_MIN: u64 = 256 << 10;

/// Requests are not made smaller than this to have several of a window under way.
const REQUEST_MIN: u64 = 1 << 20;

/// A window is at most a quarter of what was read in order so far, or [`EARLY_MAX`]: a reader that
/// stops after some MiB has moved at most a quarter too much. After [`CERTAIN`] bytes of sequential
/// reads the window may grow to as many bytes as were read, which far stores need.
const EARLY_SHARE: u64 = 4;
const EARLY_MAX: u64 = 768 << 10;
const CERTAIN: u64 = 8 << 20;

/// A reader that has read this much in order shows whether it reads to the end.
const TELLING: u64 = 1 << 20;

/// The end of a file begins so many parts of it before: archives end with an index that readers of
/// the rest leave out.
const END_PARTS: u64 = 8;

/// Reads that come this far out of order still count as going on: the kernel keeps several requests
/// in flight.
const REORDER_BYTES: u64 = 2 << 20;

/// A read that begins this close to the expected offset is the next one in order, whatever else is
/// read nearby.
const CONTINUED_BYTES: u64 = 256 << 10;

/// A fetch ahead of the reader.
struct Prefetched<F> {
    /// The part of the file that the fetch is for.
    file: Range<u64>,
    /// Bytes of that part that were not read yet.
    unread: u64,
    fetch: F,
}

/// A handle's window; `F` is something that brings bytes for as long as it is held.
pub(crate) struct Window<F = Arc<Fetch>> {
    /// Where the next read is expected.
    next: u64,
    /// Where the reads in order began.
    began: u64,
    /// Reads in a row that went on.
    streak: u32,
    /// Bytes to keep ahead.
    size: u64,
    /// Fetches were started up to here.
    pub(crate) frontier: u64,
    /// How many bytes were last fetched for each byte ahead: at least two where the file lies
    /// scattered over its objects, else one.
    pub(crate) spread: u64,
    /// The reader is known to read on: it need not show it first.
    is_certain: bool,
    /// The reader is expected to read on to the end: it begins with so large a window, and may have
    /// as much ahead of it as it has read. 0 if nothing is expected of it.
    expected_bytes: u64,
    /// Bytes of the file, as of the latest read.
    file_len: u64,
    /// In the order of the file.
    fetches: VecDeque<Prefetched<F>>,
    last_read: Instant,
}

impl<F: Clone> Window<F> {
    pub(crate) fn new() -> Window<F> {
        Window {
            next: 0,
            began: 0,
            streak: 0,
            size: 0,
            frontier: 0,
            spread: 1,
            is_certain: false,
            expected_bytes: 0,
            file_len: 0,
            fetches: VecDeque::new(),
            last_read: Instant::now(),
        }
    }

    /// The window of a reader that will read all of its file, by what others did, if it begins at
    /// the beginning. It has `bytes` ahead from its first read on.
    pub(crate) fn expecting_the_end(bytes: u64) -> Window<F> {
        Window {
            streak: 1,
            expected_bytes: bytes,
            ..Window::new()
        }
    }

    /// Bytes that were read in order.
    pub(crate) fn read_bytes(&self) -> u64 {
        self.next - self.began
    }

    /// Whether the reader read to the end, if it began at the beginning and showed it.
    pub(crate) fn has_read_to_the_end(&self) -> Option<bool> {
        let has_shown = self.next >= TELLING || (self.is_expected() && self.next > 0);
        let tells = self.began == 0 && has_shown;
        tells.then(|| self.next >= self.file_len - self.file_len / END_PARTS)
    }

    /// The window of a reader that is going to read on from `at` in order.
    pub(crate) fn from(at: u64) -> Window<F> {
        Window {
            next: at,
            began: at,
            frontier: at,
            streak: 1,
            is_certain: true,
            ..Window::new()
        }
    }

    /// Notes a read; returns the range that should be fetched ahead now, if any. `size_max` is the
    /// handle's share, `request_bytes` how much one request brings at most, `file_len` how long the
    /// file is. Fetches that are no longer wanted are moved to `let_go`, to be dropped when the
    /// lock on this window is not held: dropping gives memory back, and that may ask windows to
    /// give way.
    pub(crate) fn on_read(
        &mut self,
        range: Range<u64>,
        size_max: u64,
        request_bytes: u64,
        file_len: u64,
        let_go: &mut Vec<F>,
    ) -> Option<Range<u64>> {
        self.last_read = Instant::now();
        self.file_len = file_len;
        if self.is_expected() && self.next == 0 && range.start > 0 {
            (self.expected_bytes, self.streak) = (0, 0);
        }
        if !self.goes_on(&range) {
            self.streak = 0;
            self.expected_bytes = 0;
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
        // For each request that was read one more is made. If half a window were asked for at once,
        // it would arrive at once and be read at once, and the link would lie idle until the first
        // byte of the next half. A scattered file is better asked for in large pieces: each object
        // that it lies in is asked once a piece.
        let ahead = self.frontier - self.next;
        // A window that cannot grow to more than a request is asked for as a whole when it is used
        // up: others are served meanwhile.
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
        self.size = (self.size * 2).max(self.size_min());
        // A scattered piece takes more memory than it is long, and its frames are held until the
        // next piece has come.
        let size_max = (2 * size_max / self.spread).min(size_max);
        self.size = self.size.min(self.earned(self.next)).min(size_max);
        (ahead < self.size).then(|| self.frontier..self.next + self.size)
    }

    fn is_expected(&self) -> bool {
        self.expected_bytes > 0
    }

    fn goes_on(&self, read: &Range<u64>) -> bool {
        read.start <= self.next + REORDER_BYTES && read.start + REORDER_BYTES >= self.next
    }

    /// Is this read the next of some in order? The first of a reader of which much is expected is
    /// not: small files are best fetched with their neighbours.
    pub(crate) fn is_continued_by(&self, read: &Range<u64>) -> bool {
        let is_first = self.is_expected() && self.next == 0;
        self.streak > 0 && !is_first && read.start.abs_diff(self.next) <= CONTINUED_BYTES
    }

    /// The first window.
    fn size_min(&self) -> u64 {
        self.expected_bytes.max(WINDOW_MIN)
    }

    /// Bytes that may be ahead of a reader in order that is at `next`.
    fn earned(&self, next: u64) -> u64 {
        let read = next.saturating_sub(self.began);
        if self.is_certain {
            u64::MAX
        } else if self.is_expected() {
            read.max(self.expected_bytes)
        } else if read < CERTAIN {
            (read.saturating_sub(WINDOW_MIN) / EARLY_SHARE).max(EARLY_MAX)
        } else {
            read
        }
    }

    /// How much should come with what `read` misses, up to `max`, given that it has to wait for it:
    /// what the window would have held by now.
    pub(crate) fn onward(&self, read: &Range<u64>, max: u64) -> u64 {
        let in_order = self.streak > 0 && self.goes_on(read) && read.end > self.next;
        if !in_order || self.spread > 1 || self.frontier > read.end {
            return 0;
        }
        (self.size * 2)
            .max(self.size_min())
            .min(self.earned(read.end))
            .min(max)
    }

    /// Lets go of fetches that were read, or passed by: they are of no more use.
    fn let_go_of_read(&mut self, read: Range<u64>, let_go: &mut Vec<F>) {
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

    pub(crate) fn push(&mut self, range: Range<u64>, fetch: F) {
        self.frontier = self.frontier.max(range.end);
        self.fetches.push_back(Prefetched {
            unread: range.end - range.start,
            file: range,
            fetch,
        });
    }

    pub(crate) fn idle_for(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.last_read)
    }

    /// Does it hold anything?
    pub(crate) fn is_active(&self) -> bool {
        !self.fetches.is_empty()
    }

    /// A read was answered.
    pub(crate) fn answered(&mut self) {
        self.last_read = Instant::now();
    }

    /// Lets the fetch go that is furthest ahead, if it still holds `keep_bytes` then.
    pub(crate) fn shrink(&mut self, keep_bytes: u64) -> Option<(u64, F)> {
        let held: u64 = self.fetches.iter().map(Prefetched::len).sum();
        let last = self
            .fetches
            .pop_back_if(|last| held - last.len() >= keep_bytes)?;
        self.frontier = last.file.start.max(self.next);
        self.size /= 2;
        Some((last.len(), last.fetch))
    }
}

impl<F> Prefetched<F> {
    fn len(&self) -> u64 {
        self.file.end - self.file.start
    }
}

#[cfg(test)]
#[path = "window_tests.rs"]
mod tests;
