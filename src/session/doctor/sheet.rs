//! The sheet that an examination fills in: one check after the other, each within its time.
//!
//! Once two checks had no answer from the store in time, it is not asked any further: an
//! examination of a store that hangs would take minutes.

use std::{
    future::Future,
    pin::pin,
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::timeout;

use super::report::{Check, Line, Measured, Outcome, Verdict};

/// A check that lasts longer is told of.
const LASTS: Duration = Duration::from_secs(1);
/// A check that moves megabytes, or sends many requests, has so many times as long.
const LONG: u32 = 4;
/// So many checks that had no answer in time are enough.
const LATE_MAX: u32 = 2;

/// Shows an examination while it goes on.
pub trait Watcher: Sync {
    /// A check has ended.
    fn noted(&self, line: &Line);
    /// A check lasts; `doing` says what is done.
    fn lasts(&self, doing: &str);
}

/// See the module's head.
pub(super) struct Sheet<'a> {
    watcher: &'a dyn Watcher,
    limit: Duration,
    lines: Mutex<Vec<(Check, Line)>>,
    measured: Mutex<Measured>,
    stopped: AtomicBool,
    late: AtomicU32,
}

impl<'a> Sheet<'a> {
    pub(super) fn new(watcher: &'a dyn Watcher, limit: Duration) -> Sheet<'a> {
        Sheet {
            watcher,
            limit,
            lines: Mutex::default(),
            measured: Mutex::default(),
            stopped: AtomicBool::new(false),
            late: AtomicU32::new(0),
        }
    }

    /// Begins no further check, and notes no outcome any more.
    pub(super) fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    /// Whether some check had no answer in time.
    pub(super) fn is_late(&self) -> bool {
        self.late.load(Ordering::Relaxed) > 0
    }

    /// Makes a check and notes its outcome. Returns what else it found; nothing if it was not made,
    /// or did not end in time.
    pub(super) async fn check<T>(
        &self,
        check: Check,
        work: impl Future<Output = (Outcome, T)>,
    ) -> Option<T> {
        if self.is_stopped() {
            return None;
        }
        if asks_the_store(check) && self.late.load(Ordering::Relaxed) >= LATE_MAX {
            self.skip(check, "the store did not answer the checks before this one");
            return None;
        }
        let limit = match is_long(check) {
            true => self.limit.saturating_mul(LONG),
            false => self.limit,
        };
        let ended = timeout(limit, self.telling(check, work)).await;
        if self.is_stopped() {
            return None;
        }
        match ended {
            Ok((outcome, found)) => {
                self.note(check, outcome);
                Some(found)
            }
            Err(_) => {
                if asks_the_store(check) {
                    self.late.fetch_add(1, Ordering::Relaxed);
                }
                self.note(check, too_late(check, limit));
                None
            }
        }
    }

    /// Runs `work`, and tells of it if it lasts.
    pub(super) async fn telling<T>(&self, check: Check, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        if let Ok(done) = timeout(LASTS, &mut work).await {
            return done;
        }
        self.watcher.lasts(check.doing());
        work.await
    }

    /// Notes an outcome that took no time.
    pub(super) fn note(&self, check: Check, outcome: Outcome) {
        if self.is_stopped() {
            return;
        }
        let line = outcome.line(check);
        self.watcher.noted(&line);
        self.lines.lock().push((check, line));
    }

    /// Notes that a check was not made.
    pub(super) fn skip(&self, check: Check, because: &str) {
        self.note(check, Outcome::skipped(because));
    }

    /// Notes of all of these of which nothing is noted that they were not made.
    pub(super) fn skip_all(&self, checks: &[Check], because: &str) {
        for check in checks {
            if self.verdict(*check).is_none() {
                self.skip(*check, because);
            }
        }
    }

    /// The verdict of a check that was made.
    pub(super) fn verdict(&self, check: Check) -> Option<Verdict> {
        let lines = self.lines.lock();
        let line = lines.iter().find(|(made, _)| *made == check);
        line.map(|(_, line)| line.verdict)
    }

    /// Whether a check was made and did not fail.
    pub(super) fn is_well(&self, check: Check) -> bool {
        matches!(self.verdict(check), Some(Verdict::Ok | Verdict::Warning))
    }

    /// Notes a figure.
    pub(super) fn measured(&self, change: impl FnOnce(&mut Measured)) {
        change(&mut self.measured.lock());
    }

    /// All that was noted.
    pub(super) fn into_parts(self) -> (Vec<Line>, Measured) {
        let lines = self.lines.into_inner().into_iter();
        let lines = lines.map(|(_, line)| line).collect();
        (lines, self.measured.into_inner())
    }
}

fn asks_the_store(check: Check) -> bool {
    !matches!(
        check,
        Check::Fuse
            | Check::AllowOther
            | Check::Kernel
            | Check::Memory
            | Check::OpenFiles
            | Check::StateDirectory
            | Check::DiskCache
    )
}

fn is_long(check: Check) -> bool {
    matches!(
        check,
        Check::Multipart | Check::Races | Check::Latency | Check::Bandwidth
    )
}

fn too_late(check: Check, limit: Duration) -> Outcome {
    let seconds = limit.as_secs_f64();
    match asks_the_store(check) {
        true => Outcome::failure(
            format!("the store did not answer within {seconds:.0} s"),
            "see whether it, or the network, is overloaded; --timeout gives it longer",
        ),
        false => Outcome::failure(
            format!("the system did not answer within {seconds:.0} s"),
            "see whether a network filesystem hangs",
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    #[derive(Default)]
    struct Noted {
        lines: Mutex<Vec<String>>,
        lasting: Mutex<Vec<String>>,
    }

    impl Watcher for Noted {
        fn noted(&self, line: &Line) {
            let word = line.verdict.word();
            self.lines.lock().push(format!("{word} {}", line.check));
        }

        fn lasts(&self, doing: &str) {
            self.lasting.lock().push(doing.to_owned());
        }
    }

    const LIMIT: Duration = Duration::from_secs(3);

    #[tokio::test(start_paused = true)]
    async fn a_check_that_lasts_is_told_of_and_ends_with_a_failure_in_its_time() {
        let noted = Noted::default();
        let sheet = Sheet::new(&noted, LIMIT);
        let quick = sheet.check(Check::Put, ready((Outcome::ok("well"), 7)));
        assert_eq!(quick.await, Some(7));
        assert!(noted.lasting.lock().is_empty());
        let began = tokio::time::Instant::now();
        let hangs = sheet.check::<()>(Check::Get, pending());
        assert_eq!(hangs.await, None);
        assert_eq!(began.elapsed(), LIMIT);
        assert_eq!(*noted.lasting.lock(), [Check::Get.doing()]);
        assert!(sheet.is_well(Check::Put) && !sheet.is_well(Check::Get) && sheet.is_late());
        let (lines, _) = sheet.into_parts();
        assert!(lines[1].found.contains("within 3 s"), "{lines:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_hangs_is_not_asked_for_ever() {
        let noted = Noted::default();
        let sheet = Sheet::new(&noted, LIMIT);
        let began = tokio::time::Instant::now();
        for check in [Check::Put, Check::Latency, Check::Bandwidth, Check::CleanUp] {
            sheet.check::<()>(check, pending()).await;
        }
        assert_eq!(began.elapsed(), LIMIT + LIMIT * LONG);
        let local = sheet.check(Check::DiskCache, ready((Outcome::ok("room"), ())));
        assert!(local.await.is_some());
        let expected = [
            "failure put",
            "failure latency",
            "skipped bandwidth",
            "skipped clean up",
            "ok disk cache",
        ];
        assert_eq!(*noted.lines.lock(), expected);
    }

    #[tokio::test]
    async fn nothing_is_noted_once_it_is_stopped() {
        let noted = Noted::default();
        let sheet = Sheet::new(&noted, LIMIT);
        let stopped = sheet.check(Check::Put, async {
            sheet.stop();
            (Outcome::ok("well"), ())
        });
        assert_eq!(stopped.await, None);
        sheet.skip(Check::Get, "because");
        assert!(noted.lines.lock().is_empty());
    }
}
