//! The queue of exchanges, and the thread that writes them.
//!
//! A request pays for a lock that nobody holds while the disk works, and for a copy of some hundred
//! bytes. All that the disk does or does not do happens to the thread.

use std::{
    collections::VecDeque,
    fmt, io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex};
use serde::{Deserialize, Serialize};

use super::{
    copy::copy,
    exchange::Exchange,
    har,
    place::{RecordFile, is_full},
    pseudonyms::Pseudonyms,
    ring::{PAGE_BYTES, Ring},
};
use crate::clock::Timestamp;

/// The smallest file.
pub const SIZE_MIN_BYTES: u64 = 64 << 10;

/// Exchanges that wait to be written, at most: what a disk that stands still for a second costs at
/// a thousand requests a second.
const QUEUE_LEN: usize = 1024;

/// The memory of a recording: the queue, the page, and the buffers of the last copy.
pub const MEMORY_BYTES: u64 = (QUEUE_LEN * size_of::<Exchange>() + 64 * PAGE_BYTES) as u64;

/// The pause after the disk refused something.
const PAUSE: Duration = Duration::from_secs(2);

/// How much is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordPlan {
    /// Minutes.
    pub minutes: u64,
    /// Bytes of the file, at most.
    pub size_bytes: u64,
}

/// A recording as `status` shows it. Field names are the stable JSON keys.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordingStatus {
    /// The file.
    pub file: String,
    /// How many minutes it keeps.
    pub minutes: u64,
    /// How large it may be.
    pub bound_bytes: u64,
    /// Requests that were recorded. Older ones have been written over.
    pub recorded: u64,
    /// Requests that were not, because the disk was too slow or too full.
    pub dropped: u64,
    /// Why nothing is recorded at present, if so.
    pub trouble: Option<String>,
}

/// A recording under way. Cheap to clone.
#[derive(Clone)]
pub struct Recorder {
    shared: Arc<Shared>,
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorder")
            .field("path", &self.shared.path)
            .finish_non_exhaustive()
    }
}

struct Shared {
    path: PathBuf,
    plan: RecordPlan,
    pseudonyms: Pseudonyms,
    numbers: AtomicU64,
    waiting: Mutex<Waiting>,
    changed: Condvar,
    recorded: AtomicU64,
    dropped: AtomicU64,
    trouble: Mutex<Option<String>>,
}

struct Waiting {
    exchanges: VecDeque<Exchange>,
    /// Nothing more comes.
    is_closed: bool,
    /// The thread has ended.
    is_done: bool,
}

impl Recorder {
    /// Begins a recording in `file`, with a key of its own.
    ///
    /// # Errors
    /// The system gives no randomness, or no thread.
    pub fn start(file: RecordFile, plan: RecordPlan) -> io::Result<Recorder> {
        let shared = Arc::new(Shared {
            path: file.path().to_path_buf(),
            plan,
            pseudonyms: Pseudonyms::new().map_err(|error| io::Error::other(error.to_string()))?,
            numbers: AtomicU64::new(0),
            waiting: Mutex::new(Waiting {
                exchanges: VecDeque::with_capacity(QUEUE_LEN),
                is_closed: false,
                is_done: false,
            }),
            changed: Condvar::new(),
            recorded: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            trouble: Mutex::new(None),
        });
        let writer = Writer {
            shared: Arc::clone(&shared),
            file,
            ring: None,
            entry: Vec::with_capacity(PAGE_BYTES),
            paused_until: None,
        };
        thread::Builder::new()
            .name("recording".to_owned())
            .spawn(move || writer.run())?;
        Ok(Recorder { shared })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.shared.path
    }

    /// The names and hashes of this recording.
    pub fn pseudonyms(&self) -> &Pseudonyms {
        &self.shared.pseudonyms
    }

    /// The number of a request that begins now.
    pub fn number(&self) -> u64 {
        self.shared.numbers.fetch_add(1, Ordering::Relaxed)
    }

    /// Records an exchange, or counts that it could not.
    pub fn push(&self, exchange: Exchange) {
        let mut waiting = self.shared.waiting.lock();
        let has_room = !waiting.is_closed && waiting.exchanges.len() < QUEUE_LEN;
        if has_room {
            waiting.exchanges.push_back(exchange);
        }
        drop(waiting);
        match has_room {
            true => {
                self.shared.changed.notify_all();
            }
            false => self.shared.count_dropped(1),
        }
    }

    /// The counts now.
    pub fn status(&self) -> RecordingStatus {
        let shared = &self.shared;
        RecordingStatus {
            file: shared.path.display().to_string(),
            minutes: shared.plan.minutes,
            bound_bytes: shared.plan.size_bytes,
            recorded: shared.recorded.load(Ordering::Relaxed),
            dropped: shared.dropped.load(Ordering::Relaxed),
            trouble: shared.trouble.lock().clone(),
        }
    }

    /// Ends the recording and puts its last minutes together. Waits for that so long at most, and
    /// returns whether it is done; until then the file is whole all the same. Blocks the thread.
    pub fn finish(&self, within: Duration) -> bool {
        let until = Instant::now() + within;
        let mut waiting = self.shared.waiting.lock();
        waiting.is_closed = true;
        self.shared.changed.notify_all();
        while !waiting.is_done {
            if self
                .shared
                .changed
                .wait_until(&mut waiting, until)
                .timed_out()
            {
                break;
            }
        }
        waiting.is_done
    }
}

impl Shared {
    fn count_dropped(&self, count: u64) {
        self.dropped.fetch_add(count, Ordering::Relaxed);
    }

    fn count_recorded(&self, count: u64) {
        self.recorded.fetch_add(count, Ordering::Relaxed);
    }

    fn next(&self) -> Option<Exchange> {
        self.waiting.lock().exchanges.pop_front()
    }

    /// Waits for an exchange. False once none comes any more.
    fn wait(&self) -> bool {
        let mut waiting = self.waiting.lock();
        loop {
            if !waiting.exchanges.is_empty() {
                return true;
            }
            if waiting.is_closed {
                return false;
            }
            self.changed.wait(&mut waiting);
        }
    }
}

/// The thread's state.
struct Writer {
    shared: Arc<Shared>,
    file: RecordFile,
    ring: Option<Ring>,
    entry: Vec<u8>,
    paused_until: Option<Instant>,
}

impl Writer {
    fn run(mut self) {
        self.begin();
        loop {
            while let Some(exchange) = self.shared.next() {
                self.add(&exchange);
            }
            self.flush();
            if !self.shared.wait() {
                break;
            }
        }
        self.end();
        let shared = Arc::clone(&self.shared);
        // The lock on the file goes before anybody is told that this is over.
        drop(self);
        shared.waiting.lock().is_done = true;
        shared.changed.notify_all();
    }

    fn add(&mut self, exchange: &Exchange) {
        if self.is_paused() || !self.begin() {
            self.shared.count_dropped(1);
            return;
        }
        let (Some(ring), Some(file)) = (&mut self.ring, self.file.current()) else {
            return;
        };
        har::write_entry(exchange, &mut self.entry);
        match ring.append(file, &self.entry) {
            Ok(written) => self.shared.count_recorded(written),
            Err(error) => {
                self.shared.count_dropped(ring.forget() + 1);
                self.failed(&error);
            }
        }
    }

    fn flush(&mut self) {
        let (Some(ring), Some(file)) = (&mut self.ring, self.file.current()) else {
            return;
        };
        match ring.flush(file) {
            Ok(0) => {}
            Ok(written) => {
                self.shared.count_recorded(written);
                *self.shared.trouble.lock() = None;
            }
            Err(error) => {
                self.shared.count_dropped(ring.forget());
                self.failed(&error);
            }
        }
    }

    /// Makes the document, unless it is there; false if that is not possible now.
    fn begin(&mut self) -> bool {
        if self.ring.is_some() {
            return true;
        }
        let plan = self.shared.plan;
        let head = har::head(plan.minutes, Timestamp::now());
        let made = self
            .file
            .replace(|_, file| Ring::make(file, plan.size_bytes, &head));
        match made {
            Ok(ring) => {
                self.ring = Some(ring);
                *self.shared.trouble.lock() = None;
                true
            }
            Err(error) => {
                self.failed(&error);
                false
            }
        }
    }

    /// Puts what is kept together. If that is not possible, the file stays as it is, which is a
    /// whole document too.
    fn end(&mut self) {
        if self.ring.is_none() {
            return;
        }
        let copied = self.file.replace(|there, file| match there {
            Some(there) => copy(there, file),
            None => Err(io::ErrorKind::NotFound.into()),
        });
        if let Err(error) = copied {
            tracing::debug!("the recording keeps its gaps: {error}");
        }
    }

    fn failed(&mut self, error: &io::Error) {
        let why = match is_full(error) {
            true => format!("no room for the recording: {error}"),
            false => format!("the recording cannot be written: {error}"),
        };
        let before = self.shared.trouble.lock().replace(why.clone());
        if before.is_none() {
            tracing::warn!("{why}; requests are left out of it and counted");
        }
        self.paused_until = Some(Instant::now() + PAUSE);
    }

    fn is_paused(&mut self) -> bool {
        self.paused_until = self.paused_until.filter(|until| *until > Instant::now());
        self.paused_until.is_some()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::record::har::tests::largest;

    const PLAN: RecordPlan = RecordPlan {
        minutes: 10,
        size_bytes: SIZE_MIN_BYTES,
    };

    fn numbered(number: u64) -> Exchange {
        Exchange {
            number,
            started: Timestamp::now(),
            ..largest()
        }
    }

    #[test]
    fn a_disk_that_stands_still_costs_entries_which_are_counted_and_holds_nobody_up() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = RecordFile::open(&dir.path().join("r.har")).expect("opened");
        let recorder = Recorder::start(file, PLAN).expect("started");
        let capacity = recorder.shared.waiting.lock().exchanges.capacity();
        // The thread gets no further than to where it wants to say that all is well.
        let stuck = recorder.shared.trouble.lock();
        let pushed = 20 * QUEUE_LEN as u64;
        for number in 0..pushed {
            recorder.push(numbered(number));
        }
        let dropped = recorder.shared.dropped.load(Ordering::Relaxed);
        assert!(dropped > 0, "none was dropped");
        assert_eq!(
            recorder.shared.waiting.lock().exchanges.capacity(),
            capacity
        );
        drop(stuck);
        assert!(recorder.finish(Duration::from_secs(60)));
        let status = recorder.status();
        assert_eq!(
            status.recorded + status.dropped,
            pushed,
            "none is lost uncounted"
        );
        assert!(status.recorded >= QUEUE_LEN as u64);
        recorder.push(numbered(pushed));
        assert_eq!(recorder.status().dropped, status.dropped + 1, "it is over");
    }

    #[test]
    fn the_file_never_grows_and_holds_the_newest_when_it_is_over() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("r.har");
        let file = RecordFile::open(&path).expect("opened");
        let recorder = Recorder::start(file, PLAN).expect("started");
        for number in 0..500 {
            recorder.push(numbered(number));
            if let Ok(meta) = fs::metadata(&path) {
                assert!(meta.len() <= SIZE_MIN_BYTES);
            }
        }
        assert!(recorder.finish(Duration::from_secs(60)));
        let text = fs::read(&path).expect("there");
        assert!(text.len() as u64 <= SIZE_MIN_BYTES);
        let document: serde_json::Value = serde_json::from_slice(&text).expect("JSON");
        let entries = document["log"]["entries"].as_array().expect("entries");
        let last = entries.last().expect("an entry");
        assert_eq!(last["_number"], 499);
        assert!(entries.len() > 20, "{}", entries.len());
        assert_eq!(fs::read_dir(dir.path()).expect("listed").count(), 1);
    }
}
