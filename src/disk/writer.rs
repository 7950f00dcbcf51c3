//! The thread that writes and evicts, and the queue before it.

use std::{
    collections::{BTreeMap, VecDeque},
    io,
    os::unix::fs::FileExt,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex};
use tokio::sync::Notify;

use super::{
    FrameKey, Shared,
    place::Place,
    segment::{self, ENTRY_HEADER_LEN, Segment, encode, entries, header_of, read_entry, table_len},
};

/// How often the space of the filesystem is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// The pause in writing after a write failed.
const PAUSE: Duration = Duration::from_secs(1);

/// One part in so many of the filesystem stays free.
const FREE_SHARE: u64 = 10;

/// Files that are open at most, those included that ended early.
pub(crate) const SEGMENTS_MAX: usize = 192;

/// An index that is full covers at least so many segments, so that evicting one is a small loss.
const FULL_INDEX_SEGMENTS: usize = 32;

/// The space of a file on the filesystem is a multiple of this.
const BLOCK_BYTES: u64 = 4096;

/// The part of the size that is kept for directories and the lock.
const DIRECTORIES_BYTES: u64 = 64 << 10;

/// Sealed frames that wait to be written.
pub(super) struct Queue {
    state: Mutex<Waiting>,
    changed: Condvar,
    /// Notified when a frame was taken out, or the queue was closed.
    pub(super) has_room: Notify,
    bytes_max: u64,
}

/// A sealed frame that waits.
struct Queued {
    key: FrameKey,
    /// As it is written.
    bytes: Vec<u8>,
    is_guess: bool,
}

/// The outcome for a frame that was to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pushed {
    Taken,
    Full,
    Closed,
}

#[derive(Default)]
struct Waiting {
    entries: VecDeque<Queued>,
    /// Bytes of the frames that wait, and of the one that is being written.
    bytes: u64,
    closed: bool,
}

enum Next {
    Entry(Queued),
    Nothing,
    Closed,
}

impl Queue {
    pub(super) fn new(bytes_max: u64) -> Queue {
        Queue {
            state: Mutex::default(),
            changed: Condvar::new(),
            has_room: Notify::new(),
            bytes_max,
        }
    }

    /// Puts a frame behind those that wait, if there is room. Guesses wait for room and get half of
    /// the queue, so that there is room at once for frames that a reader has asked for.
    pub(super) fn push(&self, key: FrameKey, sealed: &[u8], is_guess: bool) -> Pushed {
        let cost = cost(segment::entry_len(sealed.len() as u64));
        {
            let mut state = self.state.lock();
            if state.closed {
                return Pushed::Closed;
            }
            let bytes_max = self.bytes_max / if is_guess { 2 } else { 1 };
            if state.bytes + cost > bytes_max {
                return Pushed::Full;
            }
            state.bytes += cost;
        }
        // Encoding copies the frame, so it is not done under the lock.
        let entry = Queued {
            key,
            bytes: encode(&key, sealed),
            is_guess,
        };
        self.state.lock().entries.push_back(entry);
        self.changed.notify_one();
        Pushed::Taken
    }

    pub(super) fn bytes(&self) -> u64 {
        self.state.lock().bytes
    }

    pub(super) fn close(&self) {
        self.state.lock().closed = true;
        self.changed.notify_one();
        self.has_room.notify_waiters();
    }

    fn next(&self, until: Instant) -> Next {
        let mut state = self.state.lock();
        loop {
            if let Some(entry) = state.entries.pop_front() {
                return Next::Entry(entry);
            }
            if state.closed {
                return Next::Closed;
            }
            if self.changed.wait_until(&mut state, until).timed_out() {
                return Next::Nothing;
            }
        }
    }

    fn written(&self, entry_len: usize) {
        self.state.lock().bytes -= cost(entry_len as u64);
        self.has_room.notify_waiters();
    }
}

/// The allocator rounds up by at most a quarter.
fn cost(entry_len: u64) -> u64 {
    entry_len + entry_len / 4
}

/// The thread's state: the place, and the segments in it.
pub(super) struct Writer {
    place: Place,
    shared: Arc<Shared>,
    /// Segments that are not written any more, and their bytes.
    kept: BTreeMap<u32, u64>,
    /// Segments that were removed and may still be read from.
    leaving: Vec<(Arc<Segment>, u64)>,
    active: Option<Active>,
    next_number: u32,
    paused_until: Option<Instant>,
}

/// The segment that is being written.
struct Active {
    segment: Arc<Segment>,
    len: u64,
    /// The headers of its entries.
    headers: Vec<u8>,
}

impl Active {
    fn entries(&self) -> u64 {
        self.headers.len() as u64 / ENTRY_HEADER_LEN
    }
}

impl Writer {
    pub(super) fn new(place: Place, shared: Arc<Shared>) -> Writer {
        Writer {
            place,
            shared,
            kept: BTreeMap::new(),
            leaving: Vec::new(),
            active: None,
            next_number: 0,
            paused_until: None,
        }
    }

    /// Indexes the segments that are there, and writes frames until the queue is closed.
    pub(super) fn run(mut self) {
        if let Err(error) = self.find() {
            self.has_trouble(&error);
        }
        let mut look_at = Instant::now();
        loop {
            if Instant::now() >= look_at {
                self.leave_room_for(0);
                look_at = Instant::now() + LOOK_EVERY;
            }
            match self.shared.queue.next(look_at) {
                Next::Entry(entry) => {
                    if !self.add(&entry) {
                        let not_filled = &self.shared.counts.not_filled;
                        not_filled.fetch_add(1, Ordering::Relaxed);
                    }
                    self.shared.queue.written(entry.bytes.len());
                }
                Next::Nothing => {}
                Next::Closed => break,
            }
        }
        if let Err(error) = self.end_active() {
            tracing::debug!("disk cache: the last segment has no table: {error}");
        }
    }

    /// Indexes the segments of earlier mounts, the newest first, as far as they fit.
    fn find(&mut self) -> io::Result<()> {
        let numbers = self.place.segments()?;
        self.next_number = numbers.last().map_or(0, |last| last.wrapping_add(1));
        let room = self.size_bytes().saturating_sub(self.segment_bytes());
        for number in numbers.into_iter().rev() {
            let found = self.place.open_segment(number);
            let bytes = found.as_ref().map_or(0, |(_, len)| on_disk(*len));
            let fits = self.kept.len() < SEGMENTS_MAX && self.used_bytes() + bytes <= room;
            let is_indexed = found.is_ok_and(|(file, len)| fits && self.index(number, file, len));
            if is_indexed {
                self.kept.insert(number, bytes);
            } else {
                self.place.remove(number)?;
            }
            self.count_bytes();
        }
        Ok(())
    }

    /// False if nothing of the segment can be found.
    fn index(&self, number: u32, file: std::fs::File, len: u64) -> bool {
        let found = entries(&file, len).unwrap_or_default();
        let mut index = self.shared.index.lock();
        if found.is_empty() || index.is_full() {
            return false;
        }
        index.add_segment(Arc::new(Segment { number, file }));
        for entry in found {
            // A newer segment has the entry too if it was read and moved there.
            if !index.contains(&entry.key) {
                index.insert(&entry.key, number, entry.at, false);
            }
        }
        true
    }

    /// Writes an entry; false if it is not to be.
    fn add(&mut self, entry: &Queued) -> bool {
        if self.is_paused() || self.shared.index.lock().contains(&entry.key) {
            return false;
        }
        if !self.has_room_in_active(entry.bytes.len() as u64) && !self.begin() {
            return false;
        }
        while self.shared.index.lock().is_full() {
            if !self.evict_oldest(false) {
                return false;
            }
        }
        self.append(entry)
    }

    fn append(&mut self, entry: &Queued) -> bool {
        let Some(active) = &mut self.active else {
            return false;
        };
        if let Err(error) = active.segment.file.write_all_at(&entry.bytes, active.len) {
            self.failed(&error);
            return false;
        }
        let at = active.len;
        active.len += entry.bytes.len() as u64;
        active.headers.extend_from_slice(header_of(&entry.bytes));
        let number = active.segment.number;
        let mut index = self.shared.index.lock();
        index.insert(&entry.key, number, at, entry.is_guess);
        drop(index);
        let filled = &self.shared.counts.filled_bytes;
        filled.fetch_add(entry.bytes.len() as u64, Ordering::Relaxed);
        self.count_bytes();
        true
    }

    fn has_room_in_active(&self, entry_len: u64) -> bool {
        let entries_max = (self.shared.plan.entries_max / FULL_INDEX_SEGMENTS) as u64;
        self.active.as_ref().is_some_and(|active| {
            let table = table_len(active.entries() + 1);
            active.entries() < entries_max && active.len + entry_len + table <= self.segment_bytes()
        })
    }

    /// Ends the active segment and begins another, for which there is room; then evicts the oldest,
    /// so that there is room for the next. Entries of the oldest that were read move into the new
    /// one.
    fn begin(&mut self) -> bool {
        if let Err(error) = self.end_active() {
            self.failed(&error);
            return false;
        }
        if !self.leave_room_for(self.segment_bytes()) {
            *self.shared.trouble.lock() =
                Some("less than a tenth of the filesystem is free".to_owned());
            return false;
        }
        self.forget_left();
        // One is evicted at a time: space that readers hold is free in a moment.
        if !self.fits_one_more() {
            self.evict_oldest(false);
            if !self.fits_one_more() {
                return false;
            }
        }
        let number = self.next_number;
        match self.place.create(number) {
            Ok(file) => {
                let segment = Arc::new(Segment { number, file });
                self.shared.index.lock().add_segment(Arc::clone(&segment));
                self.active = Some(Active {
                    segment,
                    len: 0,
                    headers: Vec::new(),
                });
            }
            Err(error) => {
                self.failed(&error);
                return false;
            }
        }
        self.next_number = number.wrapping_add(1);
        *self.shared.trouble.lock() = None;
        while self.kept_bytes() + 2 * self.segment_bytes() > self.size_bytes() {
            self.evict_oldest(true);
        }
        true
    }

    /// Writes the table of the active segment, and keeps it.
    fn end_active(&mut self) -> io::Result<()> {
        let Some(active) = self.active.take() else {
            return Ok(());
        };
        let table = segment::encode_table(&active.headers, active.len);
        let written = active.segment.file.write_all_at(&table, active.len);
        let len = active.len + table.len() as u64;
        self.kept.insert(active.segment.number, on_disk(len));
        self.count_bytes();
        written
    }

    /// Makes the oldest segment one that cannot be found, and removes it; false if there is none.
    fn evict_oldest(&mut self, keep_what_was_read: bool) -> bool {
        let Some((number, bytes)) = self.kept.pop_first() else {
            return false;
        };
        let evicted = self.shared.index.lock().evict(number);
        if let Err(error) = self.place.remove(number)
            && error.kind() != io::ErrorKind::NotFound
        {
            self.has_trouble(&error);
        }
        if let Some(evicted) = evicted {
            if keep_what_was_read {
                self.move_read(&evicted.segment, &evicted.read);
            }
            self.leaving.push((evicted.segment, bytes));
        }
        self.forget_left();
        self.count_bytes();
        true
    }

    /// Moves entries to the active segment, up to half of it.
    fn move_read(&mut self, from: &Segment, places: &[u64]) {
        let half = self.segment_bytes() / 2;
        for at in places {
            if self.active.as_ref().is_none_or(|active| active.len >= half) {
                return;
            }
            let Ok(Some(entry)) = read_entry(&from.file, *at, u64::MAX) else {
                continue;
            };
            let mut bytes = vec![0; segment::entry_len(entry.sealed_len) as usize];
            if from.file.read_exact_at(&mut bytes, *at).is_ok() {
                let moved = Queued {
                    key: entry.key,
                    bytes,
                    is_guess: false,
                };
                self.append(&moved);
            }
        }
    }

    /// Evicts until a tenth of the filesystem and `bytes` are free; false if that is not enough.
    fn leave_room_for(&mut self, bytes: u64) -> bool {
        self.forget_left();
        let Ok(space) = self.place.space() else {
            return false;
        };
        let wanted = space.total_bytes / FREE_SHARE + bytes;
        let mut missing = wanted.saturating_sub(space.available_bytes);
        while missing > 0 {
            if self.kept.is_empty() {
                // It is evicted next, whether or not its end is whole.
                let _ = self.end_active();
            }
            let Some(bytes) = self.kept.first_key_value().map(|(_, bytes)| *bytes) else {
                return false;
            };
            missing = missing.saturating_sub(bytes);
            self.evict_oldest(false);
        }
        true
    }

    /// A write failed: the segment ends where it was whole, and the oldest one makes room.
    fn failed(&mut self, error: &io::Error) {
        self.has_trouble(error);
        if let Some(active) = self.active.take() {
            // Otherwise the next mount finds its torn end.
            let _ = active.segment.file.set_len(active.len);
            self.kept.insert(active.segment.number, on_disk(active.len));
        }
        self.evict_oldest(false);
        self.paused_until = Some(Instant::now() + PAUSE);
    }

    fn is_paused(&mut self) -> bool {
        self.paused_until = self.paused_until.filter(|until| *until > Instant::now());
        self.paused_until.is_some()
    }

    fn has_trouble(&self, error: &io::Error) {
        let before = self.shared.trouble.lock().replace(error.to_string());
        if before.is_none() {
            tracing::debug!("disk cache: {error}");
        }
    }

    fn fits_one_more(&self) -> bool {
        let active = self.active.as_ref().map_or(0, |_| self.segment_bytes());
        let files = self.kept.len() + self.leaving.len();
        self.used_bytes() + active + self.segment_bytes() <= self.size_bytes()
            && files < SEGMENTS_MAX
    }

    /// Bytes of all segments but the active one.
    fn used_bytes(&self) -> u64 {
        let leaving: u64 = self.leaving.iter().map(|(_, bytes)| bytes).sum();
        self.kept_bytes() + leaving
    }

    fn kept_bytes(&self) -> u64 {
        self.kept.values().sum()
    }

    fn forget_left(&mut self) {
        self.leaving
            .retain(|(segment, _)| Arc::strong_count(segment) > 1);
    }

    fn count_bytes(&self) {
        let active = self.active.as_ref().map_or(0, |active| on_disk(active.len));
        let bytes = self.used_bytes() + active;
        self.shared.counts.bytes.store(bytes, Ordering::Relaxed);
    }

    fn segment_bytes(&self) -> u64 {
        self.shared.plan.segment_bytes()
    }

    fn size_bytes(&self) -> u64 {
        self.shared.plan.size_bytes - DIRECTORIES_BYTES
    }
}

fn on_disk(len: u64) -> u64 {
    len.next_multiple_of(BLOCK_BYTES)
}
