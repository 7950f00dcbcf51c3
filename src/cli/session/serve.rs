//! Serving until the kernel lets go, draining, and giving everything back.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use sd_notify::NotifyState;
use tokio::time::{Instant, interval, sleep, timeout};

use super::{Opened, SessionConfig, VolumeSession, client, load_header, signals::Signals, unlock};
use crate::{
    cli::{
        args::LogArgs,
        control::Progress,
        daemon::Reporter,
        errors,
        exit::{CliError, Exit},
        state::VolumeState,
        umount::Display,
    },
    data::MemoryPlan,
    fuse::MountError,
    seal::volume::Secret,
    telemetry::{self, Metrics},
};

/// How often the newest state of the volume is noted on this machine.
const REMEMBER_EVERY: Duration = Duration::from_secs(60);

/// How long the kernel may take to let go once it was told to.
const DETACH_WITHIN: Duration = Duration::from_secs(5);

/// How often systemd is asked for more time while draining, and for how much.
const EXTEND_EVERY: Duration = Duration::from_secs(10);
const EXTEND_BY_MICROSECONDS: u32 = 60_000_000;

/// How long clients of the control socket may take to read the last line.
const FAREWELL: Duration = Duration::from_secs(2);

/// All of `mount` behind the command line: opens, reports, serves, drains.
///
/// # Errors
/// What keeps the mount from answering, and later what keeps data from becoming durable.
pub async fn mount_and_serve(
    config: SessionConfig,
    secret: Secret,
    log: &LogArgs,
    reporter: &Reporter,
) -> Result<(), CliError> {
    let mut signals = Signals::catch(reporter.is_background())?;
    let interrupted = || {
        CliError::new(
            Exit::Interrupted,
            "interrupted before the mount was ready",
            "nothing was mounted",
        )
    };
    let session = tokio::select! {
        session = open(config, secret, log, reporter) => session?,
        () = signals.stop() => return Err(interrupted()),
        () = reporter.abandoned() => return Err(interrupted()),
    };
    tracing::info!(
        "{} is mounted on {}",
        session.config.url,
        session.config.mount_point.display()
    );
    if !reporter.ready() {
        // Whoever asked for the mount has gone: unmount as if told to.
        detach(&session).await;
    }
    notify(&[NotifyState::Ready]);
    serve(session, &mut signals, !reporter.is_background()).await
}

async fn open(
    config: SessionConfig,
    secret: Secret,
    log: &LogArgs,
    reporter: &Reporter,
) -> Result<VolumeSession, CliError> {
    if !reporter.is_background() {
        start_log(log, log.log_file.as_deref())?;
    }
    let mut plan = MemoryPlan::for_memory(config.memory_bytes);
    plan.data.write_back_after = config.upload_delay;
    let store = client(
        &config.url,
        &config.store,
        plan.connections_max,
        Arc::new(Metrics::default()),
    )
    .await?;
    store
        .check_bucket()
        .await
        .map_err(|error| errors::store(&error, &config.url))?;
    let loaded = load_header(&store).await?;
    // What metadata and contents will have is free until the volume is open.
    let free_bytes = plan.meta_bytes + plan.shares.capacity_bytes;
    let unlocked = unlock(&loaded, secret, free_bytes).await?;
    let state = VolumeState::open(&config.state_root, loaded.header.volume())?;
    if reporter.is_background() {
        start_log(
            log,
            Some(&log.log_file.clone().unwrap_or_else(|| state.log_file())),
        )?;
    }
    log_panics();
    let opened = Opened {
        store,
        loaded,
        unlocked,
    };
    VolumeSession::open(config, plan, opened, state, &|line| reporter.message(line)).await
}

fn start_log(log: &LogArgs, file: Option<&std::path::Path>) -> Result<(), CliError> {
    let level = log.log_level.as_deref().unwrap_or("info");
    telemetry::log::start(level, file).map_err(|error| {
        let place = file
            .map(|file| format!(" to {}", file.display()))
            .unwrap_or_default();
        CliError::usage(
            format!("cannot log{place}: {error}"),
            "see --log-level and --log-file",
        )
    })
}

/// Nobody reads the standard error of a process in the background.
fn log_panics() {
    std::panic::set_hook(Box::new(|panic| tracing::error!("{panic}")));
}

/// Serves until the kernel lets go, a signal comes or the volume is taken over, then drains and closes.
///
/// # Errors
/// [`Exit::NotDurable`] if something was lost, [`Exit::TakenOver`] if another mount has the volume.
pub async fn serve(
    session: VolumeSession,
    signals: &mut Signals,
    on_terminal: bool,
) -> Result<(), CliError> {
    let outcome = match until_detached(&session, signals).await {
        Ok(()) => drain(&session, signals, on_terminal).await,
        Err(error) => Err(error),
    };
    session.close(outcome).await
}

async fn until_detached(session: &VolumeSession, signals: &mut Signals) -> Result<(), CliError> {
    let mut remember = interval(REMEMBER_EVERY);
    loop {
        tokio::select! {
            () = session.mounted.wait_unmounted() => return Ok(()),
            () = lost(session) => {
                stand_dead(session, signals).await;
                return Err(errors::taken_over());
            }
            () = signals.stop() => {
                tracing::info!("stopping: a signal came");
                detach(session).await;
                if timeout(DETACH_WITHIN, session.mounted.wait_unmounted()).await.is_err() {
                    tracing::warn!("files are still open; their handles end with this process");
                }
                return Ok(());
            }
            _ = remember.tick() => session.remember(),
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

/// Nothing of what is here can become durable any more. The mount stays where it is and answers
/// EIO, until somebody unmounts it or a signal comes: were it taken away, whoever writes below its
/// path would write into the directory that it covers, and believe it safe.
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
    on_terminal: bool,
) -> Result<(), CliError> {
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
        "unmounted; {} bytes are left to be made durable",
        session.data.dirty_bytes()
    );
    let outcome = tokio::select! {
        outcome = make_durable(session) => outcome,
        () = show_progress(session, on_terminal) => Ok(()),
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

/// Waits for as long as it takes, unless the store refuses all that is left for longer than `--refusal-timeout`.
async fn make_durable(session: &VolumeSession) -> Result<(), CliError> {
    session.fs.shutdown().await;
    session
        .data
        .drain()
        .await
        .map_err(|error| errors::not_durable(&error, session.data.dirty_bytes()))
}

/// Shows the drain on the terminal and to systemd; never returns.
async fn show_progress(session: &VolumeSession, on_terminal: bool) {
    const SHOW_EVERY: Duration = Duration::from_millis(200);
    let display = Display::new(!on_terminal);
    let mut extended: Option<Instant> = None;
    loop {
        let dirty_bytes = session.data.dirty_bytes();
        display.show(dirty_bytes, session.shared.trouble().as_deref());
        if extended.is_none_or(|at| at.elapsed() >= EXTEND_EVERY) {
            extended = Some(Instant::now());
            let text = format!("draining, {dirty_bytes} bytes left");
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
    /// Stops background work, closes the metadata, gives the lease back and tells whoever follows how it ended.
    async fn close(self, outcome: Result<(), CliError>) -> Result<(), CliError> {
        let outcome = match outcome {
            Ok(()) => self.close_layers().await,
            Err(error) => Err(error),
        };
        self.finished
            .send_replace(Some(Progress::finished(&outcome)));
        self.control.finish(FAREWELL).await;
        outcome
    }

    async fn close_layers(&self) -> Result<(), CliError> {
        self.data.shutdown().await;
        self.remember();
        if !self.config.read_only {
            // Everything that it uploaded is committed: the next mount need not look for leftovers.
            let ended = self.meta.end_session(self.meta.session()).await;
            ended.map_err(|error| errors::meta(&error, "the session cannot be ended"))?;
        }
        self.meta
            .close()
            .await
            .map_err(|error| errors::meta(&error, "the metadata cannot be closed"))?;
        self.remember();
        match &self.lease {
            Some(lease) => lease.release().await,
            None => Ok(()),
        }
    }
}
