//! Shared by the scenarios: the explorers, a small budget, things that give way, a count that does
//! not rely on the governor's.

use std::{
    ops::Deref,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use futures::poll;
use shuttle::{
    Config, Runner,
    scheduler::{PctScheduler, RandomScheduler, Scheduler},
};

use crate::{Governor, Owner, Reservation, accounts::Shares, governor::Reclaim, sync::Mutex};

/// Runs of each scheduler, for each scenario: all of them together take some seconds.
const ITERATIONS: usize = 4000;

/// The switches that PCT places at unlikely moments; most faults need one or two.
const PCT_SWITCHES: usize = 3;

pub(super) const CAPACITY: u64 = 10;
pub(super) const DIRTY_MIN: u64 = 1;
pub(super) const UPLOAD_MIN: u64 = 2;
pub(super) const READ_MIN: u64 = 3;

/// The most that one owner can have: all but what is guaranteed to the others.
pub(super) const READ_MAX: u64 = CAPACITY - DIRTY_MIN - UPLOAD_MIN;
pub(super) const DIRTY_MAX: u64 = CAPACITY - UPLOAD_MIN - READ_MIN;
pub(super) const TABLE_MAX: u64 = CAPACITY - DIRTY_MIN - UPLOAD_MIN - READ_MIN;

/// Runs the scenario under both schedulers. Each run has schedules of its own: a failure prints the
/// one to replay.
pub(super) fn explore(scenario: impl Fn(World) + Send + Sync + Clone + 'static) {
    run(RandomScheduler::new(ITERATIONS), scenario.clone());
    run(PctScheduler::new(PCT_SWITCHES, ITERATIONS), scenario);
}

fn run(scheduler: impl Scheduler + 'static, scenario: impl Fn(World) + Send + Sync + 'static) {
    let mut config = Config::new();
    config.stack_size = 128 << 10;
    // Unwinding through reservations that are then released into a broken world would abort.
    config
        .ungraceful_shutdown_config
        .immediately_return_on_panic = true;
    Runner::new(scheduler, config).run(move || {
        let world = World::new();
        scenario(world.clone());
        world.check_that_all_is_given_back();
    });
}

/// A governor with a shelf of things that give way.
#[derive(Clone)]
pub(super) struct World {
    pub(super) governor: Governor,
    pub(super) shelf: Arc<Shelf>,
    live_bytes: Arc<AtomicU64>,
}

/// A reservation that is counted here too, from its grant to its end.
pub(super) struct Held {
    reservation: Option<Reservation>,
    live_bytes: Arc<AtomicU64>,
}

impl World {
    fn new() -> World {
        let governor = Governor::new(Shares {
            capacity_bytes: CAPACITY,
            dirty_min_bytes: DIRTY_MIN,
            parked_min_bytes: 0,
            upload_min_bytes: UPLOAD_MIN,
            read_min_bytes: READ_MIN,
            table_min_bytes: 0,
            listing_min_bytes: 0,
        });
        let world = World {
            governor,
            shelf: Arc::default(),
            live_bytes: Arc::default(),
        };
        world.register(&world.shelf);
        world
    }

    /// Asked after all that were registered before.
    pub(super) fn register(&self, reclaim: &Arc<impl Reclaim + 'static>) {
        let reclaim: Arc<dyn Reclaim> = reclaim.clone();
        self.governor.register(Arc::downgrade(&reclaim));
    }

    pub(super) async fn acquire(&self, owner: Owner, bytes: u64) -> Held {
        let reservation = self.governor.acquire(owner, bytes).await;
        self.held(owner, bytes, reservation)
    }

    pub(super) async fn acquire_unless_full(&self, owner: Owner, bytes: u64) -> Option<Held> {
        let reservation = self.governor.acquire_unless_full(owner, bytes).await?;
        Some(self.held(owner, bytes, reservation))
    }

    pub(super) fn acquire_blocking(&self, owner: Owner, bytes: u64) -> Held {
        shuttle::future::block_on(self.acquire(owner, bytes))
    }

    pub(super) fn try_acquire(&self, owner: Owner, bytes: u64) -> Option<Held> {
        let reservation = self.governor.try_acquire(owner, bytes)?;
        Some(self.held(owner, bytes, reservation))
    }

    /// Waits until it has looked `looks` times, then gives up: the future is dropped wherever the
    /// others have come to by then.
    pub(super) async fn acquire_impatiently(
        &self,
        owner: Owner,
        bytes: u64,
        looks: usize,
    ) -> Option<Held> {
        let mut waiting = Box::pin(self.acquire(owner, bytes));
        for _ in 0..looks {
            if let std::task::Poll::Ready(held) = poll!(waiting.as_mut()) {
                return Some(held);
            }
            shuttle::future::yield_now().await;
        }
        None
    }

    /// Takes one byte at a time until it is refused.
    pub(super) fn take_all(&self, owner: Owner) -> Vec<Held> {
        std::iter::from_fn(|| self.try_acquire(owner, 1)).collect()
    }

    fn held(&self, owner: Owner, bytes: u64, reservation: Reservation) -> Held {
        assert_eq!(
            (reservation.owner(), reservation.bytes()),
            (owner, bytes),
            "granted as asked"
        );
        let live_bytes = bytes + self.live_bytes.fetch_add(bytes, Ordering::Relaxed);
        assert!(
            live_bytes <= CAPACITY,
            "{live_bytes} bytes granted of {CAPACITY}"
        );
        Held {
            reservation: Some(reservation),
            live_bytes: self.live_bytes.clone(),
        }
    }

    fn check_that_all_is_given_back(&self) {
        self.shelf.clear();
        assert_eq!(self.live_bytes.load(Ordering::Relaxed), 0);
        assert_eq!(self.governor.reservations(), 0);
        for usage in self.governor.usage() {
            assert_eq!((usage.current_bytes, usage.waiting), (0, 0), "{usage:?}");
            assert!(usage.peak_bytes <= CAPACITY, "{usage:?}");
        }
        // And the whole room is there again.
        let everything = self.governor.try_acquire(Owner::Read, READ_MAX);
        assert!(everything.is_some());
    }
}

impl Held {
    pub(super) fn split(&mut self, bytes: u64) -> Held {
        Held {
            reservation: Some(self.reservation_mut().split(bytes)),
            live_bytes: self.live_bytes.clone(),
        }
    }

    pub(super) fn shrink_to(&mut self, bytes: u64) {
        let freed = self.bytes() - bytes;
        self.live_bytes.fetch_sub(freed, Ordering::Relaxed);
        self.reservation_mut().shrink_to(bytes);
    }

    pub(super) fn reassign(mut self, owner: Owner) -> Held {
        self.reservation = self.reservation.take().map(|held| held.reassign(owner));
        self
    }

    fn reservation_mut(&mut self) -> &mut Reservation {
        self.reservation.as_mut().expect("held until dropped")
    }
}

impl Deref for Held {
    type Target = Reservation;

    fn deref(&self) -> &Reservation {
        self.reservation.as_ref().expect("held until dropped")
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(reservation) = self.reservation.take() {
            // Before the governor knows: by its grant, somebody else may count it at once.
            self.live_bytes
                .fetch_sub(reservation.bytes(), Ordering::Relaxed);
        }
    }
}

/// Holds what may be wanted again, and gives it up when asked.
#[derive(Default)]
pub(super) struct Shelf(Mutex<Vec<Held>>);

impl Shelf {
    /// A reservation that comes here after its release is offered to those who wait, as the frame
    /// cache does.
    pub(super) fn put(&self, held: Held) {
        let governor = held.governor().clone();
        self.put_unannounced(held);
        governor.serve();
    }

    /// Something else is to follow at once.
    pub(super) fn put_unannounced(&self, held: Held) {
        self.0.lock().push(held);
    }

    pub(super) fn take(&self) -> Option<Held> {
        self.0.lock().pop()
    }

    fn clear(&self) {
        let all = std::mem::take(&mut *self.0.lock());
        drop(all);
    }
}

impl Reclaim for Shelf {
    fn reclaim(&self, bytes: u64) -> u64 {
        let mut freed = 0;
        while freed < bytes {
            let Some(one) = self.take() else {
                break;
            };
            freed += one.bytes();
        }
        freed
    }
}
