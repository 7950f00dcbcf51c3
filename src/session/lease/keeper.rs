//! Keeping a lease: renewing it, writing the mount's state into it, noticing that it was taken.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{sleep, sleep_until, timeout},
};

use super::{LEASE_KEY, LOOK_EVERY, LeaseRecord, LeaseState, RENEW_EVERY, record::LEASE_BYTES_MAX};
use crate::{
    seal::{keys::VolumeKeys, object_store::SealedObjectStore},
    session::{errors, failure::Failure, status::LeaseStatus},
    store::{Condition, Store, StoreError, StoreErrorKind},
};

/// The pause after a write that failed, before it is tried again.
const AGAIN_AFTER: Duration = Duration::from_secs(2);

/// How long giving the lease back may take. Durable data stays durable if that fails; the next
/// mount then waits for the expiry.
const RELEASE_WITHIN: Duration = Duration::from_secs(30);

/// The state of the lease in the store, as far as it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Written {
    /// It stands in the store with this state.
    State(LeaseState),
    /// Another mount's lease stands there.
    Lost,
}

/// A lease that is held. Dropping it stops the renewals without giving it back.
#[derive(Debug)]
pub struct Lease {
    wanted: watch::Sender<LeaseState>,
    written: watch::Receiver<Written>,
    confirmed: Arc<Confirmed>,
    acquired_unix_seconds: i64,
    keeper: JoinHandle<()>,
}

/// When the store last confirmed the lease.
#[derive(Debug)]
struct Confirmed {
    origin: Instant,
    at_ms: AtomicU64,
}

impl Confirmed {
    fn now(&self) {
        self.at_ms.store(self.elapsed_ms(), Ordering::Relaxed);
    }

    fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn ago_ms(&self) -> u64 {
        self.elapsed_ms()
            .saturating_sub(self.at_ms.load(Ordering::Relaxed))
    }
}

impl Lease {
    /// Keeps the lease that was just written as `record` with `etag`.
    pub(super) fn keep(
        store: &Store,
        keys: &Arc<VolumeKeys>,
        log: SealedObjectStore,
        record: LeaseRecord,
        etag: Option<String>,
    ) -> Lease {
        let (wanted, orders) = watch::channel(record.state);
        let (report, written) = watch::channel(Written::State(record.state));
        let confirmed = Arc::new(Confirmed {
            origin: Instant::now(),
            at_ms: AtomicU64::new(0),
        });
        let acquired_unix_seconds = record.acquired_unix_seconds;
        let keeper = Keeper {
            store: store.clone(),
            keys: Arc::clone(keys),
            log,
            record,
            etag,
            confirmed: Arc::clone(&confirmed),
            report,
        };
        Lease {
            wanted,
            written,
            confirmed,
            acquired_unix_seconds,
            keeper: tokio::spawn(keeper.run(orders)),
        }
    }

    /// Returns when another mount has taken the lease.
    pub async fn lost(&self) {
        let mut written = self.written.clone();
        if written
            .wait_for(|written| *written == Written::Lost)
            .await
            .is_err()
        {
            // The keeper ended after a release: nothing can be lost any more.
            std::future::pending::<()>().await;
        }
    }

    /// Says that the mount drains; does not wait until that is written.
    pub fn drain(&self) {
        self.wanted.send_replace(LeaseState::Draining);
    }

    /// Gives the lease back.
    ///
    /// # Errors
    /// Another mount has the lease. A store that does not answer is no error: the lease expires by
    /// itself.
    pub async fn release(&self) -> Result<(), Failure> {
        self.wanted.send_replace(LeaseState::Released);
        let mut written = self.written.clone();
        let done = written.wait_for(|written| {
            *written != Written::State(LeaseState::Mounted)
                && *written != Written::State(LeaseState::Draining)
        });
        let outcome = match timeout(RELEASE_WITHIN, done).await {
            Ok(Ok(written)) if *written == Written::Lost => Err(errors::taken_over()),
            Ok(_) => Ok(()),
            Err(_) => {
                tracing::warn!(
                    "the lease could not be given back; the next mount waits until it expires"
                );
                Ok(())
            }
        };
        self.keeper.abort();
        outcome
    }

    /// For `status`.
    pub fn status(&self) -> LeaseStatus {
        LeaseStatus {
            state: match *self.written.borrow() {
                Written::State(state) => state.name().to_owned(),
                Written::Lost => "lost".to_owned(),
            },
            acquired_unix_seconds: self.acquired_unix_seconds,
            confirmed_ms_ago: self.confirmed.ago_ms(),
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

/// The task that writes.
struct Keeper {
    store: Store,
    keys: Arc<VolumeKeys>,
    /// The log, which grows while the mount writes.
    log: SealedObjectStore,
    record: LeaseRecord,
    etag: Option<String>,
    confirmed: Arc<Confirmed>,
    report: watch::Sender<Written>,
}

impl Keeper {
    async fn run(mut self, mut orders: watch::Receiver<LeaseState>) {
        let mut head = self.log.log_head();
        loop {
            let renew_at = tokio::time::Instant::now() + RENEW_EVERY;
            loop {
                tokio::select! {
                    () = sleep_until(renew_at) => break,
                    () = sleep(LOOK_EVERY) => {}
                    changed = orders.changed() => match changed {
                        Ok(()) => break,
                        Err(_) => return,
                    },
                }
                let before = std::mem::replace(&mut head, self.log.log_head());
                if head != before && self.is_taken().await {
                    return self.lost();
                }
            }
            loop {
                self.record.state = *orders.borrow_and_update();
                self.record.renewal += 1;
                match self.write().await {
                    Ok(true) => break,
                    Ok(false) => return self.lost(),
                    Err(error) => {
                        tracing::warn!("the lease could not be renewed, trying again: {error}");
                        sleep(AGAIN_AFTER).await;
                    }
                }
            }
            self.confirmed.now();
            self.report.send_replace(Written::State(self.record.state));
            if self.record.state == LeaseState::Released {
                return;
            }
        }
    }

    fn lost(&self) {
        tracing::error!("another mount has taken this volume over");
        self.report.send_replace(Written::Lost);
    }

    /// Whether another mount's lease stands in the store. False if the store does not say: the next
    /// renewal asks again, and insists on an answer.
    async fn is_taken(&mut self) -> bool {
        let Some(own) = self.etag.clone() else {
            return false;
        };
        let look = async {
            let there = self.store.head(LEASE_KEY).await?.etag;
            match there.is_some_and(|there| there != own) {
                true => self.adopt().await,
                false => Ok(Standing::Own),
            }
        };
        matches!(timeout(LOOK_EVERY, look).await, Ok(Ok(Standing::Foreign)))
    }

    /// Writes the record over the version that this mount wrote last. False if the lease is another
    /// mount's by now.
    async fn write(&mut self) -> Result<bool, StoreError> {
        let sealed = self
            .record
            .seal(&self.keys)
            .map_err(|error| lease_error(&error.to_string()))?;
        let condition = match self.etag.clone() {
            Some(etag) => Condition::Matches(etag),
            // The store gave no ETag with the last PUT, or its outcome is not known: look.
            None => match self.adopt().await? {
                Standing::Own => return Err(lease_error("the lease was looked at again")),
                Standing::Foreign => return Ok(false),
                Standing::Missing => Condition::Absent,
            },
        };
        match self
            .store
            .put(LEASE_KEY, vec![Bytes::from(sealed)], condition, &[])
            .await
        {
            Ok(outcome) => {
                self.etag = outcome.etag;
                Ok(true)
            }
            Err(error)
                if matches!(
                    error.kind,
                    StoreErrorKind::Precondition | StoreErrorKind::NotFound
                ) =>
            {
                // Perhaps an earlier try succeeded and only its answer was lost.
                self.etag = None;
                match self.adopt().await? {
                    Standing::Foreign => Ok(false),
                    Standing::Own | Standing::Missing => Err(error),
                }
            }
            Err(error) => Err(error),
        }
    }

    /// Whose lease stands in the store; takes the ETag if it is this mount's.
    async fn adopt(&mut self) -> Result<Standing, StoreError> {
        match self.store.get_bytes(LEASE_KEY, None, LEASE_BYTES_MAX).await {
            Ok((head, stored)) => {
                let found = LeaseRecord::open(&self.keys, &stored);
                if found.is_ok_and(|found| found.holder == self.record.holder) {
                    self.etag = head.etag;
                    Ok(Standing::Own)
                } else {
                    Ok(Standing::Foreign)
                }
            }
            Err(error) if error.kind == StoreErrorKind::NotFound => Ok(Standing::Missing),
            Err(error) => Err(error),
        }
    }
}

/// Whose lease it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Own,
    Foreign,
    Missing,
}

fn lease_error(message: &str) -> StoreError {
    StoreError::new(StoreErrorKind::Other, "PutObject", LEASE_KEY, message)
}
