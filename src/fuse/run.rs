//! How a request is carried out: it is polled once where it arrived, and spawned if it is not done
//! then.
//!
//! Most requests are answered from caches and never wait. A task for each would cost two thread
//! switches; polling its future once on the FUSE thread costs nothing if that completes it. If not,
//! the same future goes on as a task: a future may be polled from one place first and another
//! later, because the last waker counts. Measured on 2 busy cores, this crate unoptimised: a lookup
//! of a name that is not there takes 10 us this way and 46 us when spawned, a write of 4 KiB 24 us
//! and 46 us.
//!
//! A request ends without its outcome when its deadline is over (ETIMEDOUT), when its caller is
//! killed (EINTR, see `killed.rs`), and when the volume is lost (EIO). Its work is dropped then, or
//! goes on by itself if it changes a name or an attribute (`late.rs`).

use std::{
    any::Any,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use fuser::Errno;
use futures::FutureExt;
use nix::errno::Errno as SystemErrno;
use tokio::{
    runtime::Handle,
    sync::Semaphore,
    time::{Instant, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    Notifier,
    failures::FailureLog,
    killed::Callers,
    late::{LATE_MAX, Late},
};
use crate::{
    fs::{FsError, Operation},
    telemetry::{Metrics, RequestKind},
};

/// Once a request has waited this long, its caller is looked at. Callers wait for each other too,
/// for the lock of a file: each that is killed is found only once the one before has gone, so this
/// is short.
const LOOKED_AT_AFTER: Duration = Duration::from_millis(250);

/// Carries requests out.
#[derive(Clone)]
pub struct Runner {
    runtime: Handle,
    tasks: TaskTracker,
    deadline: Option<Duration>,
    metrics: Arc<Metrics>,
    failures: Arc<FailureLog>,
    callers: Callers,
    notifier: Notifier,
    /// For changes whose callers have gone.
    late: Arc<Semaphore>,
    /// The volume is lost: every request is answered with EIO.
    failed: CancellationToken,
    /// The kernel has let go: nobody sees any more what a late change does.
    ended: CancellationToken,
}

/// One request.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    /// The operation.
    pub operation: Operation,
    /// The calling thread; 0 if it is the kernel itself.
    pub tid: u32,
    /// When it came.
    pub came: Instant,
}

/// Why a request ends without its outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum GaveUp {
    TimedOut,
    Killed,
    Failed,
}

impl GaveUp {
    fn error(self) -> FsError {
        match self {
            GaveUp::TimedOut => FsError::timed_out(),
            GaveUp::Killed => {
                FsError::new(SystemErrno::EINTR, "waiting for a caller that was killed")
            }
            GaveUp::Failed => FsError::new(SystemErrno::EIO, "serving a volume that was lost"),
        }
    }
}

impl Runner {
    /// A runner on `runtime` that gives each request at most `timeout` (zero: no limit).
    pub fn new(
        runtime: Handle,
        timeout: Duration,
        metrics: Arc<Metrics>,
        notifier: Notifier,
    ) -> Runner {
        Runner {
            callers: Callers::new(runtime.clone()),
            runtime,
            tasks: TaskTracker::new(),
            deadline: (!timeout.is_zero()).then_some(timeout),
            metrics,
            failures: Arc::default(),
            notifier,
            late: Arc::new(Semaphore::new(LATE_MAX)),
            failed: CancellationToken::new(),
            ended: CancellationToken::new(),
        }
    }

    /// Carries out `work` and gives its outcome to `answer`, here or later. `answer` owns the
    /// reply: dropping it unsent is EIO. `work` is dropped if the request ends before it.
    pub fn run<T, W, A>(&self, call: Call, work: W, answer: A)
    where
        T: Send + 'static,
        W: Future<Output = Result<T, FsError>> + Send + 'static,
        A: FnOnce(Result<T, Errno>) + Send + 'static,
    {
        self.run_change(call, work, answer, || None);
    }

    /// As [`Runner::run`], for changes of names or attributes: if the request ends before `work`,
    /// that goes on, unless `late` says otherwise.
    pub fn run_change<T, W, A, L>(&self, call: Call, work: W, answer: A, late: L)
    where
        T: Send + 'static,
        W: Future<Output = Result<T, FsError>> + Send + 'static,
        A: FnOnce(Result<T, Errno>) + Send + 'static,
        L: FnOnce() -> Option<Late<T>> + Send + 'static,
    {
        self.count(call.operation.kind);
        if self.failed.is_cancelled() {
            return self.finish(call, Ok(Err(GaveUp::Failed.error())), answer);
        }
        let mut work = Box::pin(AssertUnwindSafe(work).catch_unwind());
        let _entered = self.runtime.enter();
        match work.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(outcome) => self.finish(call, outcome, answer),
            Poll::Pending => {
                let runner = self.clone();
                self.tasks.spawn_on(
                    async move {
                        let why = match runner.outcome(call, &mut work).await {
                            Ok(outcome) => return runner.finish(call, outcome, answer),
                            Err(why) => why,
                        };
                        match late() {
                            None => {
                                drop(work);
                                runner.finish(call, Ok(Err(why.error())), answer);
                            }
                            Some(late) => {
                                // The answer goes first: until it arrives the kernel holds locks
                                // that forgetting a name needs.
                                runner.finish(call, Ok(Err(why.error())), answer);
                                runner.go_on(call, work, late).await;
                            }
                        }
                    },
                    &self.runtime,
                );
            }
        }
    }

    /// Waits for `work`, on this thread. For the write that finds no place to wait.
    pub fn wait_here<T>(&self, call: Call, work: impl Future<Output = T>) -> Result<T, Errno> {
        let outcome = self
            .runtime
            .block_on(async { self.outcome(call, &mut pin!(work)).await });
        outcome.map_err(|why| self.log_failure(call.operation, why.error()))
    }

    /// The outcome of `work`, or why nobody waits for it any longer.
    async fn outcome<F: Future + Unpin>(
        &self,
        call: Call,
        work: &mut F,
    ) -> Result<F::Output, GaveUp> {
        let began = Instant::now();
        let deadline = self.deadline.map(|deadline| began + deadline);
        let looked_at = began + LOOKED_AT_AFTER;
        let first = deadline.map_or(looked_at, |deadline| deadline.min(looked_at));
        // Most requests are over before anything has to be set up for them.
        if let Ok(outcome) = timeout_at(first, &mut *work).await {
            return Ok(outcome);
        }
        let too_late = async {
            match deadline {
                Some(deadline) => tokio::time::sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            outcome = work => Ok(outcome),
            () = self.failed.cancelled() => Err(GaveUp::Failed),
            () = self.callers.killed(call.tid) => Err(GaveUp::Killed),
            () = too_late => Err(GaveUp::TimedOut),
        }
    }

    /// Lets a change whose caller has gone come to its end, as a task that nobody waits for, and
    /// then tells the kernel.
    async fn go_on<T, W>(&self, call: Call, work: W, late: Late<T>)
    where
        T: Send + 'static,
        W: Future<Output = Result<Result<T, FsError>, Box<dyn Any + Send>>> + Send + 'static,
    {
        let Ok(place) = Arc::clone(&self.late).try_acquire_owned() else {
            drop(work);
            return late.touched.forget(&self.notifier).await;
        };
        let runner = self.clone();
        self.runtime.spawn(async move {
            let outcome = tokio::select! {
                outcome = work => outcome,
                () = runner.ended.cancelled() => return,
            };
            drop(place);
            match outcome {
                Ok(Ok(value)) => {
                    tracing::info!("{}: done after its caller had gone", call.operation);
                    (late.unclaimed)(value);
                }
                Ok(Err(error)) => tracing::debug!("{}", error.during(call.operation)),
                Err(panic) => runner.log_panic(call.operation, panic.as_ref()),
            }
            late.touched.forget(&runner.notifier).await;
        });
    }

    /// Carries out work that needs no task, on this thread. `None` if it panicked.
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

    /// From now on every request is answered with EIO, those under way too.
    pub fn fail(&self) {
        self.failed.cancel();
    }

    /// Whether [`Runner::fail`] was called.
    pub fn has_failed(&self) -> bool {
        self.failed.is_cancelled()
    }

    /// Returns when no request is under way. New ones may still come.
    pub async fn idle(&self) {
        self.tasks.close();
        self.tasks.wait().await;
        self.ended.cancel();
    }

    /// Counts a request that has come.
    pub fn count(&self, kind: RequestKind) {
        self.metrics.kernel_requests.count(kind);
    }

    /// Counts how long the answer took to a request that came at `came`.
    pub fn answered(&self, kind: RequestKind, came: Instant) {
        let took = came.elapsed();
        self.metrics.kernel_requests.answered(kind, took);
    }

    fn finish<T>(
        &self,
        call: Call,
        outcome: Result<Result<T, FsError>, Box<dyn Any + Send>>,
        answer: impl FnOnce(Result<T, Errno>),
    ) {
        let operation = call.operation;
        let result = match outcome {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(self.log_failure(operation, error)),
            Err(panic) => {
                self.log_panic(operation, panic.as_ref());
                Err(Errno::EIO)
            }
        };
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| answer(result))) {
            self.log_panic(operation, panic.as_ref());
        }
        self.answered(operation.kind, call.came);
    }

    fn log_failure(&self, operation: Operation, error: FsError) -> Errno {
        let error = error.during(operation);
        // Once the volume is lost, that is logged once and not for each request.
        if error.is_ordinary() || self.has_failed() {
            tracing::debug!("{error}");
        } else {
            self.metrics.fuse_errors.increment();
            self.failures.log(operation, &error);
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

    use super::{super::late::Touched, *};
    use crate::meta::Ino;

    fn runner(timeout: Duration) -> Runner {
        let notifier = Notifier::start().unwrap();
        Runner::new(Handle::current(), timeout, Arc::default(), notifier)
    }

    fn call() -> Call {
        Call {
            operation: Operation::on(RequestKind::Getattr, Ino(1)),
            tid: 0,
            came: Instant::now(),
        }
    }

    #[tokio::test]
    async fn what_is_ready_is_answered_on_the_same_thread() {
        let (sender, answers) = mpsc::channel();
        runner(Duration::ZERO).run(call(), async { Ok(5) }, move |answer| {
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
        runner.run(call(), work, move |answer| sender.send(answer).unwrap());
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
        runner(Duration::from_millis(5))
            .run(call(), work, move |answer| sender.send(answer).unwrap());
        assert_eq!(answer.await.unwrap().unwrap_err(), Errno::ETIMEDOUT);
        dropped.await.unwrap();
    }

    #[tokio::test]
    async fn a_panic_is_one_eio_and_nothing_more() {
        let runner = runner(Duration::ZERO);
        let (sender, answers) = mpsc::channel();
        let later = sender.clone();
        runner.run(
            call(),
            async { panic!("at once") },
            move |answer: Result<(), _>| sender.send(answer).unwrap(),
        );
        let work = async {
            tokio::task::yield_now().await;
            panic!("later")
        };
        runner.run(call(), work, move |answer: Result<(), _>| {
            later.send(answer).unwrap()
        });
        assert_eq!(
            runner.run_here(call().operation, || panic!("here")),
            None::<()>
        );
        runner.idle().await;
        assert_eq!(
            answers
                .try_iter()
                .map(Result::unwrap_err)
                .collect::<Vec<_>>(),
            [Errno::EIO, Errno::EIO]
        );
    }

    #[tokio::test]
    async fn a_change_goes_on_after_its_deadline_and_gives_back_what_nobody_takes() {
        let runner = runner(Duration::from_millis(5));
        let (answer_sender, answer) = tokio::sync::oneshot::channel();
        let (taken_sender, taken) = tokio::sync::oneshot::channel();
        let (go_on, gone_on) = tokio::sync::oneshot::channel::<()>();
        let work = async move {
            gone_on.await.unwrap();
            Ok(11)
        };
        runner.run_change(
            call(),
            work,
            move |answer| answer_sender.send(answer).unwrap(),
            move || {
                Some(Late {
                    touched: Touched::inode(Ino(1)),
                    unclaimed: Box::new(move |value| taken_sender.send(value).unwrap()),
                })
            },
        );
        assert_eq!(answer.await.unwrap().unwrap_err(), Errno::ETIMEDOUT);
        go_on.send(()).unwrap();
        assert_eq!(taken.await.unwrap(), 11);
    }

    #[tokio::test]
    async fn changes_without_their_callers_are_bounded() {
        let runner = runner(Duration::from_millis(5));
        let dropped = Arc::new(());
        for _ in 0..LATE_MAX + 10 {
            let held = Arc::clone(&dropped);
            let work = async move {
                let _held = held;
                std::future::pending::<Result<(), FsError>>().await
            };
            runner.run_change(call(), work, drop, || Some(Late::of(Touched::default())));
        }
        while Arc::strong_count(&dropped) != LATE_MAX + 1 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        runner.idle().await;
        while Arc::strong_count(&dropped) != 1 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    #[tokio::test]
    async fn when_the_volume_is_lost_all_is_eio_what_waits_too() {
        let runner = runner(Duration::ZERO);
        let (sender, answer) = tokio::sync::oneshot::channel();
        let waits = std::future::pending::<Result<(), FsError>>();
        runner.run(call(), waits, move |answer| sender.send(answer).unwrap());
        runner.fail();
        let (later, at_once) = tokio::sync::oneshot::channel();
        runner.run(call(), async { Ok(()) }, move |answer| {
            later.send(answer).unwrap()
        });
        assert_eq!(at_once.await.unwrap().unwrap_err(), Errno::EIO);
        assert_eq!(answer.await.unwrap().unwrap_err(), Errno::EIO);
    }
}
