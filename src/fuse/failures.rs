//! Failed requests in the log: one line a failure, and one a second for the same inode and kind of
//! request.
//!
//! A program that reads a damaged file may try again thousands of times a second. The lines that
//! are left out are counted, and the next one says how many they were.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use crate::{
    fs::{FsError, Operation},
    meta::Ino,
};

/// Lines about the same inode and kind of request come this far apart.
const LINE_EVERY: Duration = Duration::from_secs(1);

/// Inodes and kinds of requests that are remembered at most, 48 bytes each. Failures beyond them
/// are all logged.
const REMEMBERED_MAX: usize = 1024;

/// Logs failures.
#[derive(Debug, Default)]
pub struct FailureLog {
    recent: Mutex<Recent>,
}

/// The failures that were logged lately.
#[derive(Debug, Default)]
struct Recent {
    lines: HashMap<(Ino, &'static str), Line>,
}

#[derive(Debug)]
struct Line {
    logged: Instant,
    left_out: u64,
}

/// The place of one failure in the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Verdict {
    /// The failure is logged, and so many like it were left out before.
    logged: Option<u64>,
    /// So many others were left out, and nothing remembers them any more.
    forgotten: u64,
}

impl FailureLog {
    /// Logs `error`, unless a line about the same inode and kind of request was logged just now.
    pub fn log(&self, operation: Operation, error: &FsError) {
        let key = (operation.ino, operation.kind.name());
        let verdict = self.recent.lock().admit(key, Instant::now());
        if verdict.forgotten > 0 {
            tracing::error!(
                "{} failures of other requests were left out",
                verdict.forgotten
            );
        }
        match verdict.logged {
            None => tracing::debug!("{error}"),
            Some(0) => tracing::error!("{error}"),
            Some(left_out) => tracing::error!("{error} ({left_out} more since the last such line)"),
        }
    }
}

impl Recent {
    fn admit(&mut self, key: (Ino, &'static str), now: Instant) -> Verdict {
        if let Some(line) = self.lines.get_mut(&key) {
            if now.duration_since(line.logged) < LINE_EVERY {
                line.left_out += 1;
                return Verdict::default();
            }
            line.logged = now;
            return Verdict {
                logged: Some(std::mem::take(&mut line.left_out)),
                forgotten: 0,
            };
        }
        let mut forgotten = 0;
        if self.lines.len() >= REMEMBERED_MAX {
            self.lines.retain(|_, line| {
                let is_recent = now.duration_since(line.logged) < LINE_EVERY;
                forgotten += if is_recent { 0 } else { line.left_out };
                is_recent
            });
        }
        if self.lines.len() < REMEMBERED_MAX {
            let line = Line {
                logged: now,
                left_out: 0,
            };
            self.lines.insert(key, line);
        }
        Verdict {
            logged: Some(0),
            forgotten,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logged(left_out: u64) -> Verdict {
        Verdict {
            logged: Some(left_out),
            forgotten: 0,
        }
    }

    #[test]
    fn a_failure_that_repeats_is_logged_once_a_second_with_the_number_that_was_left_out() {
        let mut recent = Recent::default();
        let began = Instant::now();
        let at = |millis| began + Duration::from_millis(millis);
        let read = (Ino(5), "read");
        assert_eq!(recent.admit(read, at(0)), logged(0));
        for millis in 1..=40 {
            assert_eq!(recent.admit(read, at(millis)), Verdict::default());
        }
        // Another inode and another kind of request are news.
        assert_eq!(recent.admit((Ino(6), "read"), at(50)), logged(0));
        assert_eq!(recent.admit((Ino(5), "fsync"), at(50)), logged(0));
        assert_eq!(recent.admit(read, at(1000)), logged(40));
        assert_eq!(recent.admit(read, at(1001)), Verdict::default());
        assert_eq!(recent.admit(read, at(2000)), logged(1));
    }

    #[test]
    fn failures_of_any_number_of_inodes_are_logged_in_bounded_memory_and_none_is_lost_silently() {
        let mut recent = Recent::default();
        let began = Instant::now();
        let inodes = 3 * REMEMBERED_MAX as u64;
        for ino in 0..inodes {
            assert_eq!(recent.admit((Ino(ino), "read"), began), logged(0));
        }
        assert_eq!(recent.lines.len(), REMEMBERED_MAX);
        assert_eq!(recent.admit((Ino(0), "read"), began), Verdict::default());
        assert_eq!(recent.admit((Ino(1), "read"), began), Verdict::default());
        let later = began + LINE_EVERY;
        let verdict = recent.admit((Ino(inodes), "read"), later);
        assert_eq!((verdict.logged, verdict.forgotten), (Some(0), 2));
        assert_eq!(recent.lines.len(), 1);
    }
}
