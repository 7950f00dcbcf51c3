//! How long and how often requests are repeated; `patience.rs` does it.
//!
//! Promises: only failures that may pass are tried again; the pauses grow from 50 ms to 5 s with
//! jitter, or follow the store's own Retry-After up to 10 s; an outage logs one warning per kind
//! every 10 s and one line when it is over. Callers that repeat requests themselves pause by
//! [`Backoff`], so that every repetition is paced and counted alike.
//! Never: holds a connection's permit during a pause.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use super::{StoreError, StoreErrorKind};
use crate::telemetry::Metrics;

/// How a request goes on after a failure that may pass (throttling, 5xx, timeouts, resets, name
/// resolution, refused connections). Pauses are exponential with jitter, and capped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// Give up after this many tries.
    Attempts(u32),
    /// Give up after `attempts` where nothing answers: the endpoint may be mistyped. A store that
    /// answers that it is unavailable just now (429, 5xx) is asked again until `unavailable` is
    /// over.
    WhileItAnswers {
        /// Tries in a row that end without an answer.
        attempts: u32,
        /// From the first such answer on.
        unavailable: Duration,
    },
    /// Never give up. The caller bounds it by dropping the future.
    Forever,
    /// As `Forever`, and requests that the store refuses (credentials withdrawn, access denied,
    /// bucket gone) are repeated for this long: for a mounted volume. A refusal is an outage too,
    /// until somebody has had the time to mend it.
    Outlasting(Duration),
}

impl Retry {
    /// For commands: where nothing answers they end after some 2 s of pauses, and a busy store has
    /// half a minute.
    pub const FOR_COMMANDS: Retry = Retry::WhileItAnswers {
        attempts: 5,
        unavailable: Duration::from_secs(30),
    };
}

/// The first pause is at most this.
const PAUSE_FIRST: Duration = Duration::from_millis(50);
/// No pause of ours is longer, so that a store that is back is noticed within this time.
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// No pause that the store asks for is longer.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(10);
/// One warning per kind in this time.
const WARNING_INTERVAL: Duration = Duration::from_secs(10);
/// Failures that go on for this long are trouble, as long as the last one is younger than this.
const TROUBLE_LASTS: Duration = Duration::from_secs(2);
const TROUBLE_FRESH: Duration = Duration::from_secs(15);
/// AWS asks clients to repeat a conditional PUT that met another one in progress (409), and a proxy
/// that is confused for a moment may answer another request. After this many tries, which with
/// their pauses take 3 to 6 s, the failure counts, whatever [`Retry`] says.
pub(super) const FEW_ATTEMPTS: u32 = 8;
/// "The object is not there" is a mere claim where the metadata names it. It is believed once it
/// has been made this often, which with the pauses of [`Backoff`] takes half a second.
pub const MISSING_TRIES: u32 = 4;
/// An answer that broke off had made progress if it brought this many bytes; one that brought fewer
/// counts as failed. Otherwise a store that answers with a byte at a time would be asked without
/// pause.
const PROGRESS_BYTES_MIN: u64 = 16 * 1024;

/// Whether a failed attempt is worth another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Again {
    /// The same request would fail the same way.
    No,
    /// As long as [`Retry`] says.
    Yes,
    /// A few times, whatever [`Retry`] says: a conflict of conditional requests, or the answer to
    /// another request.
    AFewTimes,
    /// The store claims something that makes no sense for this request: repeated as a refusal is,
    /// or a few times.
    Claim,
}

/// One failed attempt.
#[derive(Debug)]
pub(super) struct Failure {
    /// The error that the caller gets if the request is not repeated.
    pub(super) error: StoreError,
    /// Whether to try again.
    pub(super) again: Again,
    /// Whether the request may have taken effect all the same.
    pub(super) ambiguous: bool,
    /// The store's own code, such as `NoSuchUpload`.
    pub(super) code: Option<Box<str>>,
    /// The pause that the store asks for.
    pub(super) retry_after: Option<Duration>,
}

impl Failure {
    /// A failure that is found on this side; tried again if its kind may pass.
    pub(super) fn local(error: StoreError) -> Failure {
        let again = if error.kind.may_pass() {
            Again::Yes
        } else {
            Again::No
        };
        Failure {
            error,
            again,
            ambiguous: true,
            code: None,
            retry_after: None,
        }
    }

    /// For requests to which "not there" and "the condition does not hold" make no sense as
    /// answers.
    #[must_use]
    pub(super) fn into_claim(mut self) -> Failure {
        if self.error.kind.is_an_answer() {
            self.error.kind = StoreErrorKind::Other;
            self.again = Again::Claim;
        }
        self
    }

    /// For requests without a condition, to which "the condition does not hold" makes no sense as
    /// an answer.
    #[must_use]
    pub(super) fn unconditional(self) -> Failure {
        match self.error.kind {
            StoreErrorKind::Precondition => self.into_claim(),
            _ => self,
        }
    }

    /// Whether the store gave this code.
    pub(super) fn has_code(&self, code: &str) -> bool {
        self.code.as_deref() == Some(code)
    }
}

/// How often a fetch in pieces has failed since it last made progress.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Failures(u32);

impl Failures {
    /// One more attempt broke off, after it had brought `brought_bytes`. Returns the failures in a
    /// row, this one included.
    pub(super) fn after(&mut self, brought_bytes: u64) -> u32 {
        self.progress(brought_bytes);
        self.0 = self.0.saturating_add(1);
        self.0
    }

    fn progress(&mut self, brought_bytes: u64) {
        if brought_bytes >= PROGRESS_BYTES_MIN {
            self.0 = 0;
        }
    }
}

/// The pauses of a caller that repeats requests itself: as long as the store's own, and counted
/// with them in `retries`.
#[derive(Debug)]
pub struct Backoff {
    metrics: Arc<Metrics>,
    failures: Failures,
}

impl Backoff {
    pub(super) fn new(metrics: Arc<Metrics>) -> Backoff {
        Backoff {
            metrics,
            failures: Failures::default(),
        }
    }

    /// Pauses before the next attempt, after one that broke off when it had brought
    /// `brought_bytes`. The pauses grow as long as attempts bring next to nothing.
    pub async fn pause(&mut self, brought_bytes: u64) {
        let failures = self.failures.after(brought_bytes);
        self.metrics.retries.increment();
        tokio::time::sleep(pause(failures, None)).await;
    }
}

/// The pause after failure number `failures` (from 1): half of it fixed, half of it jitter, so that
/// many waiting requests do not come back as one wave.
pub(super) fn pause(failures: u32, retry_after: Option<Duration>) -> Duration {
    let full = PAUSE_FIRST
        .saturating_mul(1 << failures.saturating_sub(1).min(16))
        .min(PAUSE_MAX);
    // Without randomness the pauses are merely in step.
    let jitter = getrandom::u32().map_or(1.0, |random| f64::from(random) / f64::from(u32::MAX));
    let own = full.mul_f64(0.5 + jitter / 2.0);
    own.max(retry_after.unwrap_or_default().min(RETRY_AFTER_MAX))
}

/// The knowledge that a request has of its own failures.
#[derive(Debug, Default)]
pub(super) struct Tries {
    /// Failures in a row.
    pub(super) failures: Failures,
    /// Since when the store refuses it.
    pub(super) refused_since: Option<Instant>,
    /// When the store first answered that it was unavailable.
    pub(super) unavailable_since: Option<Instant>,
}

impl Tries {
    /// The attempt that broke off just now had brought this many bytes before.
    pub(super) fn brought(&mut self, bytes: u64) {
        self.failures.progress(bytes);
        if bytes >= PROGRESS_BYTES_MIN {
            self.unavailable_since = None;
        }
    }
}

/// Remembers the warnings that were logged, so that an outage is a few lines and not one a request.
#[derive(Debug, Default)]
pub(super) struct Outage {
    /// Whether a warning stands that no success has answered yet.
    standing: AtomicBool,
    /// When each kind was warned of last; one entry a kind.
    warned: Mutex<Vec<(StoreErrorKind, Instant)>>,
    /// The failures lately.
    lately: Mutex<Option<Lately>>,
}

#[derive(Debug)]
struct Lately {
    began: Instant,
    last: Instant,
    message: String,
}

impl Outage {
    pub(super) fn seen(&self, error: &StoreError) {
        let now = Instant::now();
        {
            let mut lately = self.lately.lock();
            let began = lately
                .take()
                .filter(|lately| now.duration_since(lately.last) < TROUBLE_FRESH)
                .map_or(now, |lately| lately.began);
            *lately = Some(Lately {
                began,
                last: now,
                message: error.to_string(),
            });
        }
        {
            let mut warned = self.warned.lock();
            match warned.iter_mut().find(|(kind, _)| *kind == error.kind) {
                Some((_, at)) if now.duration_since(*at) < WARNING_INTERVAL => return,
                Some((_, at)) => *at = now,
                None => warned.push((error.kind, now)),
            }
        }
        self.standing.store(true, Ordering::Relaxed);
        tracing::warn!("trying again: {error}");
    }

    /// The failure that has repeated itself until just now, for `status`.
    pub(super) fn trouble(&self) -> Option<String> {
        let lately = self.lately.lock();
        let lately = lately.as_ref()?;
        let lasts = lately.last.duration_since(lately.began) >= TROUBLE_LASTS;
        (lasts && lately.last.elapsed() < TROUBLE_FRESH).then(|| lately.message.clone())
    }

    pub(super) fn over(&self) {
        if self.standing.load(Ordering::Relaxed) && self.standing.swap(false, Ordering::Relaxed) {
            tracing::info!("the store answers again");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_from_50_ms_to_5_s_and_never_beyond() {
        for (failures, full_ms) in [
            (1, 50),
            (2, 100),
            (5, 800),
            (8, 5000),
            (20, 5000),
            (u32::MAX, 5000),
        ] {
            for _ in 0..100 {
                let pause = pause(failures, None).as_millis();
                assert!(
                    (full_ms / 2..=full_ms).contains(&pause),
                    "{failures}: {pause}"
                );
            }
        }
    }

    #[test]
    fn an_attempt_that_brings_next_to_nothing_counts_as_failed() {
        let mut failures = Failures::default();
        assert_eq!(failures.after(0), 1);
        assert_eq!(failures.after(1), 2);
        assert_eq!(failures.after(PROGRESS_BYTES_MIN - 1), 3);
        assert_eq!(failures.after(PROGRESS_BYTES_MIN), 1);
        assert_eq!(failures.after(1), 2);
    }

    #[test]
    fn the_stores_own_pause_is_followed_within_reason() {
        assert_eq!(
            pause(1, Some(Duration::from_secs(7))),
            Duration::from_secs(7)
        );
        assert_eq!(pause(1, Some(Duration::from_secs(3600))), RETRY_AFTER_MAX);
    }
}
