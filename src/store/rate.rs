//! Limits of bandwidth: `--max-upload-rate` and `--max-download-rate`.
//!
//! Promises: over any span of time the bodies of all requests together move at most the rate times
//! that span, what [`BURST`] brings, and one piece of each upload or one range of a download.
//! Bodies take turns, first come first served. A download waits for its turn before it is asked
//! for: a connection takes in some MiB unread, so reading slowly would not hold the store up. A
//! body of at most [`SMALL_BYTES`] counts, but waits for nobody: leases and lines of the log go out
//! beside a backup. Headers and listings do not count.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::time::{Instant, sleep_until};

/// The lowest rate. With it each of the connections gets a piece through well within the time after
/// which a request that stands still is given up.
pub const RATE_MIN: u64 = 16 << 10;

/// Bodies up to this length wait for nobody.
pub(super) const SMALL_BYTES: u64 = 16 << 10;

/// A line that was idle may catch up on so much time.
const BURST: Duration = Duration::from_millis(250);

/// Pieces of an upload last so long at the rate: bodies that share it all see progress.
const PIECES_A_SECOND: u64 = 8;

/// No turn counts more.
const TURN_BYTES_MAX: u64 = 64 << 20;

/// The most bytes a second each way, if any.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rates {
    /// To the store.
    pub upload: Option<u64>,
    /// From the store.
    pub download: Option<u64>,
}

/// One direction with a limit.
#[derive(Debug)]
pub(super) struct Limit {
    bytes_per_second: u64,
    /// When all turns that were given out are over.
    free_at: Mutex<Instant>,
    /// Those who wait with [`Limit::pass`], in line.
    line: tokio::sync::Mutex<()>,
}

impl Limit {
    pub(super) fn new(rate: Option<u64>) -> Option<Arc<Limit>> {
        rate.map(|rate| {
            Arc::new(Limit {
                bytes_per_second: rate.max(RATE_MIN),
                free_at: Mutex::new(Instant::now()),
                line: tokio::sync::Mutex::new(()),
            })
        })
    }

    /// Takes a turn for `bytes`: when it begins. A turn counts whether or not it is waited for.
    pub(super) fn turn(&self, bytes: u64) -> Instant {
        let now = Instant::now();
        // A range without an end is no reason to wait for ever.
        let bytes = bytes.min(TURN_BYTES_MAX) as f64;
        let takes = Duration::from_secs_f64(bytes / self.bytes_per_second as f64);
        let mut free_at = self.free_at.lock();
        let begins = (*free_at).max(now.checked_sub(BURST).unwrap_or(now));
        *free_at = begins + takes;
        begins
    }

    /// Waits for a turn for `bytes` and takes it. Whoever gives up waiting has taken none.
    pub(super) async fn pass(&self, bytes: u64) {
        if bytes > SMALL_BYTES {
            let _place = self.line.lock().await;
            let free_at = *self.free_at.lock();
            sleep_until(free_at).await;
        }
        self.turn(bytes);
    }

    /// The most that an upload hands over in one turn.
    pub(super) fn piece_bytes(&self) -> usize {
        usize::try_from(self.bytes_per_second / PIECES_A_SECOND).unwrap_or(usize::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn turns_follow_each_other_at_the_rate_and_idle_time_is_not_saved_up() {
        let limit = Limit::new(Some(100_000)).expect("a limit");
        let began = Instant::now();
        for _ in 0..10 {
            tokio::time::sleep_until(limit.turn(100_000)).await;
        }
        assert_eq!(began.elapsed().as_secs(), 9, "the tenth begins after nine");
        tokio::time::sleep(Duration::from_secs(3600)).await;
        let began = Instant::now();
        for _ in 0..10 {
            tokio::time::sleep_until(limit.turn(100_000)).await;
        }
        let took = began.elapsed();
        assert!(
            took >= Duration::from_secs(9) - BURST && took <= Duration::from_secs(9),
            "{took:?}"
        );
    }

    #[test]
    fn a_piece_lasts_an_eighth_of_a_second_at_most() {
        let piece = |rate| Limit::new(Some(rate)).map(|limit| limit.piece_bytes());
        assert_eq!(piece(RATE_MIN), Some(2 << 10));
        assert_eq!(piece(1), Some(2 << 10), "no lower than the least");
        assert_eq!(piece(80 << 20), Some(10 << 20));
        assert!(Limit::new(None).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_range_without_an_end_counts_no_more_than_a_turn_may() {
        let limit = Limit::new(Some(1 << 20)).expect("a limit");
        limit.pass(u64::MAX).await;
        let began = Instant::now();
        limit.pass(1 << 20).await;
        assert_eq!(began.elapsed(), Duration::from_secs(64));
    }
}
