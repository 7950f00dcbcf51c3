//! Regions on their way: what the policy of density fetches along with a miss, kept alive beyond the read that missed.
//!
//! A region is asked for in pieces, some at a time. A piece is paid for when it begins: out of what is free, then out of frames that were not used
//! for longest. When there is no room for a piece, or somebody else needs some, the rest is given up.

use std::{
    collections::VecDeque,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use futures::{StreamExt, stream::FuturesUnordered};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::{
    Inner,
    density::{Miss, Requests, Sizes, requests},
    fetch::{Fetch, Kept},
    object::ObjectHandle,
    plan::frames_len,
};
use crate::{
    budget::{Owner, Reclaim, Reservation},
    meta::ObjectId,
};

/// Objects of which pieces wait.
const OBJECTS_MAX: usize = 16;

/// Pieces of one object that wait: an object of 256 MiB has as many of a MiB.
const PIECES_MAX: usize = 256;

/// What is left of a region that was not read for this long is not fetched.
const LEFT_AFTER: Duration = Duration::from_secs(1);

/// See the module's head.
#[derive(Default)]
pub(super) struct Along {
    state: Mutex<State>,
    /// Pieces wait.
    has_waiting: AtomicBool,
    /// There is something to start, or to watch.
    wake: Notify,
}

#[derive(Default)]
struct State {
    /// The one whose region was asked for last first.
    waiting: VecDeque<Rest>,
    under_way: Vec<UnderWay>,
}

/// What is to be fetched of one object.
struct Rest {
    object: Arc<ObjectHandle>,
    pieces: VecDeque<Range<u64>>,
    last_read: Instant,
}

struct UnderWay {
    fetch: Arc<Fetch>,
    is_watched: bool,
}

/// The requests for one run of missed frames, and what pays for more than these.
pub(super) struct Region {
    pub(super) requests: Requests,
    pub(super) beyond: Option<Reservation>,
}

impl Along {
    /// An object was read: its region is wanted for longer.
    pub(super) fn note_read(&self, object: ObjectId) {
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
    fn take_waiting(&self, object: ObjectId, frame: u64) -> Option<Range<u64>> {
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
    pub(super) fn put_waiting(&self, object: &Arc<ObjectHandle>, pieces: Vec<Range<u64>>) {
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
                last_read: Instant::now(),
            });
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

    /// The next piece, unless so many requests are on their way, or with it so many bytes.
    fn next(
        &self,
        requests_max: usize,
        under_way_bytes_max: u64,
    ) -> Option<(Arc<ObjectHandle>, Range<u64>)> {
        let mut state = self.state.lock();
        state
            .waiting
            .retain(|rest| !rest.pieces.is_empty() && rest.last_read.elapsed() < LEFT_AFTER);
        self.has_waiting
            .store(!state.waiting.is_empty(), Ordering::Relaxed);
        let under_way = state
            .under_way
            .iter()
            .map(|one| one.fetch.outstanding_bytes());
        let (requests, under_way_bytes) = (state.under_way.len(), under_way.sum::<u64>());
        let rest = state.waiting.front_mut()?;
        let bytes = frames_len(&rest.object, rest.pieces.front()?.clone());
        let is_full = requests >= requests_max || under_way_bytes + bytes > under_way_bytes_max;
        if requests > 0 && is_full {
            return None;
        }
        let piece = rest.pieces.pop_front()?;
        Some((rest.object.clone(), piece))
    }

    /// Keeps a fetch alive until it has brought everything.
    pub(super) fn keep(&self, fetch: Arc<Fetch>) {
        let is_watched = false;
        self.state
            .lock()
            .under_way
            .push(UnderWay { fetch, is_watched });
        self.wake.notify_one();
    }

    /// Those that nobody waits for the end of yet.
    fn unwatched(&self) -> Vec<Arc<Fetch>> {
        let mut state = self.state.lock();
        let unwatched = state
            .under_way
            .iter_mut()
            .filter(|under_way| !under_way.is_watched);
        unwatched
            .map(|under_way| {
                under_way.is_watched = true;
                under_way.fetch.clone()
            })
            .collect()
    }

    /// Lets go of what has come.
    fn sweep(&self) {
        let mut state = self.state.lock();
        let ended = state
            .under_way
            .extract_if(.., |under_way| under_way.fetch.has_ended());
        let ended: Vec<_> = ended.collect();
        drop(state);
        drop(ended);
    }

    /// Pieces that wait are not fetched.
    fn give_up_waiting(&self) {
        let mut state = self.state.lock();
        let given_up = std::mem::take(&mut state.waiting);
        self.has_waiting.store(false, Ordering::Relaxed);
        drop(state);
        drop(given_up);
    }
}

impl Reclaim for Along {
    /// What has come is in the cache as well: only what is still to come is given back here.
    fn reclaim(&self, bytes: u64) -> u64 {
        self.give_up_waiting();
        let mut freed = 0;
        while freed < bytes {
            // The last that began has brought least.
            let Some(last) = self.state.lock().under_way.pop() else {
                break;
            };
            freed += last.fetch.outstanding_bytes();
        }
        freed
    }
}

impl Inner {
    /// What to ask for in place of a run of frames that a read misses, and is about to fetch.
    pub(super) fn region_of(&self, object: &Arc<ObjectHandle>, missed: &Range<u64>) -> Region {
        let cost = self.link.cost();
        let memory = self.frames_bytes_max();
        let mut miss = Miss {
            object: object.id,
            frames: missed.clone(),
            object_frames: object.layout.frame_count(),
            frame_len: object.layout.frame_len(),
            was_evicted: false,
        };
        let region = match self.along.take_waiting(object.id, missed.start) {
            Some(piece) => piece.start.min(missed.start)..piece.end.max(missed.end),
            None => {
                let (outcome, was_evicted) = self.cache.outcome((object.id, missed.start));
                miss.was_evicted = was_evicted;
                let mut density = self.density.lock();
                density.on_miss(&miss, &cost, memory, outcome)
            }
        };
        let sizes = Sizes::new(memory, self.link.is_far(), miss.frame_len);
        let is_here = |frame| self.is_here(object, frame);
        let mut requests = requests(&region, &miss, &cost, sizes, is_here);
        let beyond_bytes =
            frames_len(object, requests.first.clone()) - frames_len(object, missed.clone());
        let beyond = match beyond_bytes {
            0 => None,
            bytes => self.room_along(bytes),
        };
        if beyond_bytes > 0 && beyond.is_none() {
            requests.first = missed.clone();
            requests.then.clear();
        }
        Region { requests, beyond }
    }

    /// What frames can take at most as long as nobody else takes more.
    fn frames_bytes_max(&self) -> u64 {
        let others_ahead = self
            .governor
            .used_bytes(Owner::Cache)
            .saturating_sub(self.cache.bytes());
        let readable = self.governor.reach_bytes(Owner::Read, Owner::Cache);
        readable.saturating_sub(others_ahead)
    }

    /// Room for frames that nobody waits for: what is free, and what was not used for longest.
    pub(super) fn room_along(&self, bytes: u64) -> Option<Reservation> {
        loop {
            if let Some(reservation) = self.governor.try_acquire_spare(Owner::Read, bytes) {
                return Some(reservation);
            }
            // What were given up now would go to whoever waits.
            let governor = &self.governor;
            let somebody_waits = Owner::ALL
                .into_iter()
                .any(|owner| governor.has_waiters(owner));
            if somebody_waits
                || (self.blocks.reclaim(bytes) < bytes && self.cache.reclaim(bytes) == 0)
            {
                return None;
            }
        }
    }

    /// Starts pieces of regions as far as there is room.
    fn start_along(self: &Arc<Self>) {
        let under_way_bytes_max = Sizes::under_way_bytes(self.frames_bytes_max());
        let requests_max = self.config.along_requests_max;
        while let Some((object, mut frames)) = self.along.next(requests_max, under_way_bytes_max) {
            while !frames.is_empty() && self.is_here(&object, frames.start) {
                frames.start += 1;
            }
            while !frames.is_empty() && self.is_here(&object, frames.end - 1) {
                frames.end -= 1;
            }
            if frames.is_empty() {
                continue;
            }
            let Some(reservation) = self.room_along(frames_len(&object, frames.clone())) else {
                self.along.give_up_waiting();
                return;
            };
            self.store
                .metrics()
                .readahead_frames
                .add(frames.end - frames.start);
            let nothing = frames.start..frames.start;
            let fetch = Fetch::start(self, object, frames, reservation, Kept::InCache(nothing));
            self.along.keep(fetch);
        }
    }

    pub(super) async fn along_loop(self: Arc<Self>) {
        let mut ends = FuturesUnordered::new();
        loop {
            tokio::select! {
                () = self.stop.cancelled() => break,
                () = self.along.wake.notified() => {}
                Some(()) = ends.next(), if !ends.is_empty() => self.along.sweep(),
            }
            self.start_along();
            ends.extend(self.along.unwatched().iter().map(|fetch| fetch.end()));
        }
        self.along.reclaim(u64::MAX);
    }
}
