//! The governor: counting, waiting in line, guaranteed minima, reclaim.
//!
//! A request of owner *o* fits when what is used, plus the request, plus what the *other* owners
//! are still guaranteed, is within the capacity. Each guaranteed minimum is at least the largest
//! single request of its owner, so the head of every line is served once its own owner's older
//! reservations are gone, whatever the others do: nobody starves and no two owners can deadlock.
//!
//! A granted reservation travels through a oneshot channel. If the waiter was cancelled, before
//! or after the grant, the channel drops the reservation and so gives it back: there is no path
//! on which it is lost or returned twice.
//!
//! Whoever changes what could let somebody in line through (a release, an arrival in a cache, a new
//! entry in a line, a cancelled one) serves the lines afterwards, so nobody is left behind once all
//! is quiet. `tests/governor_model` checks that under a scheduler.

use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, Weak},
};

use super::{
    Owner, Reservation,
    sync::{AtomicUsize, Mutex, Notify, Ordering, RwLock, oneshot},
};

const OWNERS: usize = Owner::ALL.len();

/// Something that can give memory back at once when a demand request needs it.
pub trait Reclaim: Send + Sync {
    /// Drops reservations worth at least `bytes` if it can; returns what it dropped.
    /// Called without any lock of the governor held.
    fn reclaim(&self, bytes: u64) -> u64;
}

/// How the budget is divided: the capacity and each owner's guaranteed minimum.
#[derive(Clone, Copy, Debug)]
pub struct Shares {
    /// Bytes in all.
    pub capacity_bytes: u64,
    /// Guaranteed to dirty data; at least one write.
    pub dirty_min_bytes: u64,
    /// Guaranteed to writes that wait for room; may be less than one write.
    pub parked_min_bytes: u64,
    /// Guaranteed to uploads; at least one sealed part.
    pub upload_min_bytes: u64,
    /// Guaranteed to demand reads; at least the largest read.
    pub read_min_bytes: u64,
    /// Guaranteed to open handles: so many are opened without waiting.
    pub table_min_bytes: u64,
    /// Guaranteed to directory listings; at least one.
    pub listing_min_bytes: u64,
}

/// One owner's present and peak bytes, for `status`.
#[derive(Clone, Copy, Debug)]
pub struct OwnerUsage {
    /// Who.
    pub owner: Owner,
    /// Bytes held now.
    pub current_bytes: u64,
    /// The most that was ever held.
    pub peak_bytes: u64,
    /// Requests waiting in line now.
    pub waiting: usize,
}

/// The governor. Cheap to clone.
#[derive(Clone)]
pub struct Governor {
    inner: Arc<Inner>,
}

struct Inner {
    shares: Shares,
    state: Mutex<State>,
    reclaimers: RwLock<Vec<Weak<dyn Reclaim>>>,
    pressure: Notify,
    /// Calls for memory for those in line since somebody last found nothing more to give up.
    /// Whoever makes the first answers all of them: what it drops calls again, and must not start
    /// over inside.
    reclaim_calls: AtomicUsize,
}

#[derive(Default)]
struct State {
    used: [u64; OWNERS],
    peak: [u64; OWNERS],
    used_total: u64,
    lines: [VecDeque<Waiter>; OWNERS],
    reservations: u64,
}

struct Waiter {
    bytes: u64,
    grant: oneshot::Sender<Reservation>,
}

/// Granted, or a place in line.
type Place = Result<Reservation, oneshot::Receiver<Reservation>>;

/// Lets the line move on when a waiter at its head is cancelled.
struct PumpOnDrop<'a>(&'a Governor);

impl Drop for PumpOnDrop<'_> {
    fn drop(&mut self) {
        self.0.pump();
    }
}

impl Governor {
    /// A budget divided by `shares`. The minima together must leave room within the capacity.
    pub fn new(shares: Shares) -> Governor {
        debug_assert!(
            shares.dirty_min_bytes
                + shares.parked_min_bytes
                + shares.upload_min_bytes
                + shares.read_min_bytes
                + shares.table_min_bytes
                + shares.listing_min_bytes
                <= shares.capacity_bytes,
            "guaranteed minima exceed the capacity"
        );
        Governor {
            inner: Arc::new(Inner {
                shares,
                state: Mutex::default(),
                reclaimers: RwLock::default(),
                pressure: Notify::new(),
                reclaim_calls: AtomicUsize::new(0),
            }),
        }
    }

    /// The capacity.
    pub fn capacity_bytes(&self) -> u64 {
        self.inner.shares.capacity_bytes
    }

    /// What one owner can have at most: all but what is guaranteed to the others.
    pub fn owner_max_bytes(&self, owner: Owner) -> u64 {
        self.inner.shares.max_bytes(owner)
    }

    /// The division.
    pub fn shares(&self) -> Shares {
        self.inner.shares
    }

    /// Registers something that gives way under pressure; asked in the order of registration.
    pub fn register(&self, reclaim: Weak<dyn Reclaim>) {
        let mut reclaimers = self.inner.reclaimers.write();
        reclaimers.retain(|known| known.strong_count() > 0);
        reclaimers.push(reclaim);
    }

    /// Waits in line for `bytes`. What is more than the capacity without the minima of the other
    /// owners never fits and would hold up its line for ever, so the caller must not ask for that;
    /// debug builds assert it.
    pub async fn acquire(&self, owner: Owner, bytes: u64) -> Reservation {
        self.granted(self.enqueue(owner, bytes)).await
    }

    /// As [`Governor::acquire`] for what is held for as long as somebody else likes (open handles):
    /// `None` if it would fit only once some of the same owner's is given back, which whoever asks
    /// may be the one to do.
    pub async fn acquire_unless_full(&self, owner: Owner, bytes: u64) -> Option<Reservation> {
        let place = match self.try_acquire(owner, bytes) {
            Some(reservation) => Ok(reservation),
            None => self.enter_line(owner, bytes, self.inner.shares.max_bytes(owner))?,
        };
        Some(self.granted(place).await)
    }

    async fn granted(&self, place: Place) -> Reservation {
        match place {
            Ok(reservation) => reservation,
            Err(granted) => {
                let _pump = PumpOnDrop(self);
                match granted.await {
                    Ok(reservation) => reservation,
                    // The sender lives in the line until it is used, and the line lives in `self`.
                    Err(_) => unreachable!("a waiter left the line without a grant"),
                }
            }
        }
    }

    /// As [`Governor::acquire`] for plain threads.
    pub fn acquire_blocking(&self, owner: Owner, bytes: u64) -> Reservation {
        match self.enqueue(owner, bytes) {
            Ok(reservation) => reservation,
            Err(granted) => match granted.blocking_recv() {
                Ok(reservation) => reservation,
                Err(_) => unreachable!("a waiter left the line without a grant"),
            },
        }
    }

    /// Takes `bytes` if they are there now and nobody who came earlier waits for them. For
    /// [`Owner::Cache`] nothing is reclaimed and anybody's waiting is a refusal.
    pub fn try_acquire(&self, owner: Owner, bytes: u64) -> Option<Reservation> {
        loop {
            let missing = match self.take(owner, bytes) {
                Ok(reservation) => return Some(reservation),
                Err(missing) => missing,
            };
            // Once more for as long as something gives way: it may have gone elsewhere, or to
            // somebody else.
            if owner == Owner::Cache || self.reclaim(missing) == 0 {
                return None;
            }
        }
    }

    /// As [`Governor::try_acquire`], but nothing is given up for it, and anybody's waiting is a
    /// refusal: for what nobody waits for.
    pub fn try_acquire_spare(&self, owner: Owner, bytes: u64) -> Option<Reservation> {
        let mut state = self.inner.state.lock();
        let nobody_waits = state.lines.iter().all(VecDeque::is_empty);
        if !nobody_waits || !state.can_take(&self.inner.shares, owner, bytes) {
            return None;
        }
        state.count(owner, bytes);
        Some(Reservation::new(self.clone(), owner, bytes))
    }

    /// What `kept` could come to hold through `owner`, who passes on to it what it acquired, while
    /// everybody else keeps what they hold or are guaranteed.
    pub fn reach_bytes(&self, owner: Owner, kept: Owner) -> u64 {
        let state = self.inner.state.lock();
        let others: u64 = Owner::ALL
            .into_iter()
            .zip(state.used)
            .filter(|(other, _)| *other != kept)
            .map(|(other, used)| match other == owner {
                true => used,
                false => used.max(self.inner.shares.min_bytes(other)),
            })
            .sum();
        self.inner.shares.capacity_bytes.saturating_sub(others)
    }

    /// Returns when some request has had to wait since the last call: a sign to write dirty data
    /// out early.
    pub async fn pressure(&self) {
        self.inner.pressure.notified().await;
    }

    /// Is anybody of this owner waiting in line?
    pub fn has_waiters(&self, owner: Owner) -> bool {
        let state = self.inner.state.lock();
        state
            .lines
            .get(owner.index())
            .is_some_and(|line| !line.is_empty())
    }

    /// Is anybody waiting in any line?
    pub fn is_awaited(&self) -> bool {
        let state = self.inner.state.lock();
        state.lines.iter().any(|line| !line.is_empty())
    }

    /// Bytes held by `owner` now.
    pub fn used_bytes(&self, owner: Owner) -> u64 {
        self.inner
            .state
            .lock()
            .used
            .get(owner.index())
            .copied()
            .unwrap_or(0)
    }

    /// Live reservations, of any owner.
    pub fn reservations(&self) -> u64 {
        self.inner.state.lock().reservations
    }

    /// Present and peak use by owner.
    pub fn usage(&self) -> Vec<OwnerUsage> {
        let state = self.inner.state.lock();
        Owner::ALL
            .into_iter()
            .zip(state.used.iter().zip(&state.peak).zip(&state.lines))
            .map(|(owner, ((used, peak), line))| OwnerUsage {
                owner,
                current_bytes: *used,
                peak_bytes: *peak,
                waiting: line.len(),
            })
            .collect()
    }

    /// Grants now, or returns the place in line.
    fn enqueue(&self, owner: Owner, bytes: u64) -> Place {
        debug_assert!(
            bytes <= self.inner.shares.max_bytes(owner),
            "a request that never fits"
        );
        if let Some(reservation) = self.try_acquire(owner, bytes) {
            return Ok(reservation);
        }
        match self.enter_line(owner, bytes, u64::MAX) {
            Some(place) => place,
            None => unreachable!("nobody holds that much"),
        }
    }

    /// The place in line, unless the owner would have more than `owner_max` once everybody in it is
    /// served.
    fn enter_line(&self, owner: Owner, bytes: u64, owner_max: u64) -> Option<Place> {
        let (grant, granted) = oneshot::channel();
        {
            let mut state = self.inner.state.lock();
            if state.can_take(&self.inner.shares, owner, bytes) {
                state.count(owner, bytes);
                return Some(Ok(Reservation::new(self.clone(), owner, bytes)));
            }
            if state.held_and_awaited(owner) + bytes > owner_max {
                return None;
            }
            state.line(owner).push_back(Waiter { bytes, grant });
        }
        self.inner.pressure.notify_one();
        // Frames that were cached between the first try and the entry in the line.
        self.serve();
        Some(Err(granted))
    }

    /// Grants now, or says how much would have to be given up first: nothing if only those in front
    /// are in the way.
    fn take(&self, owner: Owner, bytes: u64) -> Result<Reservation, u64> {
        let mut state = self.inner.state.lock();
        if !state.can_take(&self.inner.shares, owner, bytes) {
            return Err(state.missing(&self.inner.shares, owner, bytes));
        }
        state.count(owner, bytes);
        Ok(Reservation::new(self.clone(), owner, bytes))
    }

    /// Asks in the order of registration until `bytes` have been dropped; returns what was.
    fn reclaim(&self, bytes: u64) -> u64 {
        let reclaimers: Vec<_> = self
            .inner
            .reclaimers
            .read()
            .iter()
            .filter_map(Weak::upgrade)
            .collect();
        let mut dropped = 0;
        for reclaimer in reclaimers {
            if dropped >= bytes {
                break;
            }
            dropped += reclaimer.reclaim(bytes - dropped);
        }
        dropped
    }

    /// Serves the heads of all lines as far as they fit.
    fn pump(&self) {
        let mut served = Vec::new();
        {
            let mut state = self.inner.state.lock();
            for owner in Owner::ALL {
                while let Some(head) = state.line(owner).front() {
                    let bytes = head.bytes;
                    let cancelled = head.grant.is_closed();
                    if !cancelled && !state.fits(&self.inner.shares, owner, bytes) {
                        break;
                    }
                    let Some(waiter) = state.line(owner).pop_front() else {
                        break;
                    };
                    let reservation = (!cancelled).then(|| {
                        state.count(owner, bytes);
                        Reservation::new(self.clone(), owner, bytes)
                    });
                    served.push((waiter.grant, reservation));
                }
            }
        }
        // Outside the lock: whom this wakes may come back here at once, and what was cancelled
        // meanwhile gives itself back and serves the next.
        for (grant, reservation) in served {
            drop(reservation.map(|reservation| grant.send(reservation)));
        }
    }

    pub(super) fn release(&self, owner: Owner, bytes: u64) {
        self.inner.state.lock().uncount(owner, bytes);
        self.serve();
    }

    pub(super) fn reassign(&self, from: Owner, to: Owner, bytes: u64) {
        self.inner.state.lock().move_between(from, to, bytes);
        // What now fills the guarantee of `to` need not be kept free for it beside; what came to
        // the cache may be given up.
        self.serve();
    }

    /// Something that can be given up has come to where [`Reclaim`] finds it: serves who waits,
    /// giving up cached memory for them if that helps.
    pub fn serve(&self) {
        if self.missing_to_waiters().is_none() {
            return;
        }
        self.pump();
        if self.missing_to_waiters().is_none() {
            return;
        }
        let calls = &self.inner.reclaim_calls;
        if calls.fetch_add(1, Ordering::AcqRel) > 0 {
            return;
        }
        let mut answered = 1;
        loop {
            self.reclaim_for_waiters();
            // Who called meanwhile may have brought something after it was looked for.
            match calls.compare_exchange(answered, 0, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return,
                Err(more) => answered = more,
            }
        }
    }

    /// Until everybody is served or nothing gives way: serving one may leave the next one short,
    /// and what was given up may have gone elsewhere.
    fn reclaim_for_waiters(&self) {
        while let Some(missing) = self.missing_to_waiters() {
            if missing > 0 && self.reclaim(missing) == 0 {
                return;
            }
            self.pump();
        }
    }

    /// What is missing for the head of the line that misses most; `None` if nobody waits.
    fn missing_to_waiters(&self) -> Option<u64> {
        let state = self.inner.state.lock();
        Owner::ALL
            .into_iter()
            .zip(&state.lines)
            .filter_map(|(owner, line)| Some((owner, line.front()?)))
            .map(|(owner, head)| state.missing(&self.inner.shares, owner, head.bytes))
            .max()
    }

    pub(super) fn count_split(&self) {
        self.inner.state.lock().reservations += 1;
    }
}

impl State {
    fn line(&mut self, owner: Owner) -> &mut VecDeque<Waiter> {
        #[expect(
            clippy::indexing_slicing,
            reason = "the index of an owner is below OWNERS"
        )]
        &mut self.lines[owner.index()]
    }

    fn held_and_awaited(&mut self, owner: Owner) -> u64 {
        let awaited: u64 = self.line(owner).iter().map(|waiter| waiter.bytes).sum();
        self.used.get(owner.index()).copied().unwrap_or(0) + awaited
    }

    fn can_take(&self, shares: &Shares, owner: Owner, bytes: u64) -> bool {
        let nobody_earlier = match owner {
            Owner::Cache => self.lines.iter().all(VecDeque::is_empty),
            _ => self
                .lines
                .get(owner.index())
                .is_some_and(VecDeque::is_empty),
        };
        // Nothing is there for everybody, whoever waits.
        bytes == 0 || (nobody_earlier && self.fits(shares, owner, bytes))
    }

    fn fits(&self, shares: &Shares, owner: Owner, bytes: u64) -> bool {
        self.missing(shares, owner, bytes) == 0
    }

    /// What would have to be given back before a request fits: more than the request itself where
    /// the cache lives on what others are guaranteed.
    fn missing(&self, shares: &Shares, owner: Owner, bytes: u64) -> u64 {
        let guaranteed_to_others: u64 = Owner::ALL
            .into_iter()
            .zip(self.used)
            .filter(|(other, _)| *other != owner)
            .map(|(other, used)| shares.min_bytes(other).saturating_sub(used))
            .sum();
        (self.used_total + bytes + guaranteed_to_others).saturating_sub(shares.capacity_bytes)
    }

    #[expect(
        clippy::indexing_slicing,
        reason = "the index of an owner is below OWNERS"
    )]
    fn count(&mut self, owner: Owner, bytes: u64) {
        let index = owner.index();
        self.used[index] += bytes;
        self.peak[index] = self.peak[index].max(self.used[index]);
        self.used_total += bytes;
        self.reservations += 1;
    }

    #[expect(
        clippy::indexing_slicing,
        reason = "the index of an owner is below OWNERS"
    )]
    fn uncount(&mut self, owner: Owner, bytes: u64) {
        self.used[owner.index()] -= bytes;
        self.used_total -= bytes;
        self.reservations -= 1;
    }

    #[expect(
        clippy::indexing_slicing,
        reason = "the index of an owner is below OWNERS"
    )]
    fn move_between(&mut self, from: Owner, to: Owner, bytes: u64) {
        self.used[from.index()] -= bytes;
        let index = to.index();
        self.used[index] += bytes;
        self.peak[index] = self.peak[index].max(self.used[index]);
    }
}

impl Shares {
    /// What one owner can have at most.
    fn max_bytes(&self, owner: Owner) -> u64 {
        let guaranteed_to_others: u64 = Owner::ALL
            .into_iter()
            .filter(|other| *other != owner)
            .map(|other| self.min_bytes(other))
            .sum();
        self.capacity_bytes.saturating_sub(guaranteed_to_others)
    }

    fn min_bytes(&self, owner: Owner) -> u64 {
        match owner {
            Owner::Dirty => self.dirty_min_bytes,
            Owner::Parked => self.parked_min_bytes,
            Owner::Upload => self.upload_min_bytes,
            Owner::Read => self.read_min_bytes,
            Owner::Table => self.table_min_bytes,
            Owner::Listing => self.listing_min_bytes,
            Owner::Cache => 0,
        }
    }
}

impl fmt::Debug for Governor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Governor")
            .field("usage", &self.usage())
            .finish_non_exhaustive()
    }
}
