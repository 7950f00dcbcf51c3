//! One promise each.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use futures::poll;
use shuttle::{
    future::block_on,
    rand::Rng,
    sync::Barrier,
    thread::{self, JoinHandle},
};

use crate::{Owner, governor::Reclaim, world::*};

fn all(threads: impl IntoIterator<Item = JoinHandle<()>>) {
    for thread in threads {
        thread.join().expect("the scenario ends at the first panic");
    }
}

fn spawn(world: &World, body: impl FnOnce(World) + Send + 'static) -> JoinHandle<()> {
    let world = world.clone();
    thread::spawn(move || body(world))
}

#[test]
fn whatever_is_taken_comes_back_once_and_the_sum_stays_within_the_capacity() {
    explore(|world| {
        all([
            spawn(&world, |world| {
                let mut written = world.acquire_blocking(Owner::Dirty, 4);
                let part = written.split(2);
                drop(written);
                drop(part.reassign(Owner::Upload));
            }),
            spawn(&world, |world| {
                block_on(async {
                    let mut read = world.acquire(Owner::Read, 5).await;
                    let frame = read.split(2).reassign(Owner::Cache);
                    world.shelf.put(frame);
                    read.shrink_to(1);
                });
            }),
            spawn(&world, |world| {
                let looks = shuttle::rand::thread_rng().gen_range(1..4);
                drop(block_on(world.acquire_impatiently(Owner::Read, 6, looks)));
            }),
            spawn(&world, |world| {
                if let Some(ahead) = world.try_acquire(Owner::Cache, 2) {
                    world.shelf.put(ahead);
                }
                drop(world.try_acquire(Owner::Dirty, 3));
            }),
        ]);
    });
}

#[test]
fn a_waiter_that_gives_up_at_any_moment_loses_nothing_and_holds_nobody_up() {
    explore(|world| {
        let held = world.acquire_blocking(Owner::Read, 5);
        let giving_up = spawn(&world, |world| {
            let looks = shuttle::rand::thread_rng().gen_range(1..4);
            drop(block_on(world.acquire_impatiently(Owner::Read, 6, looks)));
        });
        // Fits beside what is held, once nobody is in front.
        let behind = spawn(&world, |world| {
            drop(block_on(world.acquire(Owner::Read, 2)));
        });
        let elsewhere = spawn(&world, |world| {
            drop(world.acquire_blocking(Owner::Dirty, DIRTY_MAX));
        });
        all([giving_up, behind]);
        drop(held);
        all([elsewhere]);
    });
}

#[test]
fn a_grant_that_nobody_picks_up_goes_to_the_next_in_line() {
    explore(|world| {
        let held = world.acquire_blocking(Owner::Read, READ_MAX);
        let first = spawn(&world, |world| {
            let looks = shuttle::rand::thread_rng().gen_range(1..3);
            drop(block_on(world.acquire_impatiently(
                Owner::Read,
                READ_MAX,
                looks,
            )));
        });
        let second = spawn(&world, |world| {
            drop(world.acquire_blocking(Owner::Read, READ_MAX));
        });
        drop(held);
        all([first, second]);
    });
}

/// Nobody gives anything back before all have been served.
#[test]
fn everybody_gets_what_is_guaranteed_whatever_the_others_hold_on_to() {
    let guaranteed = [
        (Owner::Dirty, DIRTY_MIN),
        (Owner::Upload, UPLOAD_MIN),
        (Owner::Read, READ_MIN),
    ];
    for (greedy, _) in guaranteed {
        explore(move |world| {
            let served = Arc::new(Barrier::new(guaranteed.len() + 1));
            let hogs = [greedy, Owner::Cache].map(|owner| {
                let served = served.clone();
                spawn(&world, move |world| {
                    let held = world.take_all(owner);
                    served.wait();
                    drop(held);
                })
            });
            let others = guaranteed.into_iter().filter(|(owner, _)| *owner != greedy);
            let others = others.map(|(owner, bytes)| {
                let served = served.clone();
                spawn(&world, move |world| {
                    let held = world.acquire_blocking(owner, bytes);
                    served.wait();
                    drop(held);
                })
            });
            all(others.chain(hogs).collect::<Vec<_>>());
        });
    }
}

#[test]
fn a_line_that_is_stuck_does_not_hold_up_another() {
    explore(|world| {
        let dirty = world.acquire_blocking(Owner::Dirty, DIRTY_MAX);
        let read = world.acquire_blocking(Owner::Read, READ_MIN);
        let stuck = spawn(&world, |world| {
            drop(world.acquire_blocking(Owner::Dirty, 1))
        });
        let reading = spawn(&world, |world| {
            drop(world.acquire_blocking(Owner::Read, READ_MIN))
        });
        drop(read);
        all([reading]);
        drop(dirty);
        all([stuck]);
    });
}

/// Nobody closes a handle before all have been answered: whoever waits does so for the reader only.
#[test]
fn handles_are_granted_or_refused_and_never_wait_for_one_another() {
    explore(|world| {
        let read = world.acquire_blocking(Owner::Read, READ_MAX);
        let answered = Arc::new(Barrier::new(3));
        let granted = Arc::new(AtomicU64::new(0));
        let opening: Vec<_> = (0..3)
            .map(|_| {
                let (answered, granted) = (answered.clone(), granted.clone());
                spawn(&world, move |world| {
                    let handle = block_on(world.acquire_unless_full(Owner::Table, TABLE_MAX / 2));
                    granted.fetch_add(u64::from(handle.is_some()), Ordering::Relaxed);
                    answered.wait();
                    drop(handle);
                })
            })
            .collect();
        drop(read);
        all(opening);
        assert_eq!(granted.load(Ordering::Relaxed), 2);
    });
}

#[test]
fn nobody_passes_those_in_line_for_the_same() {
    explore(|world| {
        let held = world.acquire_blocking(Owner::Read, READ_MAX - 1);
        let passing = spawn(&world, |world| drop(world.try_acquire(Owner::Read, 1)));
        let giving_back = spawn(&world, move |_| drop(held));
        block_on(async {
            let mut large = Box::pin(world.acquire(Owner::Read, READ_MAX));
            let mut small = Box::pin(world.acquire(Owner::Read, 1));
            let mut first = poll!(large.as_mut());
            if let Poll::Ready(small) = poll!(small.as_mut()) {
                // Behind in line, so served after the first, whose grant is there to be picked up.
                if first.is_pending() {
                    first = poll!(large.as_mut());
                }
                assert!(first.is_ready(), "the second in line went first");
                drop((first, small));
            } else {
                let large = match first {
                    Poll::Ready(large) => large,
                    Poll::Pending => large.await,
                };
                assert!(world.try_acquire(Owner::Read, 1).is_none(), "passed by");
                drop(large);
                drop(small.await);
            }
        });
        all([passing, giving_back]);
    });
}

#[test]
fn readahead_takes_nothing_while_anybody_waits() {
    explore(|world| {
        let ahead = world.take_all(Owner::Cache);
        let reading = spawn(&world, |world| {
            drop(world.acquire_blocking(Owner::Read, READ_MAX));
        });
        for one in ahead {
            drop(one);
            let waits_before = world.governor.has_waiters(Owner::Read);
            let taken = world.try_acquire(Owner::Cache, 1);
            // There is one reader only: it waited all the time, or was served in between.
            if waits_before && world.governor.has_waiters(Owner::Read) {
                assert!(taken.is_none(), "readahead passed a reader");
            }
        }
        all([reading]);
    });
}

/// Nothing but the cache can give way here: who is left in line stays there.
#[test]
fn what_comes_to_the_cache_while_somebody_waits_is_given_up_for_them() {
    explore(|world| {
        let frames = [4, 3].map(|bytes| world.acquire_blocking(Owner::Read, bytes));
        let fetches = frames.map(|frame| {
            spawn(&world, move |world| {
                world.shelf.put(frame.reassign(Owner::Cache));
            })
        });
        let served = Arc::new(Barrier::new(2));
        let waiting = [(Owner::Dirty, DIRTY_MIN + 1), (Owner::Upload, UPLOAD_MIN)];
        let waiting = waiting.map(|(owner, bytes)| {
            let served = served.clone();
            spawn(&world, move |world| {
                let held = world.acquire_blocking(owner, bytes);
                served.wait();
                drop(held);
            })
        });
        all(fetches.into_iter().chain(waiting));
    });
}

/// One large thing gives way, which is enough for two of one line.
#[test]
fn serving_the_first_in_line_does_not_leave_the_second_behind() {
    explore(|world| {
        let frame = world.acquire_blocking(Owner::Read, READ_MAX);
        let served = Arc::new(Barrier::new(2));
        let writers = [2, 2].map(|bytes| {
            let served = served.clone();
            spawn(&world, move |world| {
                let held = world.acquire_blocking(Owner::Dirty, bytes);
                served.wait();
                drop(held);
            })
        });
        let mut frame = frame.reassign(Owner::Cache);
        while frame.bytes() > 1 {
            // All at once for those in line: only the last one is announced.
            world.shelf.put_unannounced(frame.split(1));
        }
        world.shelf.put(frame);
        all(writers);
    });
}

/// A dropped window's buffer goes to the pool of free buffers, which was asked before the window
/// was.
#[test]
fn what_one_cache_gives_up_to_another_is_given_up_there_too() {
    struct Window {
        ahead: Shelf,
        pool: Arc<Shelf>,
    }

    impl Reclaim for Window {
        fn reclaim(&self, bytes: u64) -> u64 {
            let mut moved = 0;
            while moved < bytes {
                let Some(one) = self.ahead.take() else {
                    break;
                };
                moved += one.bytes();
                self.pool.put(one);
            }
            moved
        }
    }

    explore(|world| {
        let window = Arc::new(Window {
            ahead: Shelf::default(),
            pool: world.shelf.clone(),
        });
        world.register(&window);
        let frame = world.acquire_blocking(Owner::Read, READ_MAX);
        let writing = spawn(&world, |world| {
            drop(world.acquire_blocking(Owner::Dirty, 3))
        });
        let trying = spawn(&world, |world| drop(world.try_acquire(Owner::Upload, 3)));
        window.ahead.put(frame.reassign(Owner::Cache));
        all([writing, trying]);
    });
}

/// A block that a reader still looks at is counted as given up, but comes back only later.
#[test]
fn one_who_promises_more_than_it_gives_does_not_keep_the_others_from_being_asked() {
    struct Promising(AtomicU64);

    impl Reclaim for Promising {
        fn reclaim(&self, _bytes: u64) -> u64 {
            self.0.swap(0, Ordering::Relaxed)
        }
    }

    explore(|world| {
        let promising = Arc::new(Promising(AtomicU64::new(0)));
        let honest = Arc::new(Shelf::default());
        world.register(&promising);
        world.register(&honest);
        let mut frame = world.acquire_blocking(Owner::Read, READ_MAX);
        honest.put(frame.split(READ_MIN).reassign(Owner::Cache));
        promising.0.store(CAPACITY, Ordering::Relaxed);
        let without_waiting = world.try_acquire(Owner::Read, READ_MIN);
        assert!(without_waiting.is_some(), "refused");
        let writing = spawn(&world, |world| {
            drop(world.acquire_blocking(Owner::Dirty, 3));
        });
        drop(without_waiting);
        promising.0.store(CAPACITY, Ordering::Relaxed);
        honest.put(frame.reassign(Owner::Cache));
        all([writing]);
    });
}

/// A volume is unmounted: its caches go with all that they hold, whoever asks them for it just now.
#[test]
fn a_cache_that_goes_away_gives_back_what_it_held() {
    explore(|world| {
        let going = Arc::new(Shelf::default());
        world.register(&going);
        going.put(
            world
                .acquire_blocking(Owner::Read, READ_MAX)
                .reassign(Owner::Cache),
        );
        let writing = spawn(&world, |world| {
            drop(world.acquire_blocking(Owner::Dirty, 3))
        });
        let coming = spawn(&world, |world| world.register(&Arc::new(Shelf::default())));
        drop(going);
        all([writing, coming]);
    });
}

/// The dirty data that became upload is counted in the upload's guarantee, which leaves room for
/// who waits.
#[test]
fn what_changes_hands_lets_those_through_for_whom_it_makes_room() {
    explore(|world| {
        let mut dirty = world.acquire_blocking(Owner::Dirty, DIRTY_MAX);
        let writing = spawn(&world, |world| {
            drop(world.acquire_blocking(Owner::Dirty, UPLOAD_MIN));
        });
        let upload = dirty.split(UPLOAD_MIN).reassign(Owner::Upload);
        all([writing]);
        drop((dirty, upload));
    });
}

/// Dirty data that nobody else asks for is written out only because of the sign.
#[test]
fn whoever_has_to_wait_gives_the_sign_to_write_out() {
    explore(|world| {
        let dirty = world.acquire_blocking(Owner::Dirty, DIRTY_MAX);
        let write_back = spawn(&world, move |world| {
            block_on(world.governor.pressure());
            drop(dirty);
        });
        let writing = spawn(&world, |world| {
            drop(world.acquire_blocking(Owner::Dirty, 1))
        });
        all([write_back, writing]);
    });
}

#[test]
fn somebody_who_is_woken_may_come_back_at_once() {
    struct Returning(World);

    impl Wake for Returning {
        fn wake(self: Arc<Self>) {
            drop(self.0.try_acquire(Owner::Dirty, 1));
        }
    }

    explore(|world| {
        let held = world.acquire_blocking(Owner::Read, READ_MAX);
        let mut waiting = Box::pin(world.acquire(Owner::Read, READ_MAX));
        let waker = Waker::from(Arc::new(Returning(world.clone())));
        let first = waiting.as_mut().poll(&mut Context::from_waker(&waker));
        assert!(first.is_pending());
        let giving_back = spawn(&world, move |_| drop(held));
        drop(block_on(waiting));
        all([giving_back]);
    });
}
