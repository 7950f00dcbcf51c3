//! A volume that a command opens without serving it: `fsck`, `gc`, `key rotate --rewrite`.
//!
//! It takes the same steps as a mount (`open.rs`), with the same checks before anything is written,
//! and stops above the metadata. For reading it is a follower that sees one state; for writing it
//! holds the lease.

use std::{path::PathBuf, sync::Arc, time::Duration};

use super::{
    Opened, Opening, client,
    open::{MetaOpener, OBJECT_CACHE_SHARE, close_unused},
    signals::Signals,
};
use crate::{
    data::MemoryPlan,
    meta::{Meta, MetaConfig, MetaError},
    seal::{object_store::SealedObjectStore, volume::Secret},
    session::{
        config::StoreSettings,
        errors,
        exit::Exit,
        failure::Failure,
        lease::{self, Lease, LeaseRequest},
        state::{Accept, Fingerprint, Known, StateSeen, Trust, VolumeState},
    },
    store::{Retry, S3Url, Store},
    telemetry::Metrics,
};

/// The default of `mount --refusal-timeout`.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(120);

/// The checked settings for opening a volume.
pub struct VisitConfig {
    /// The volume.
    pub url: S3Url,
    /// How to reach the store.
    pub store: StoreSettings,
    /// `--memory`.
    pub memory_bytes: u64,
    /// Take the lease from its present holder.
    pub takeover: bool,
    /// Deviations of the volume from this machine's knowledge that are accepted.
    pub accept: Accept,
    /// The state that the volume must have reached.
    pub expect: Option<Fingerprint>,
    /// The secret that unlocks it.
    pub secret: Secret,
    /// The state directory of all volumes.
    pub state_root: PathBuf,
}

/// An open volume.
pub struct Visit {
    /// The unlocked header and its keys.
    pub opened: Opened,
    /// The metadata.
    pub meta: Meta,
    /// The store, as patient as a mount.
    pub store: Store,
    /// How memory is divided.
    pub plan: MemoryPlan,
    /// Another mount may be writing: its lease says so, and nothing proves it dead. False if the
    /// lease is held here.
    pub has_living_writer: bool,
    sealed: SealedObjectStore,
    lease: Option<Arc<Lease>>,
}

impl Visit {
    /// Opens the volume, for writing if `write`. `tell` shows a line to the user while it waits.
    /// After a failure the caller lets `opening` give back the lease.
    ///
    /// # Errors
    /// As for a mount.
    pub async fn open(
        config: VisitConfig,
        write: bool,
        opening: &Opening,
        tell: &(dyn Fn(&str) + Send + Sync),
    ) -> Result<Visit, Failure> {
        let plan = MemoryPlan::for_memory(config.memory_bytes);
        let metrics = Arc::new(Metrics::default());
        let store = client(&config.url, &config.store, plan.connections_max, metrics).await?;
        store
            .check_bucket()
            .await
            .map_err(|error| errors::store(&error, &config.url))?;
        let trust = Trust::new(&config.state_root, &store, config.accept).expecting(config.expect);
        // The memory that metadata and contents will have is free until the volume is open.
        let free_bytes = plan.meta_bytes + plan.shares.capacity_bytes;
        let opened = Opened::open(&store, config.secret, trust, free_bytes).await?;
        let patient = store.with_retry(Retry::Outlasting(REFUSAL_TIMEOUT));
        let sealed = SealedObjectStore::new(
            patient.clone(),
            Arc::clone(&opened.unlocked.keys),
            plan.meta_bytes / OBJECT_CACHE_SHARE,
        );
        let mut opener = MetaOpener {
            opened: &opened,
            sealed: &sealed,
            config: MetaConfig::frozen(plan.meta_bytes),
        };
        let (meta, lease, has_living_writer) = if write {
            opener.config.read_only = false;
            let state = VolumeState::open(&config.state_root, opened.loaded.header.volume())?;
            let request = LeaseRequest {
                store: &store,
                keys: &opened.unlocked.keys,
                socket: &state.socket(std::process::id()),
                takeover: config.takeover,
                log: &sealed,
                tell,
            };
            let (meta, lease) = opener.enter(request, opening).await?;
            (meta, Some(lease), false)
        } else {
            let holder = lease::look(&store, &opened.unlocked.keys).await?;
            let living = holder.is_some_and(|found| found.may_be_alive());
            (opener.follow().await?, None, living)
        };
        let visit = Visit {
            meta,
            store: patient,
            plan,
            has_living_writer,
            sealed,
            lease,
            opened,
        };
        let mut found = Known::of_header(&visit.opened.loaded.header);
        found.state = visit.state_seen();
        visit.opened.trust.adopt(&found);
        Ok(visit)
    }

    fn state_seen(&self) -> StateSeen {
        StateSeen {
            generation: self.meta.generation(),
            log: self.sealed.log_head(),
        }
    }

    /// Returns when another mount has taken the volume; never for reading.
    pub async fn lost(&self) {
        let Some(lease) = &self.lease else {
            return std::future::pending().await;
        };
        tokio::select! {
            () = lease.lost() => {}
            () = self.meta.fenced() => {}
        }
    }

    /// Lets go of the volume where something may be left behind: its session counts as one that
    /// died, and the next mount clears up after it.
    pub async fn abandon(self) {
        if let Err(error) = self.meta.close().await {
            tracing::debug!("the metadata was not closed: {error}");
        }
        if let Some(lease) = &self.lease
            && let Err(error) = lease.release().await
        {
            tracing::debug!("the lease was not given back: {error}");
        }
    }

    /// Makes the changes durable, notes them on this machine, and gives everything back.
    ///
    /// # Errors
    /// [`Exit::TakenOver`], or the metadata was not closed.
    pub async fn close(self) -> Result<(), Failure> {
        let Some(lease) = &self.lease else {
            close_unused(&self.meta).await;
            return Ok(());
        };
        let ended = self.meta.end_session(self.meta.session()).await;
        let closed = ended.and(self.meta.close().await);
        let outcome = closed.map_err(|error| match error {
            MetaError::Fenced => errors::taken_over(),
            error => errors::meta(&error, "the metadata was not closed"),
        });
        let mut found = Known::of_header(&self.opened.loaded.header);
        found.state = self.state_seen();
        self.opened.trust.note(&found);
        let released = lease.release().await;
        outcome.and(released)
    }
}

/// Runs `work` until it is done or a signal wants it to end.
///
/// # Errors
/// [`Exit::Interrupted`], after `work` was dropped.
pub async fn interruptible<T>(work: impl Future<Output = T>) -> Result<T, Failure> {
    let mut signals = Signals::catch(false)?;
    tokio::select! {
        done = work => Ok(done),
        () = signals.stop() => Err(interrupted()),
    }
}

/// The failure of a command that a signal ended.
pub(super) fn interrupted() -> Failure {
    Failure::new(
        Exit::Interrupted,
        "interrupted",
        "start it again; the changes made until now are whole",
    )
}
