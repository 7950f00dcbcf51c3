//! Signals to a command that has begun to write: it ends in good order.
//!
//! The first signal stops it, and what it has made is taken back; a second one ends that too.

use std::{future::pending, pin::pin, time::Duration};

use tokio::time::sleep;

use super::{failure::Failure, signals::Signals};

/// Requests under way are waited for this long: one that is dropped may take effect after what
/// cleans up behind it.
const GRACE: Duration = Duration::from_secs(10);
/// Cleaning up takes no longer.
const CLEAN_UP_MAX: Duration = Duration::from_secs(30);

/// The signals to a command.
pub(super) struct Interrupt {
    /// `None` where signals end the process.
    signals: Option<Signals>,
    came: bool,
}

impl Interrupt {
    /// Signals are caught from now on.
    ///
    /// # Errors
    /// The system refuses.
    pub(super) fn catch() -> Result<Interrupt, Failure> {
        Ok(Interrupt {
            signals: Some(Signals::catch(false)?),
            came: false,
        })
    }

    /// Signals are left as they are.
    pub(super) fn never() -> Interrupt {
        Interrupt {
            signals: None,
            came: false,
        }
    }

    /// Whether one came.
    pub(super) fn came(&self) -> bool {
        self.came
    }

    /// Runs `work`, which is dropped at a signal: `None`.
    pub(super) async fn unless<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            done = work => Some(done),
            () = self.stop() => None,
        }
    }

    /// Runs `work`. At a signal `wind_up` tells it to come to an end; it is dropped if that takes
    /// too long, or at a second signal: `None`.
    pub(super) async fn gently<T>(
        &mut self,
        work: impl Future<Output = T>,
        wind_up: impl FnOnce(),
    ) -> Option<T> {
        let mut work = pin!(work);
        if let Some(done) = self.unless(&mut work).await {
            return Some(done);
        }
        wind_up();
        tokio::select! {
            biased;
            done = &mut work => Some(done),
            () = self.give_up() => None,
            () = sleep(GRACE) => None,
        }
    }

    /// Runs what cleans up, unless it takes too long or a further signal comes.
    ///
    /// # Errors
    /// Those of `work`, or that it was not waited for.
    pub(super) async fn cleaning_up<E: ToString>(
        &mut self,
        work: impl Future<Output = Result<(), E>>,
    ) -> Result<(), String> {
        tokio::select! {
            biased;
            done = work => done.map_err(|error| error.to_string()),
            () = self.give_up() => Err("another signal came".to_owned()),
            () = sleep(CLEAN_UP_MAX) => Err("the store takes too long".to_owned()),
        }
    }

    async fn stop(&mut self) {
        match &mut self.signals {
            Some(signals) => signals.stop().await,
            None => pending().await,
        }
        self.came = true;
    }

    async fn give_up(&mut self) {
        match &mut self.signals {
            Some(signals) => signals.give_up().await,
            None => pending().await,
        }
    }
}
