//! The governor: locks, waiting in line, and asking others to give way. The arithmetic is in
//! `accounts`.
//!
//! A granted reservation travels through a oneshot channel. If the waiter was cancelled, before
//! or after the grant, the channel drops the reservation and so gives it back: there is no path
//! on which it is lost or returned twice.
//!
//! A change that could let somebody in line through (a release, an arrival in a cache, a new entry
//! in a line, a cancelled one) serves the lines afterwards, so nobody is left behind once all is
//! quiet. `tests/governor_model` checks that under a scheduler.

use std::{
    fmt,
    sync::{Arc, Weak},
};

use super::{
    Owner, Reservation,
    accounts::{Accounts, Entry, OwnerUsage, Shares},
    sync::{AtomicUsize, Mutex, Notify, Ordering, RwLock, oneshot},
};

/// A holder of memory that can give it back at once when a demand request needs it.
pub trait Reclaim: Send + Sync {
    /// Drops reservations worth at least `bytes` if it can; returns what it dropped.
    /// Called without any lock of the governor held.
    fn reclaim(&self, bytes: u64) -> u64;
}

/// The governor. Cheap to clone.
#[derive(Clone)]
pub struct Governor {
    inner: Arc<Inner>,
}

struct Inner {
    shares: Shares,
    accounts: Mutex<Accounts<Grant>>,
    reclaimers: RwLock<Vec<Weak<dyn Reclaim>>>,
    pressure: Notify,
    /// Calls for memory for waiters since reclaiming last found nothing more to give up. The thread
    /// that makes the first call answers all of them: the reservations that it drops call again,
    /// and must not start over inside.
    reclaim_calls: AtomicUsize,
}

/// How a waiter gets its reservation.
type Grant = oneshot::Sender<Reservation>;

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
        Governor {
            inner: Arc::new(Inner {
                shares,
                accounts: Mutex::new(Accounts::new(shares)),
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

    /// Bytes that one owner can have at most: all but what is guaranteed to the others.
    pub fn owner_max_bytes(&self, owner: Owner) -> u64 {
        self.inner.shares.max_bytes(owner)
    }

    /// How the budget is divided.
    pub fn shares(&self) -> Shares {
        self.inner.shares
    }

    /// Registers a holder that gives way under pressure. Holders are asked in the order of their
    /// registration.
    pub fn register(&self, reclaim: Weak<dyn Reclaim>) {
        let mut reclaimers = self.inner.reclaimers.write();
        reclaimers.retain(|known| known.strong_count() > 0);
        reclaimers.push(reclaim);
    }

    /// Waits in line for `bytes`. A request of more than [`Governor::owner_max_bytes`] never fits
    /// and would hold up its line for ever, so the caller must not make one; debug builds assert
    /// it.
    pub async fn acquire(&self, owner: Owner, bytes: u64) -> Reservation {
        self.granted(self.enqueue(owner, bytes)).await
    }

    /// As [`Governor::acquire`], for memory that is held for as long as a program likes (open
    /// handles). `None` if the request would fit only once the same owner gives something back,
    /// since the program that asks may be the one that would have to.
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

    /// Takes `bytes` if they are there now and no earlier request waits for them. For
    /// [`Owner::Cache`] nothing is reclaimed, and anybody's waiting is a refusal.
    pub fn try_acquire(&self, owner: Owner, bytes: u64) -> Option<Reservation> {
        loop {
            let missing = match self.take(owner, bytes) {
                Ok(reservation) => return Some(reservation),
                Err(missing) => missing,
            };
            // Tries again for as long as something gives way: the bytes may have gone to another
            // request.
            if owner == Owner::Cache || self.reclaim(missing) == 0 {
                return None;
            }
        }
    }

    /// As [`Governor::try_acquire`], but nothing is given up for it, and anybody's waiting is a
    /// refusal: for memory that nobody waits for.
    pub fn try_acquire_spare(&self, owner: Owner, bytes: u64) -> Option<Reservation> {
        let taken = self.inner.accounts.lock().take_spare(owner, bytes);
        taken.then(|| Reservation::new(self.clone(), owner, bytes))
    }

    /// Bytes that `kept` could come to hold through `owner`, which passes on to it what it
    /// acquired, while all others keep what they hold or are guaranteed.
    pub fn reach_bytes(&self, owner: Owner, kept: Owner) -> u64 {
        self.inner.accounts.lock().reach_bytes(owner, kept)
    }

    /// Returns when a request has had to wait since the last call: a sign to write dirty data out
    /// early.
    pub async fn pressure(&self) {
        self.inner.pressure.notified().await;
    }

    /// Whether a request of this owner waits in line.
    pub fn has_waiters(&self, owner: Owner) -> bool {
        self.inner.accounts.lock().has_waiters(owner)
    }

    /// Whether a request waits in any line.
    pub fn is_awaited(&self) -> bool {
        self.inner.accounts.lock().is_awaited()
    }

    /// Bytes held by `owner` now.
    pub fn used_bytes(&self, owner: Owner) -> u64 {
        self.inner.accounts.lock().used_bytes(owner)
    }

    /// Live reservations, of any owner.
    pub fn reservations(&self) -> u64 {
        self.inner.accounts.lock().reservations()
    }

    /// Present and peak use by owner.
    pub fn usage(&self) -> Vec<OwnerUsage> {
        self.inner.accounts.lock().usage()
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

    /// Grants now, or returns the place in line; `None` if the owner would have more than
    /// `owner_max` once everybody in its line is served.
    fn enter_line(&self, owner: Owner, bytes: u64, owner_max: u64) -> Option<Place> {
        let (grant, granted) = oneshot::channel();
        let entry = self
            .inner
            .accounts
            .lock()
            .enter(owner, bytes, owner_max, grant);
        match entry {
            Entry::Taken => return Some(Ok(Reservation::new(self.clone(), owner, bytes))),
            Entry::Refused => return None,
            Entry::Waits => {}
        }
        self.inner.pressure.notify_one();
        // Frames may have been cached between the first try and the entry in the line.
        self.serve();
        Some(Err(granted))
    }

    /// Grants now, or says how much would have to be given up first: nothing if only earlier
    /// requests are in the way.
    fn take(&self, owner: Owner, bytes: u64) -> Result<Reservation, u64> {
        self.inner.accounts.lock().take(owner, bytes)?;
        Ok(Reservation::new(self.clone(), owner, bytes))
    }

    /// Asks holders in the order of registration until `bytes` have been dropped; returns how many
    /// were.
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
        let served = self.inner.accounts.lock().serve(Grant::is_closed);
        // Outside the lock: a waiter that this wakes may come back here at once, and a reservation
        // whose waiter was cancelled meanwhile gives itself back and serves the next.
        for (grant, counted) in served {
            if let Some((owner, bytes)) = counted {
                drop(grant.send(Reservation::new(self.clone(), owner, bytes)));
            }
        }
    }

    pub(super) fn release(&self, owner: Owner, bytes: u64) {
        self.inner.accounts.lock().release(owner, bytes);
        self.serve();
    }

    pub(super) fn reassign(&self, from: Owner, to: Owner, bytes: u64) {
        self.inner.accounts.lock().move_between(from, to, bytes);
        // Bytes that now fill the guarantee of `to` need not be kept free for it as well, and bytes
        // that came to the cache may be given up.
        self.serve();
    }

    /// Serves the waiters, giving up cached memory for them if that helps. To be called when
    /// something that can be given up has come to where [`Reclaim`] finds it.
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
            // A call made meanwhile may have brought something after the holders were asked.
            match calls.compare_exchange(answered, 0, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return,
                Err(more) => answered = more,
            }
        }
    }

    /// Reclaims and serves until everybody is served or nothing gives way: serving one waiter may
    /// leave the next one short, and bytes that were given up may have gone to another request.
    fn reclaim_for_waiters(&self) {
        while let Some(missing) = self.missing_to_waiters() {
            if missing > 0 && self.reclaim(missing) == 0 {
                return;
            }
            self.pump();
        }
    }

    /// Bytes missing for the head of the line that misses most; `None` if nobody waits.
    fn missing_to_waiters(&self) -> Option<u64> {
        self.inner.accounts.lock().missing_to_waiters()
    }

    pub(super) fn count_split(&self) {
        self.inner.accounts.lock().count_split();
    }
}

impl fmt::Debug for Governor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Governor")
            .field("usage", &self.usage())
            .finish_non_exhaustive()
    }
}
