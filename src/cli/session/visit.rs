//! A volume that is opened without being served: what `fsck` and `gc` share.
//!
//! The same steps as for a mount (`open.rs`), with the same checks before anything is written, and
//! nothing above the metadata. For reading it is a follower that sees one state; for writing it
//! holds the lease.

use std::{io::Write, path::PathBuf, sync::Arc, time::Duration};

use clap::Args;

use super::{
    Opened, Opening, client,
    open::{Door, OBJECT_CACHE_SHARE, close_unused},
    parse_url,
    signals::Signals,
};
use crate::{
    cli::{
        args::{LogArgs, SecretArgs, StoreArgs},
        errors,
        exit::{CliError, Exit},
        fingerprint::Fingerprint,
        lease::{self, Lease, LeaseRequest},
        secret,
        state::{Accept, Known, StateArgs, StateSeen, Trust, VolumeState},
        values::{human_size, parse_size},
    },
    data::{MEMORY_MIN_BYTES, MemoryPlan},
    meta::{Meta, MetaConfig, MetaError},
    seal::{keys::make_process_undumpable, object_store::SealedObjectStore, volume::Secret},
    store::{Retry, S3Url, Store},
    telemetry::{self, Metrics},
};

/// As `mount --refusal-timeout` by default.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(120);

/// What is logged if nothing is said: what the findings do not say.
const LOG_LEVEL: &str = "error";

/// The options that `fsck` and `gc` share.
#[derive(Args, Debug)]
pub struct VisitArgs {
    /// The volume: s3://bucket/prefix
    #[arg(value_name = "URL")]
    pub url: String,

    /// The memory that the whole process stays below; at least 128MiB
    #[arg(long, value_name = "SIZE", default_value = "512MiB", value_parser = parse_size)]
    pub memory: u64,

    /// Take the volume from a mount that is dead; a living one is fenced off
    #[arg(long)]
    pub takeover: bool,

    /// Go on only if the volume is in the state with this fingerprint, or in a later one
    #[arg(long, value_name = "FINGERPRINT", help_heading = "Trust")]
    pub expect: Option<Fingerprint>,

    #[allow(missing_docs)] // The text would become help.
    #[command(flatten)]
    pub accept: Accept,

    #[allow(missing_docs)] // The text would become help.
    #[command(flatten)]
    pub state: StateArgs,

    #[allow(missing_docs)] // The text would become help.
    #[command(flatten)]
    pub secret: SecretArgs,

    #[allow(missing_docs)] // The text would become help.
    #[command(flatten)]
    pub store: StoreArgs,

    #[allow(missing_docs)] // The text would become help.
    #[command(flatten)]
    pub log: LogArgs,
}

/// What is needed to open, checked.
pub struct VisitConfig {
    /// The volume.
    pub url: S3Url,
    secret: Secret,
    state_root: PathBuf,
}

/// An open volume.
pub struct Visit {
    /// What was unlocked.
    pub opened: Opened,
    /// The metadata.
    pub meta: Meta,
    /// The store, as patient as a mount.
    pub store: Store,
    /// How memory is divided.
    pub plan: MemoryPlan,
    /// Another mount may be writing: its lease says so, and nothing here proves it dead. Never if
    /// the lease is held here.
    pub has_living_writer: bool,
    sealed: SealedObjectStore,
    lease: Option<Arc<Lease>>,
}

impl VisitArgs {
    /// Everything that can be refused before the store is reached, and the log.
    ///
    /// # Errors
    /// A wrong URL, too little memory, no secret.
    pub fn prepare(&self) -> Result<VisitConfig, CliError> {
        let url = parse_url(&self.url)?;
        if self.memory < MEMORY_MIN_BYTES {
            return Err(CliError::new(
                Exit::MemoryTooSmall,
                format!("--memory {} is below the floor", human_size(self.memory)),
                format!("give at least {}", human_size(MEMORY_MIN_BYTES)),
            ));
        }
        // Where the system refuses, the secrets are as safe as in any other program's memory.
        let _ = make_process_undumpable();
        let level = self.log.log_level.as_deref().unwrap_or(LOG_LEVEL);
        telemetry::log::start(level, self.log.log_file.as_deref()).map_err(|error| {
            CliError::usage(
                format!("cannot log: {error}"),
                "see --log-level and --log-file",
            )
        })?;
        Ok(VisitConfig {
            url,
            secret: secret::unlock_secret(&self.secret)?,
            state_root: self.state.root()?,
        })
    }

    /// Opens the volume, for writing if `write`. After a failure the caller lets `opening` give
    /// back what was taken.
    ///
    /// # Errors
    /// As for a mount.
    pub async fn open(
        &self,
        config: VisitConfig,
        write: bool,
        opening: &Opening,
    ) -> Result<Visit, CliError> {
        let plan = MemoryPlan::for_memory(self.memory);
        let metrics = Arc::new(Metrics::default());
        let store = client(&config.url, &self.store, plan.connections_max, metrics).await?;
        store
            .check_bucket()
            .await
            .map_err(|error| errors::store(&error, &config.url))?;
        let trust = Trust::new(&config.state_root, &store, self.accept).expecting(self.expect);
        // What metadata and contents will have is free until the volume is open.
        let free_bytes = plan.meta_bytes + plan.shares.capacity_bytes;
        let opened = Opened::open(&store, config.secret, trust, free_bytes).await?;
        let patient = store.with_retry(Retry::Outlasting(REFUSAL_TIMEOUT));
        let sealed = SealedObjectStore::new(
            patient.clone(),
            Arc::clone(&opened.unlocked.keys),
            plan.meta_bytes / OBJECT_CACHE_SHARE,
        );
        let mut door = Door {
            opened: &opened,
            sealed: &sealed,
            config: MetaConfig::frozen(plan.meta_bytes),
        };
        let (meta, lease, has_living_writer) = if write {
            door.config.read_only = false;
            let state = VolumeState::open(&config.state_root, opened.loaded.header.volume())?;
            let request = LeaseRequest {
                store: &store,
                keys: &opened.unlocked.keys,
                socket: &state.socket(std::process::id()),
                takeover: self.takeover,
                log: &sealed,
                tell: &|line| {
                    let _ = writeln!(std::io::stderr(), "{line}");
                },
            };
            let (meta, lease) = door.enter(request, opening).await?;
            (meta, Some(lease), false)
        } else {
            let holder = lease::look(&store, &opened.unlocked.keys).await?;
            let living = holder.is_some_and(|found| found.may_be_alive());
            (door.follow().await?, None, living)
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
}

impl Visit {
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

    /// Makes durable what was changed, notes it on this machine, and gives everything back.
    ///
    /// # Errors
    /// [`Exit::TakenOver`], or the metadata was not closed.
    pub async fn close(self) -> Result<(), CliError> {
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
pub async fn interruptible<T>(work: impl Future<Output = T>) -> Result<T, CliError> {
    let mut signals = Signals::catch(false)?;
    tokio::select! {
        done = work => Ok(done),
        () = signals.stop() => Err(CliError::new(
            Exit::Interrupted,
            "interrupted",
            "start it again; what was done until now is whole",
        )),
    }
}
