//! Repeating requests, as patiently as [`Retry`] says.

use std::{
    future::Future,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    Backoff, Retry, Store, StoreError, StoreErrorKind,
    recorded::ATTEMPT,
    retry::{Again, FEW_ATTEMPTS, Failure, Tries, pause},
};

/// The knowledge that an attempt has of the ones before it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attempt {
    /// Whether an earlier one may have taken effect without our hearing of it.
    pub(super) ambiguous_before: bool,
}

impl Store {
    /// Runs `attempt` until it succeeds, fails for good, or patience ends.
    pub(super) async fn retrying<T, F, Fut>(&self, mut attempt: F) -> Result<T, StoreError>
    where
        F: FnMut(Attempt) -> Fut,
        Fut: Future<Output = Result<T, Failure>>,
    {
        let mut tries = Tries::default();
        let mut ambiguous_before = false;
        let mut number = 0_u32;
        loop {
            number = number.saturating_add(1);
            let tried = attempt(Attempt { ambiguous_before });
            match ATTEMPT.scope(number, tried).await {
                Ok(value) => {
                    self.inner.outage.over();
                    return Ok(value);
                }
                Err(failure) => {
                    ambiguous_before |= failure.ambiguous;
                    self.pause_or_give_up(failure, &mut tries).await?;
                }
            }
        }
    }

    /// Pauses before the next attempt, or returns the error if there is to be none.
    pub(super) async fn pause_or_give_up(
        &self,
        failure: Failure,
        tries: &mut Tries,
    ) -> Result<(), StoreError> {
        let metrics = &self.inner.metrics;
        let failures = tries.failures.after(0);
        let is_refusal = failure.again == Again::Claim
            || failure.again == Again::No && !failure.error.kind.is_an_answer();
        let refused_for = match is_refusal {
            true => tries
                .refused_since
                .get_or_insert_with(Instant::now)
                .elapsed(),
            false => {
                tries.refused_since = None;
                Duration::ZERO
            }
        };
        let goes_on = match (failure.again, self.retry) {
            (Again::No | Again::Claim, Retry::Outlasting(patience)) => {
                is_refusal && refused_for < patience
            }
            (Again::No, _) => false,
            (Again::AFewTimes, _) | (Again::Claim, Retry::Forever) => failures < FEW_ATTEMPTS,
            (Again::Yes | Again::Claim, Retry::Attempts(attempts_max)) => failures < attempts_max,
            (
                Again::Yes | Again::Claim,
                Retry::WhileItAnswers {
                    attempts,
                    unavailable,
                },
            ) => match failure.error.kind {
                StoreErrorKind::Unavailable => {
                    let since = tries.unavailable_since.get_or_insert_with(Instant::now);
                    since.elapsed() < unavailable
                }
                _ => failures < attempts,
            },
            (Again::Yes, Retry::Forever | Retry::Outlasting(_)) => true,
        };
        if !goes_on {
            if !failure.error.kind.is_an_answer() {
                metrics.store_errors.increment();
            }
            return Err(failure.error);
        }
        metrics.retries.increment();
        if failure.again != Again::AFewTimes {
            self.inner.outage.seen(&failure.error);
        }
        tokio::time::sleep(pause(failures, failure.retry_after)).await;
        Ok(())
    }

    /// The pauses for a caller that repeats requests itself.
    pub fn backoff(&self) -> Backoff {
        Backoff::new(Arc::clone(&self.inner.metrics))
    }
}
