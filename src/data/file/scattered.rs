//! Files that may lie scattered in the store, and since when nobody wrote to them.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::meta::Ino;

/// Files that are remembered, some 40 bytes each. One that does not fit is noted again when it is
/// next written at random, or read in order and found to be scattered.
const REMEMBERED_MAX: usize = 1024;

/// See the module's head.
#[derive(Default)]
pub(crate) struct ScatteredFiles {
    quiet_since: Mutex<BTreeMap<Ino, Instant>>,
    noted: Notify,
}

impl ScatteredFiles {
    /// Something of the file was written at random, or it was found to be scattered.
    pub(crate) fn note(&self, ino: Ino, now: Instant) {
        let mut files = self.quiet_since.lock();
        if files.len() < REMEMBERED_MAX || files.contains_key(&ino) {
            files.insert(ino, now);
            drop(files);
            self.noted.notify_one();
        }
    }

    /// Takes out the file that has been quiet for longest, once it has been for `quiet_for`.
    pub(crate) async fn next(&self, quiet_for: Duration) -> Ino {
        loop {
            let noted = self.noted.notified();
            let now = Instant::now();
            match self.take_quiet(now, quiet_for) {
                Ok(ino) => return ino,
                Err(Some(pause)) => tokio::time::sleep(pause).await,
                Err(None) => noted.await,
            }
        }
    }

    /// Takes out the file that has been quiet for longest. The error is how long it is until one
    /// will have been quiet for long enough; `None` if there is no file.
    fn take_quiet(&self, now: Instant, quiet_for: Duration) -> Result<Ino, Option<Duration>> {
        let mut files = self.quiet_since.lock();
        let first = files.iter().min_by_key(|(_, since)| **since);
        let (ino, since) = first.map(|(ino, since)| (*ino, *since)).ok_or(None)?;
        let pause = quiet_for.saturating_sub(now.saturating_duration_since(since));
        if !pause.is_zero() {
            return Err(Some(pause));
        }
        files.remove(&ino);
        Ok(ino)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUIET: Duration = Duration::from_secs(20);

    #[test]
    fn a_file_that_is_written_again_waits_anew() {
        let candidates = ScatteredFiles::default();
        let began = Instant::now();
        let after = |seconds| began + Duration::from_secs(seconds);
        assert_eq!(candidates.take_quiet(began, QUIET), Err(None));
        candidates.note(Ino(1), began);
        candidates.note(Ino(2), after(5));
        candidates.note(Ino(1), after(10));
        let pause = Some(Duration::from_secs(10));
        assert_eq!(candidates.take_quiet(after(15), QUIET), Err(pause));
        assert_eq!(candidates.take_quiet(after(25), QUIET), Ok(Ino(2)));
        assert_eq!(candidates.take_quiet(after(30), QUIET), Ok(Ino(1)));
        assert_eq!(candidates.take_quiet(after(90), QUIET), Err(None));
    }

    #[test]
    fn no_more_than_so_many_are_remembered() {
        let candidates = ScatteredFiles::default();
        let now = Instant::now();
        for number in 0..5000 {
            candidates.note(Ino(number), now);
        }
        assert_eq!(candidates.quiet_since.lock().len(), REMEMBERED_MAX);
    }
}
