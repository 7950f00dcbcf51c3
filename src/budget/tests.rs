//! The governor's promises, one at a time; all of them at once under threads:
//! `tests/governor_model`.

use std::sync::Arc;

use parking_lot::Mutex;

use super::*;

const MIB: u64 = 1 << 20;

fn governor() -> Governor {
    Governor::new(Shares {
        capacity_bytes: 16 * MIB,
        dirty_min_bytes: MIB,
        parked_min_bytes: 0,
        upload_min_bytes: 4 * MIB,
        read_min_bytes: 2 * MIB,
        table_min_bytes: 0,
        listing_min_bytes: 0,
    })
}

/// Holds cached reservations and gives them up when asked.
struct Shelf(Mutex<Vec<Reservation>>);

impl Shelf {
    fn registered(governor: &Governor) -> Arc<Shelf> {
        let shelf = Arc::new(Shelf(Mutex::default()));
        let reclaim: Arc<dyn Reclaim> = shelf.clone();
        governor.register(Arc::downgrade(&reclaim));
        shelf
    }
}

impl Reclaim for Shelf {
    fn reclaim(&self, bytes: u64) -> u64 {
        let mut freed = 0;
        while freed < bytes {
            let Some(one) = self.0.lock().pop() else {
                break;
            };
            freed += one.bytes();
        }
        freed
    }
}

#[tokio::test]
async fn writers_cannot_take_what_is_guaranteed_to_uploads_and_reads() {
    let governor = governor();
    let dirty = governor
        .try_acquire(Owner::Dirty, 10 * MIB)
        .expect("fits beside the minima");
    assert!(governor.try_acquire(Owner::Dirty, 1).is_none());
    let upload = governor
        .try_acquire(Owner::Upload, 4 * MIB)
        .expect("guaranteed");
    let read = governor
        .try_acquire(Owner::Read, 2 * MIB)
        .expect("guaranteed");
    drop((dirty, upload, read));
    assert_eq!(governor.reservations(), 0);
}

#[tokio::test]
async fn a_cancelled_waiter_lets_those_behind_it_through() {
    let governor = governor();
    let held = governor.acquire(Owner::Read, 10 * MIB).await;
    let mut large = Box::pin(governor.acquire(Owner::Read, 8 * MIB));
    assert!(futures::poll!(large.as_mut()).is_pending());
    let mut small = Box::pin(governor.acquire(Owner::Read, MIB / 2));
    assert!(
        futures::poll!(small.as_mut()).is_pending(),
        "first in, first out"
    );
    drop(large);
    let small = small.await;
    drop((held, small));
    assert_eq!(governor.used_bytes(Owner::Read), 0);
    assert_eq!(governor.reservations(), 0);
}

#[tokio::test]
async fn a_grant_that_nobody_picks_up_is_given_back() {
    let governor = governor();
    let held = governor.acquire(Owner::Read, 10 * MIB).await;
    let mut waiting = Box::pin(governor.acquire(Owner::Read, 8 * MIB));
    assert!(futures::poll!(waiting.as_mut()).is_pending());
    drop(held);
    assert_eq!(
        governor.used_bytes(Owner::Read),
        8 * MIB,
        "granted, not yet received"
    );
    drop(waiting);
    assert_eq!(governor.used_bytes(Owner::Read), 0);
    assert_eq!(governor.reservations(), 0);
}

#[tokio::test]
async fn cached_bytes_give_way_to_a_demand_request() {
    let governor = governor();
    let shelf = Shelf::registered(&governor);
    while let Some(one) = governor.try_acquire(Owner::Cache, MIB) {
        shelf.0.lock().push(one);
    }
    assert_eq!(governor.used_bytes(Owner::Cache), 9 * MIB);
    let read = governor.acquire(Owner::Read, 8 * MIB).await;
    assert!(governor.used_bytes(Owner::Cache) <= 3 * MIB);
    drop(read);
    shelf.0.lock().clear();
    assert_eq!(governor.reservations(), 0);
}

/// Frames that arrive for readers move to the cache, beyond what the cache could have taken itself.
#[tokio::test]
async fn a_small_request_gets_back_all_that_the_cache_took_of_others_guarantees() {
    let governor = governor();
    let shelf = Shelf::registered(&governor);
    for _ in 0..11 {
        let frame = governor.acquire(Owner::Read, MIB).await;
        shelf.0.lock().push(frame.reassign(Owner::Cache));
    }
    let write = governor.acquire(Owner::Dirty, 1000);
    let write = tokio::time::timeout(std::time::Duration::from_secs(5), write).await;
    drop(write.expect("a small write is served"));
    shelf.0.lock().clear();
    assert_eq!(governor.reservations(), 0);
}

#[tokio::test]
async fn splitting_and_reassigning_keep_the_sum() {
    let governor = governor();
    let mut whole = governor.acquire(Owner::Read, 3 * MIB).await;
    let part = whole.split(MIB).reassign(Owner::Cache);
    assert_eq!(governor.used_bytes(Owner::Read), 2 * MIB);
    assert_eq!(governor.used_bytes(Owner::Cache), MIB);
    whole.shrink_to(MIB);
    assert_eq!(governor.used_bytes(Owner::Read), MIB);
    drop((whole, part));
    assert_eq!(governor.reservations(), 0);
}

#[tokio::test]
#[cfg(debug_assertions)]
#[should_panic(expected = "never fits")]
async fn asking_for_more_than_could_ever_fit_is_a_fault_of_the_caller() {
    let read_max = 16 * MIB - MIB - 4 * MIB;
    drop(governor().acquire(Owner::Read, read_max + 1).await);
}

#[tokio::test]
async fn what_nobody_waits_for_evicts_nothing_and_passes_nobody() {
    let governor = governor();
    let shelf = Shelf::registered(&governor);
    // Sixteen less what is guaranteed to dirty data and uploads.
    assert_eq!(governor.reach_bytes(Owner::Read, Owner::Cache), 11 * MIB);
    let cached = governor
        .try_acquire_spare(Owner::Read, 8 * MIB)
        .expect("free");
    shelf.0.lock().push(cached.reassign(Owner::Cache));
    assert_eq!(governor.reach_bytes(Owner::Read, Owner::Cache), 11 * MIB);
    assert!(governor.try_acquire_spare(Owner::Read, 4 * MIB).is_none());
    assert_eq!(shelf.0.lock().len(), 1, "nothing was given up");

    let read = governor
        .try_acquire_spare(Owner::Read, 3 * MIB)
        .expect("free");
    assert_eq!(governor.reach_bytes(Owner::Read, Owner::Cache), 8 * MIB);
    shelf.0.lock().clear();
    let waiting = tokio::spawn({
        let governor = governor.clone();
        async move { governor.acquire(Owner::Read, 9 * MIB).await }
    });
    while !governor.has_waiters(Owner::Read) {
        tokio::task::yield_now().await;
    }
    assert!(governor.try_acquire_spare(Owner::Read, MIB).is_none());
    drop(read);
    assert_eq!(waiting.await.expect("granted").bytes(), 9 * MIB);
    assert_eq!(governor.reservations(), 0);
}

#[test]
fn joined_reservations_are_one_and_are_given_back_once() {
    let governor = governor();
    let mut one = governor.try_acquire(Owner::Read, MIB).expect("free");
    let other = governor.try_acquire(Owner::Read, 2 * MIB).expect("free");
    one.join(other);
    assert_eq!((one.bytes(), governor.reservations()), (3 * MIB, 1));
    drop(one);
    assert_eq!(governor.used_bytes(Owner::Read), 0);
    assert_eq!(governor.reservations(), 0);
}
