//! Reading frames: on threads that may block, few at a time, and never for long.

use std::{
    io,
    ops::Range,
    os::unix::fs::FileExt,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use tokio::{sync::OwnedSemaphorePermit, task::spawn_blocking, time::timeout};

use super::{DiskCache, FrameKey, OBJECT_LEN, READS_MAX, Shared, index::Span};

/// A disk that takes longer is slower than most stores: the frames are fetched instead.
const READ_WITHIN: Duration = Duration::from_secs(1);

/// A disk that took too long is left alone for a while.
const SLOW_FOR: Duration = Duration::from_secs(10);

/// Sealed frames in a row, in memory until this is dropped.
pub struct SealedRun {
    first: u64,
    frames: Vec<Range<usize>>,
    buffer: Buffer,
}

impl SealedRun {
    /// The frames with their indices, ascending.
    pub fn frames(&self) -> impl Iterator<Item = (u64, &[u8])> {
        let bytes = |range: &Range<usize>| self.buffer.bytes.get(range.clone()).unwrap_or_default();
        (self.first..).zip(self.frames.iter().map(bytes))
    }
}

/// A buffer, with the permit for a read. Both are given back when it is dropped.
struct Buffer {
    bytes: Vec<u8>,
    shared: Arc<Shared>,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut free = self.shared.buffers.lock();
        if (free.len() as u64) < READS_MAX {
            free.push(std::mem::take(&mut self.bytes));
        }
    }
}

impl DiskCache {
    /// Reads frames in a row, from the first of `frames` on, as far as they are there and up to the
    /// bound of one read; `None` if there is none. `sealed_len` is the length of each.
    pub async fn read(
        &self,
        object: &[u8; OBJECT_LEN],
        frames: Range<u64>,
        sealed_len: impl Fn(u64) -> u64,
    ) -> Option<SealedRun> {
        let shared = &self.shared;
        let first = frames.start;
        if frames.is_empty() || shared.is_slow() {
            return None;
        }
        let spans = shared.index.lock().find(object, frames, sealed_len);
        if spans.is_empty() {
            return None;
        }
        let work = async {
            let permit = Arc::clone(&shared.reads).acquire_owned().await.ok()?;
            let shared = Arc::clone(shared);
            let read = spawn_blocking(move || read_spans(first, &spans, shared, permit));
            read.await.ok()
        };
        let Ok(read) = timeout(READ_WITHIN, work).await else {
            *shared.slow_until.lock() = Some(Instant::now() + SLOW_FOR);
            return None;
        };
        let (run, missing) = read?;
        for frame in missing {
            let object = *object;
            shared.drop_damaged(&FrameKey { object, frame });
        }
        (!run.frames.is_empty()).then_some(run)
    }

    /// Of `frames`, the first of a run of `run` that are there, or else their end. Such a run is
    /// long enough to end a request to the store before it.
    pub fn next_run(&self, object: &[u8; OBJECT_LEN], frames: Range<u64>, run: u64) -> u64 {
        match self.shared.is_slow() {
            true => frames.end,
            false => self.shared.index.lock().next_run(object, frames, run),
        }
    }

    /// Counts frames that were read and opened, and frames that are fetched instead.
    pub fn note(&self, hits: u64, misses: u64) {
        let counts = &self.shared.counts;
        counts.hits.fetch_add(hits, Ordering::Relaxed);
        counts.misses.fetch_add(misses, Ordering::Relaxed);
    }
}

impl Shared {
    pub(super) fn is_slow(&self) -> bool {
        let mut until = self.slow_until.lock();
        *until = until.filter(|until| *until > Instant::now());
        until.is_some()
    }
}

/// The frames that could be read, and those that could not.
fn read_spans(
    first: u64,
    spans: &[Span],
    shared: Arc<Shared>,
    permit: OwnedSemaphorePermit,
) -> (SealedRun, Range<u64>) {
    let bytes = shared.buffers.lock().pop().unwrap_or_default();
    let mut run = SealedRun {
        first,
        frames: Vec::with_capacity(spans.iter().map(|span| span.frames.len()).sum()),
        buffer: Buffer {
            bytes,
            shared,
            _permit: permit,
        },
    };
    let mut end = 0;
    for span in spans {
        let len = (span.bytes.end - span.bytes.start) as usize;
        if read_span(span, &mut run.buffer.bytes, end..end + len).is_err() {
            let read = first + run.frames.len() as u64;
            return (run, read..read + span.frames.len() as u64);
        }
        let place = |range: &Range<u64>| end + range.start as usize..end + range.end as usize;
        run.frames.extend(span.frames.iter().map(place));
        end += len;
    }
    let read = first + run.frames.len() as u64;
    (run, read..read)
}

fn read_span(span: &Span, buffer: &mut Vec<u8>, place: Range<usize>) -> io::Result<()> {
    if buffer.len() < place.end {
        buffer.resize(place.end, 0);
    }
    let place = buffer.get_mut(place).unwrap_or_default();
    span.segment.file.read_exact_at(place, span.bytes.start)
}
