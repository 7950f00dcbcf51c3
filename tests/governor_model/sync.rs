//! The locks of `src/budget/sync.rs`, made of the scheduler's primitives: every lock, atomic and
//! wake-up below is a point at which another thread may be let run.

use std::{
    collections::VecDeque,
    future::{Future, poll_fn},
    sync::Arc,
    task::{Poll, Waker},
};

pub(super) use shuttle::sync::atomic::{AtomicUsize, Ordering};
use shuttle::sync::{MutexGuard, RwLockReadGuard, RwLockWriteGuard};

/// `parking_lot`'s interface: no poisoning.
#[derive(Default)]
pub(super) struct Mutex<T>(shuttle::sync::Mutex<T>);

impl<T> Mutex<T> {
    pub(super) fn new(value: T) -> Mutex<T> {
        Mutex(shuttle::sync::Mutex::new(value))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().expect("no test goes on after a panic")
    }
}

/// `parking_lot`'s interface: no poisoning.
#[derive(Default)]
pub(super) struct RwLock<T>(shuttle::sync::RwLock<T>);

impl<T> RwLock<T> {
    pub(super) fn read(&self) -> RwLockReadGuard<'_, T> {
        self.0.read().expect("no test goes on after a panic")
    }

    pub(super) fn write(&self) -> RwLockWriteGuard<'_, T> {
        self.0.write().expect("no test goes on after a panic")
    }
}

/// Works as tokio's: one permit is remembered, and one waiter is woken.
pub(super) struct Notify(Mutex<Notified>);

#[derive(Default)]
struct Notified {
    permit: bool,
    waiting: VecDeque<Waker>,
}

impl Notify {
    pub(super) fn new() -> Notify {
        Notify(Mutex::default())
    }

    pub(super) fn notify_one(&self) {
        let woken = {
            let mut state = self.0.lock();
            state.permit = true;
            state.waiting.pop_front()
        };
        if let Some(waker) = woken {
            waker.wake();
        }
    }

    pub(super) fn notified(&self) -> impl Future<Output = ()> + '_ {
        poll_fn(|context| {
            let mut state = self.0.lock();
            if std::mem::take(&mut state.permit) {
                return Poll::Ready(());
            }
            state.waiting.push_back(context.waker().clone());
            Poll::Pending
        })
    }
}

/// Works as tokio's: a value that is sent after the receiver has gone comes back to the sender, and
/// one that the receiver never took is dropped with the receiver.
pub(super) mod oneshot {
    use std::{pin::Pin, task::Context};

    use super::*;

    pub(crate) struct Sender<T>(Arc<Mutex<Slot<T>>>);

    pub(crate) struct Receiver<T>(Arc<Mutex<Slot<T>>>);

    struct Slot<T> {
        value: Option<T>,
        sender_gone: bool,
        receiver_gone: bool,
        waker: Option<Waker>,
    }

    pub(crate) fn channel<T>() -> (Sender<T>, Receiver<T>) {
        let slot = Arc::new(Mutex::new(Slot {
            value: None,
            sender_gone: false,
            receiver_gone: false,
            waker: None,
        }));
        (Sender(slot.clone()), Receiver(slot))
    }

    impl<T> Sender<T> {
        pub(crate) fn is_closed(&self) -> bool {
            self.0.lock().receiver_gone
        }

        /// The waker is called by the drop that follows.
        pub(crate) fn send(self, value: T) -> Result<(), T> {
            let mut slot = self.0.lock();
            if slot.receiver_gone {
                return Err(value);
            }
            slot.value = Some(value);
            Ok(())
        }
    }

    impl<T> Drop for Sender<T> {
        fn drop(&mut self) {
            let waker = {
                let mut slot = self.0.lock();
                slot.sender_gone = true;
                slot.waker.take()
            };
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }

    impl<T> Future for Receiver<T> {
        type Output = Result<T, ()>;

        fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<T, ()>> {
            let mut slot = self.0.lock();
            if let Some(value) = slot.value.take() {
                return Poll::Ready(Ok(value));
            }
            if slot.sender_gone {
                return Poll::Ready(Err(()));
            }
            slot.waker = Some(context.waker().clone());
            Poll::Pending
        }
    }

    impl<T> Drop for Receiver<T> {
        fn drop(&mut self) {
            let never_taken = {
                let mut slot = self.0.lock();
                slot.receiver_gone = true;
                slot.waker = None;
                slot.value.take()
            };
            drop(never_taken);
        }
    }
}
