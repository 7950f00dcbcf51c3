//! Pieces of regions: those that wait, by object, and those under way, which are kept alive here.

use std::{
    collections::VecDeque,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use futures::{FutureExt, future::BoxFuture};
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::{
    budget::Reclaim,
    data::frames::{Fetch, ObjectHandle, TO_DISK_BYTES, ToDisk, frames_len},
    meta::ObjectId,
};

/// Objects of which pieces wait.
const OBJECTS_MAX: usize = 16;

/// Pieces of one object that wait: an object of 256 MiB has as many of a MiB.
const PIECES_MAX: usize = 256;

/// The rest of a region is not fetched once the region was not read for this long.
const LEFT_AFTER: Duration = Duration::from_secs(1);

/// See the module's head.
#[derive(Default)]
pub(crate) struct RegionQueue {
    state: Mutex<State>,
    /// Pieces wait.
    has_waiting: AtomicBool,
    /// Bytes of pieces that were begun for the local disk, since it was last asked.
    pub(super) to_disk_bytes: AtomicU64,
    /// There is something to start, or to watch.
    pub(super) wake: Notify,
}

#[derive(Default)]
struct State {
    /// The one whose region was asked for last first.
    waiting: VecDeque<Rest>,
    under_way: Vec<UnderWay>,
}

/// Pieces of one object that are still to be fetched.
struct Rest {
    object: Arc<ObjectHandle>,
    pieces: VecDeque<Range<u64>>,
    to_disk: bool,
    last_read: Instant,
}

struct UnderWay {
    piece: Piece,
    is_watched: bool,
}

/// A piece of a region on its way.
pub(super) enum Piece {
    ToMemory(Arc<Fetch>),
    ToDisk(ToDisk),
}

impl Piece {
    /// Memory that it still takes.
    fn outstanding_bytes(&self) -> u64 {
        match self {
            Piece::ToMemory(fetch) => fetch.outstanding_bytes(),
            Piece::ToDisk(_) => TO_DISK_BYTES,
        }
    }

    fn has_ended(&self) -> bool {
        match self {
            Piece::ToMemory(fetch) => fetch.has_ended(),
            Piece::ToDisk(fetch) => fetch.has_ended(),
        }
    }

    fn end(&self) -> BoxFuture<'static, ()> {
        match self {
            Piece::ToMemory(fetch) => fetch.end().boxed(),
            Piece::ToDisk(fetch) => fetch.end().boxed(),
        }
    }
}

impl RegionQueue {
    /// An object was read: its region is wanted for longer.
    pub(crate) fn note_read(&self, object: ObjectId) {
        if self.has_waiting.load(Ordering::Relaxed) {
            let mut state = self.state.lock();
            let rest = state
                .waiting
                .iter_mut()
                .find(|rest| rest.object.id == object);
            if let Some(rest) = rest {
                rest.last_read = Instant::now();
            }
        }
    }

    /// Takes the piece out of the line that would bring `frame`.
    pub(super) fn take_waiting(&self, object: ObjectId, frame: u64) -> Option<Range<u64>> {
        if !self.has_waiting.load(Ordering::Relaxed) {
            return None;
        }
        let mut state = self.state.lock();
        let rest = state
            .waiting
            .iter_mut()
            .find(|rest| rest.object.id == object)?;
        let index = rest
            .pieces
            .iter()
            .position(|piece| piece.contains(&frame))?;
        rest.pieces.remove(index)
    }

    /// Puts pieces of an object in line, before all others.
    pub(crate) fn put_waiting(
        &self,
        object: &Arc<ObjectHandle>,
        pieces: Vec<Range<u64>>,
        to_disk: bool,
    ) {
        if pieces.is_empty() {
            return;
        }
        let mut state = self.state.lock();
        let known = state
            .waiting
            .iter()
            .position(|rest| rest.object.id == object.id);
        let mut rest = known
            .and_then(|index| state.waiting.remove(index))
            .unwrap_or_else(|| Rest {
                object: object.clone(),
                pieces: VecDeque::new(),
                to_disk,
                last_read: Instant::now(),
            });
        rest.to_disk = to_disk;
        rest.last_read = Instant::now();
        pieces
            .into_iter()
            .rev()
            .for_each(|piece| rest.pieces.push_front(piece));
        rest.pieces.truncate(PIECES_MAX);
        state.waiting.push_front(rest);
        state.waiting.truncate(OBJECTS_MAX);
        self.has_waiting.store(true, Ordering::Relaxed);
        drop(state);
        self.wake.notify_one();
    }

    /// The next piece, and whether it goes to the local disk, unless so many requests are on their
    /// way, or with it so many bytes.
    pub(super) fn next(
        &self,
        requests_max: usize,
        under_way_bytes_max: u64,
    ) -> Option<(Arc<ObjectHandle>, Range<u64>, bool)> {
        let mut state = self.state.lock();
        state
            .waiting
            .retain(|rest| !rest.pieces.is_empty() && rest.last_read.elapsed() < LEFT_AFTER);
        self.has_waiting
            .store(!state.waiting.is_empty(), Ordering::Relaxed);
        let under_way = state
            .under_way
            .iter()
            .map(|one| one.piece.outstanding_bytes());
        let (requests, under_way_bytes) = (state.under_way.len(), under_way.sum::<u64>());
        let rest = state.waiting.front_mut()?;
        let bytes = match rest.to_disk {
            true => TO_DISK_BYTES,
            false => frames_len(&rest.object, rest.pieces.front()?.clone()),
        };
        let is_full = requests >= requests_max || under_way_bytes + bytes > under_way_bytes_max;
        if requests > 0 && is_full {
            return None;
        }
        let piece = rest.pieces.pop_front()?;
        Some((rest.object.clone(), piece, rest.to_disk))
    }

    /// Keeps a fetch alive until it has brought everything.
    pub(crate) fn keep(&self, fetch: Arc<Fetch>) {
        self.keep_piece(Piece::ToMemory(fetch));
    }

    pub(super) fn keep_piece(&self, piece: Piece) {
        let is_watched = false;
        self.state
            .lock()
            .under_way
            .push(UnderWay { piece, is_watched });
        self.wake.notify_one();
    }

    /// Futures of the ends of pieces that are not watched yet.
    pub(super) fn unwatched(&self) -> Vec<BoxFuture<'static, ()>> {
        let mut state = self.state.lock();
        let unwatched = state
            .under_way
            .iter_mut()
            .filter(|under_way| !under_way.is_watched);
        unwatched
            .map(|under_way| {
                under_way.is_watched = true;
                under_way.piece.end()
            })
            .collect()
    }

    /// Does a frame come to the local disk?
    pub(super) fn comes_to_disk(&self, object: &ObjectHandle, frame: u64) -> bool {
        self.state.lock().under_way.iter().any(|under_way| {
            matches!(&under_way.piece, Piece::ToDisk(fetch) if fetch.brings(object, frame))
        })
    }

    /// Lets go of what has come.
    pub(super) fn sweep(&self) {
        let mut state = self.state.lock();
        let ended = state
            .under_way
            .extract_if(.., |under_way| under_way.piece.has_ended());
        let ended: Vec<_> = ended.collect();
        drop(state);
        drop(ended);
    }

    /// Pieces that wait are not fetched.
    pub(super) fn give_up_waiting(&self) {
        let mut state = self.state.lock();
        let given_up = std::mem::take(&mut state.waiting);
        self.has_waiting.store(false, Ordering::Relaxed);
        drop(state);
        drop(given_up);
    }
}

impl Reclaim for RegionQueue {
    /// Frames that have come are in the cache as well: only the memory of those still to come is
    /// given back here.
    fn reclaim(&self, bytes: u64) -> u64 {
        self.give_up_waiting();
        let mut freed = 0;
        while freed < bytes {
            // The last that began has brought least.
            let Some(last) = self.state.lock().under_way.pop() else {
                break;
            };
            freed += last.piece.outstanding_bytes();
        }
        freed
    }
}
