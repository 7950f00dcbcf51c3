//! How a request is carried out: polled once where it arrived, spawned if it is not done then.
//!
//! Most requests are answered from caches and never wait. Giving each to a task would cost two thread switches;
//! polling its future once on the FUSE thread costs nothing if that completes it, and if not, the same future goes on as a task: futures may be polled
//! from one place first and another later, the last waker counts. Measured on 2 busy cores, this crate unoptimised: a lookup of a name that is not there
//! takes 10 us this way and 46 us when spawned, a write of 4 KiB 24 us and 46 us.

use std::{
    any::Any,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use fuser::Errno;
use futures::FutureExt;
use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;

use crate::{
    fs::{FsError, Operation},
    telemetry::Metrics,
};

/// Carries requests out.
#[derive(Clone)]
pub struct Runner {
    runtime: Handle,
    tasks: TaskTracker,
    deadline: Option<Duration>,
    metrics: Arc<Metrics>,
}

impl Runner {
    /// On `runtime`, each request at most `timeout` (zero: no limit).
    pub fn new(runtime: Handle, timeout: Duration, metrics: Arc<Metrics>) -> Runner {
        Runner {
            runtime,
            tasks: TaskTracker::new(),
            deadline: (!timeout.is_zero()).then_some(timeout),
            metrics,
        }
    }

    /// Carries out `work` and gives its outcome to `answer`, here or later. `answer` owns the reply: dropping it unsent is EIO.
    pub fn run<T, W, A>(&self, operation: Operation, work: W, answer: A)
    where
        T: Send + 'static,
        W: Future<Output = Result<T, FsError>> + Send + 'static,
        A: FnOnce(Result<T, Errno>) + Send + 'static,
    {
        self.metrics.fuse_requests.increment();
        let mut work = Box::pin(AssertUnwindSafe(work).catch_unwind());
        let _entered = self.runtime.enter();
        match work.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(outcome) => self.finish(operation, outcome, answer),
            Poll::Pending => {
                let runner = self.clone();
                self.tasks.spawn_on(
                    async move {
                        let outcome = match runner.deadline {
                            None => work.await,
                            Some(deadline) => match tokio::time::timeout(deadline, work).await {
                                Ok(outcome) => outcome,
                                Err(_) => Ok(Err(FsError::timed_out())),
                            },
                        };
                        runner.finish(operation, outcome, answer);
                    },
                    &self.runtime,
                );
            }
        }
    }

    /// Carries out what needs no task, on this thread. `None` if it panicked.
    pub fn run_here<T>(&self, operation: Operation, work: impl FnOnce() -> T) -> Option<T> {
        let _entered = self.runtime.enter();
        match catch_unwind(AssertUnwindSafe(work)) {
            Ok(value) => Some(value),
            Err(panic) => {
                self.log_panic(operation, panic.as_ref());
                None
            }
        }
    }

    /// Returns when no request is under way. New ones may still come.
    pub async fn idle(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Counts a request that [`Runner::run_here`] answers.
    pub fn count(&self) {
        self.metrics.fuse_requests.increment();
    }

    fn finish<T>(
        &self,
        operation: Operation,
        outcome: Result<Result<T, FsError>, Box<dyn Any + Send>>,
        answer: impl FnOnce(Result<T, Errno>),
    ) {
        let result = match outcome {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(self.log_failure(error.during(operation))),
            Err(panic) => {
                self.log_panic(operation, panic.as_ref());
                Err(Errno::EIO)
            }
        };
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| answer(result))) {
            self.log_panic(operation, panic.as_ref());
        }
    }

    fn log_failure(&self, error: FsError) -> Errno {
        if error.is_ordinary() {
            tracing::debug!("{error}");
        } else {
            self.metrics.fuse_errors.increment();
            tracing::error!("{error}");
        }
        Errno::from_i32(error.errno as i32)
    }

    fn log_panic(&self, operation: Operation, panic: &(dyn Any + Send)) {
        self.metrics.fuse_errors.increment();
        let what = panic
            .downcast_ref::<&str>()
            .map(|text| (*text).to_owned())
            .or_else(|| panic.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "no message".to_owned());
        tracing::error!("{operation}: a fault in this program, answered with EIO: {what}");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::meta::Ino;

    fn runner(timeout: Duration) -> Runner {
        Runner::new(Handle::current(), timeout, Arc::default())
    }

    fn operation() -> Operation {
        Operation::on("test", Ino(1))
    }

    #[tokio::test]
    async fn what_is_ready_is_answered_on_the_same_thread() {
        let (sender, answers) = mpsc::channel();
        runner(Duration::ZERO).run(operation(), async { Ok(5) }, move |answer| {
            sender.send((answer, std::thread::current().id())).unwrap();
        });
        let (answer, thread) = answers.try_recv().unwrap();
        assert_eq!(answer.unwrap(), 5);
        assert_eq!(thread, std::thread::current().id());
    }

    #[tokio::test]
    async fn what_has_to_wait_is_answered_later() {
        let (sender, answer) = tokio::sync::oneshot::channel();
        let runner = runner(Duration::ZERO);
        let work = async {
            tokio::time::sleep(Duration::from_millis(5)).await;
            Ok(7)
        };
        runner.run(operation(), work, move |answer| {
            sender.send(answer).unwrap()
        });
        assert_eq!(answer.await.unwrap().unwrap(), 7);
        runner.idle().await;
    }

    #[tokio::test]
    async fn a_request_past_its_deadline_is_answered_and_its_work_dropped() {
        struct Dropped(Option<tokio::sync::oneshot::Sender<()>>);
        impl Drop for Dropped {
            fn drop(&mut self) {
                let _ = self.0.take().unwrap().send(());
            }
        }
        let (sender, answer) = tokio::sync::oneshot::channel();
        let (drop_sender, dropped) = tokio::sync::oneshot::channel();
        let held = Dropped(Some(drop_sender));
        let work = async move {
            let _held = held;
            std::future::pending::<Result<(), FsError>>().await
        };
        runner(Duration::from_millis(5)).run(operation(), work, move |answer| {
            sender.send(answer).unwrap()
        });
        assert_eq!(answer.await.unwrap().unwrap_err(), Errno::ETIMEDOUT);
        dropped.await.unwrap();
    }

    #[tokio::test]
    async fn a_panic_is_one_eio_and_nothing_more() {
        let runner = runner(Duration::ZERO);
        let (sender, answers) = mpsc::channel();
        let later = sender.clone();
        runner.run(
            operation(),
            async { panic!("at once") },
            move |answer: Result<(), _>| sender.send(answer).unwrap(),
        );
        let work = async {
            tokio::task::yield_now().await;
            panic!("later")
        };
        runner.run(operation(), work, move |answer: Result<(), _>| {
            later.send(answer).unwrap()
        });
        assert_eq!(runner.run_here(operation(), || panic!("here")), None::<()>);
        runner.idle().await;
        assert_eq!(
            answers
                .try_iter()
                .map(Result::unwrap_err)
                .collect::<Vec<_>>(),
            [Errno::EIO, Errno::EIO]
        );
    }
}
