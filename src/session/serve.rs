//! Serving until the kernel lets go, draining, and giving everything back.

use std::{
    future::Future,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use sd_notify::NotifyState;
use tokio::time::{Instant, sleep, timeout};

use super::{Opened, Opening, SessionConfig, VolumeSession, client_recording, signals::Signals};
use crate::{
    data::MemoryPlan,
    fuse::MountError,
    meta::MetaError,
    record::{self, Recorder},
    seal::volume::Secret,
    session::{
        control::{Progress, Sent, Source},
        errors,
        exit::Exit,
        failure::Failure,
        metrics::{self, MetricsListener},
        recording,
        state::{Trust, VolumeState},
    },
    telemetry::{Metrics, human_size},
};

/// How long the kernel may take to let go once it was told to.
const DETACH_WITHIN: Duration = Duration::from_secs(5);

/// How often systemd is asked for more time while draining, and for how much.
const EXTEND_EVERY: Duration = Duration::from_secs(10);
const EXTEND_BY_MICROSECONDS: u32 = 60_000_000;

/// How long giving the lease back may take after a drain that failed, perhaps because the store is
/// gone.
const GIVE_UP_WITHIN: Duration = Duration::from_secs(10);

/// How long clients of the control socket may take to read the last line.
const FAREWELL: Duration = Duration::from_secs(2);

/// The user's side of a session: a terminal, or a process that waits for it in the foreground.
pub trait Observer: Send + Sync {
    /// Whether the session outlives the terminal that it was started from.
    fn is_background(&self) -> bool;

    /// A line for the user, while something takes long.
    fn message(&self, line: &str);

    /// The volume is unlocked: from now on a session in the background logs into its state
    /// directory.
    ///
    /// # Errors
    /// There can be no log.
    fn unlocked(&self, state: &VolumeState) -> Result<(), Failure>;

    /// The mount answers. False if the waiting process has gone.
    fn ready(&self) -> bool;

    /// Returns if the waiting process goes before the mount is ready; never otherwise.
    fn abandoned(&self) -> impl Future<Output = ()> + Send;

    /// A step of the opening, for whoever looks at a terminal.
    fn step(&self, line: &str);

    /// How much of what was not durable went out, several times a second while the session drains.
    fn draining(&self, sent: Sent, trouble: Option<&str>);
}

/// All of `mount` behind the command line: opens, reports, serves, drains.
///
/// # Errors
/// Every failure that keeps the mount from answering, and later every failure that keeps data from
/// becoming durable.
pub async fn mount_and_serve(
    config: SessionConfig,
    secret: Secret,
    observer: &impl Observer,
) -> Result<(), Failure> {
    let recorder = config.recording.as_ref().map(recording::start);
    let recorder = recorder.transpose()?;
    let outcome = open_and_serve(config, secret, observer, recorder.clone()).await;
    if let Some(recorder) = recorder {
        recording::finish(recorder).await;
    }
    outcome
}

async fn open_and_serve(
    config: SessionConfig,
    secret: Secret,
    observer: &impl Observer,
    recorder: Option<Recorder>,
) -> Result<(), Failure> {
    let mut signals = Signals::catch(observer.is_background())?;
    let metrics = config.metrics.as_ref().map(MetricsListener::bind);
    let metrics = metrics.transpose()?;
    let interrupted = || {
        Failure::new(
            Exit::Interrupted,
            "interrupted before the mount was ready",
            "nothing was mounted",
        )
    };
    let opening = Opening::default();
    let mut told_to_stop = false;
    let session = {
        let open = open(config, secret, observer, &opening, recorder);
        tokio::pin!(open);
        let stop = async |signals: &mut Signals| {
            tokio::select! {
                () = signals.stop() => {}
                () = observer.abandoned() => {}
            }
        };
        tokio::select! {
            session = &mut open => session,
            () = stop(&mut signals) => {
                // Programs may have written to the mount that the kernel shows already. So the
                // session drains, and only a second signal during the drain may give that up. Nor
                // can mount(2) be taken back while a thread is in it: its mount would stay, dead.
                told_to_stop = opening.is_attaching();
                match told_to_stop {
                    true => open.await,
                    false => Err(interrupted()),
                }
            }
        }
    };
    let session = match session {
        Ok(session) => session,
        Err(error) => {
            opening.give_back().await;
            return Err(error);
        }
    };
    let _metrics = metrics.map(|listener| {
        let shared = Arc::clone(&session.shared);
        listener.serve(move || metrics::text(shared.status(), &shared.metrics))
    });
    let config = &session.config;
    tracing::info!(
        "strongroom {}: {} is mounted on {} ({}, --memory {}, --durability {}, --upload-delay {:?}, --timeout {:?})",
        env!("CARGO_PKG_VERSION"),
        config.url,
        config.mount_point.display(),
        if config.read_only {
            "read-only"
        } else {
            "writable"
        },
        human_size(config.memory_bytes),
        config.durability.name(),
        config.upload_delay,
        config.timeout
    );
    if !observer.ready() || told_to_stop {
        // The waiting process has gone, or its user no longer wants the mount.
        detach(&session).await;
    }
    notify(&[NotifyState::Ready]);
    serve(session, &mut signals, observer).await
}

async fn open(
    config: SessionConfig,
    secret: Secret,
    observer: &impl Observer,
    opening: &Opening,
    recorder: Option<Recorder>,
) -> Result<VolumeSession, Failure> {
    let disk_bytes = config.disk_cache.size.bytes();
    let mut plan = MemoryPlan::with_disk_cache(config.memory_bytes, disk_bytes);
    plan.data.write_back_after = config.upload_delay;
    plan.data.disk_admission = config.disk_cache.size.admission();
    if recorder.is_some() {
        plan.shares.capacity_bytes -= record::MEMORY_BYTES;
    }
    let store = client_recording(
        &config.url,
        &config.store,
        plan.connections_max,
        Arc::new(Metrics::default()),
        recorder,
    )
    .await?;
    let trust = Trust::new(&config.state_root, &store, config.accept).expecting(config.expect);
    // The memory that metadata and contents will have is free until the volume is open.
    let free_bytes = plan.meta_bytes + plan.shares.capacity_bytes;
    observer.step("unlocking the volume");
    let (bucket, opened) = tokio::join!(
        store.check_bucket(),
        Opened::open(&store, secret, trust, free_bytes)
    );
    bucket.map_err(|error| errors::store(&error, &config.url))?;
    let opened = opened?;
    let state = VolumeState::open(&config.state_root, opened.loaded.header.volume())?;
    observer.unlocked(&state)?;
    log_panics();
    recording::note(&state, store.recorder());
    observer.step(match config.read_only {
        true => "opening its metadata",
        false => "comparing its metadata with what this machine knows, and opening it",
    });
    let tell = |line: &str| observer.message(line);
    VolumeSession::open(config, plan, opened, state, opening, &tell).await
}

/// Nobody reads the standard error of a process in the background.
fn log_panics() {
    std::panic::set_hook(Box::new(|panic| tracing::error!("{panic}")));
}

/// Serves until the kernel lets go, a signal comes or the volume is taken over, then drains and
/// closes.
///
/// # Errors
/// [`Exit::NotDurable`] if something was lost, [`Exit::TakenOver`] if another mount has the volume.
pub async fn serve(
    session: VolumeSession,
    signals: &mut Signals,
    observer: &impl Observer,
) -> Result<(), Failure> {
    let outcome = match until_detached(&session, signals).await {
        Ok(()) => drain(&session, signals, observer).await,
        Err(error) => Err(error),
    };
    session.close(outcome).await
}

async fn until_detached(session: &VolumeSession, signals: &mut Signals) -> Result<(), Failure> {
    tokio::select! {
        () = session.mounted.wait_unmounted() => Ok(()),
        () = lost(session) => {
            stand_dead(session, signals).await;
            Err(errors::taken_over())
        }
        () = signals.stop() => {
            tracing::info!("stopping: a signal came");
            detach(session).await;
            if timeout(DETACH_WITHIN, session.mounted.wait_unmounted()).await.is_err() {
                tracing::warn!("files are still open; their handles end with this process");
            }
            Ok(())
        }
    }
}

/// Returns when another mount has taken the volume; never for a read-only mount.
async fn lost(session: &VolumeSession) {
    let Some(lease) = &session.lease else {
        return std::future::pending().await;
    };
    tokio::select! {
        () = lease.lost() => {}
        () = session.meta.fenced() => {}
    }
}

/// Nothing here can become durable any more. The mount stays where it is and answers EIO until
/// somebody unmounts it or a signal comes. Without it, programs that write below its path would
/// write into the directory that it covers, and believe their data safe.
async fn stand_dead(session: &VolumeSession, signals: &mut Signals) {
    tracing::error!(
        "another mount has taken this volume over; {} answers EIO until it is unmounted",
        session.config.mount_point.display()
    );
    session.mounted.fail();
    let trouble =
        "another mount has taken this volume over: everything here fails until it is unmounted";
    *session.shared.trouble.lock() = Some(trouble.to_owned());
    notify(&[NotifyState::Status(trouble)]);
    let quiet = async {
        // Nothing is sent to the store any more.
        session.data.shutdown().await;
        std::future::pending::<()>().await
    };
    tokio::select! {
        () = session.mounted.wait_unmounted() => {}
        () = signals.stop() => detach(session).await,
        () = quiet => {}
    }
}

/// Takes the mount out of the tree, in use or not.
async fn detach(session: &VolumeSession) {
    let outcome = match session.mounted.unmount(false).await {
        Err(MountError::Busy(_)) => session.mounted.unmount(true).await,
        outcome => outcome,
    };
    if let Err(error) = outcome {
        tracing::warn!("{error}");
    }
}

/// Makes everything durable. A second signal gives the rest up.
async fn drain(
    session: &VolumeSession,
    signals: &mut Signals,
    observer: &impl Observer,
) -> Result<(), Failure> {
    session.shared.sent();
    session.shared.draining.store(true, Ordering::Release);
    notify(&[NotifyState::Stopping]);
    if session.config.read_only {
        session.fs.shutdown().await;
        return Ok(());
    }
    if let Some(lease) = &session.lease {
        lease.drain();
    }
    let began = Instant::now();
    tracing::info!(
        "unmounted; {} are left to be made durable",
        human_size(session.data.dirty_bytes())
    );
    let outcome = tokio::select! {
        outcome = make_durable(session) => outcome,
        () = show_progress(session, observer) => Ok(()),
        () = lost(session) => Err(errors::taken_over()),
        () = signals.give_up() => Err(errors::lost("interrupted while draining", session.data.dirty_bytes())),
    };
    match &outcome {
        Ok(()) => tracing::info!(
            "everything is durable after {} ms",
            began.elapsed().as_millis()
        ),
        Err(error) => tracing::error!("{error}"),
    }
    outcome
}

/// Waits for as long as it takes, unless the store refuses all that is left for longer than
/// `--refusal-timeout`.
async fn make_durable(session: &VolumeSession) -> Result<(), Failure> {
    session.fs.shutdown().await;
    session
        .data
        .finish()
        .await
        .map_err(|error| errors::not_durable(&error, session.data.dirty_bytes()))
}

/// Shows the drain to the observer and to systemd; never returns.
async fn show_progress(session: &VolumeSession, observer: &impl Observer) {
    const SHOW_EVERY: Duration = Duration::from_millis(200);
    let mut extended: Option<Instant> = None;
    loop {
        let sent = session.shared.sent();
        observer.draining(sent, session.shared.trouble_in_log().as_deref());
        if extended.is_none_or(|at| at.elapsed() >= EXTEND_EVERY) {
            extended = Some(Instant::now());
            let text = format!(
                "draining, {} of {} sent",
                human_size(sent.sent_bytes),
                human_size(sent.total_bytes)
            );
            notify(&[
                NotifyState::ExtendTimeoutUsec(EXTEND_BY_MICROSECONDS),
                NotifyState::Status(&text),
            ]);
        }
        sleep(SHOW_EVERY).await;
    }
}

/// Tells systemd, if it listens.
fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!("systemd does not hear: {error}");
    }
}

impl VolumeSession {
    /// Stops background work, closes the metadata, gives the lease back, notes how the session
    /// ended and tells those who follow the drain.
    async fn close(mut self, outcome: Result<(), Failure>) -> Result<(), Failure> {
        let outcome = match outcome {
            Ok(()) => self.close_layers().await,
            Err(error) => {
                self.give_up().await;
                Err(error)
            }
        };
        let fingerprint = || Some(self.shared.fingerprint().to_string());
        let told = outcome.clone().map(|()| fingerprint());
        let told = Progress::finished(&told);
        if let Some(record) = self.record.take() {
            record.end(&told);
        }
        self.finished.send_replace(Some(told));
        self.control.finish(FAREWELL).await;
        outcome
    }

    /// Closes the drained layers. Everything is durable by now, so a store that fails here costs
    /// the next mount some work and nobody data.
    async fn close_layers(&self) -> Result<(), Failure> {
        self.data.shutdown().await;
        match self.close_metadata().await {
            Err(MetaError::Fenced) => return Err(errors::taken_over()),
            Err(error) => tracing::warn!(
                "everything is durable, but the metadata was not closed, and the next mount looks after that: {error}"
            ),
            Ok(()) => {}
        }
        self.notes.note();
        match &self.lease {
            Some(lease) => lease.release().await,
            None => Ok(()),
        }
    }

    async fn close_metadata(&self) -> Result<(), MetaError> {
        let ended = if self.config.read_only {
            Ok(())
        } else {
            // Everything that this session uploaded is committed: the next mount need not look for
            // leftovers.
            self.meta.end_session(self.meta.session()).await
        };
        let closed = self.meta.close().await;
        ended.and(closed)
    }

    /// Gives the lease back after a drain that failed. The session is not ended, so the next mount
    /// looks for its leftovers.
    async fn give_up(&self) {
        if let Some(lease) = &self.lease
            && timeout(GIVE_UP_WITHIN, lease.release()).await.is_err()
        {
            tracing::warn!("the lease was not given back; the next mount waits until it expires");
        }
    }
}
