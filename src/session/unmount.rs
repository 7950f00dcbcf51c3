//! Unmounting from another process, and learning how a mount ended.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use super::{
    control::{self, Address, Progress},
    errors,
    exit::Exit,
    failure::Failure,
    last_session::{Ended, LastSession},
    lease::Process,
    mountpoint, processes, state,
    status::StatusReport,
};
use crate::{
    fuse::{self, MountError},
    telemetry::moment,
};

/// How long the process may take to go once all is durable.
const EXIT_WITHIN: Duration = Duration::from_secs(30);

/// Unmounts the mount at `dir`, and leaves its process to drain.
///
/// # Errors
/// [`Exit::NotMounted`], [`Exit::Busy`], or the refusal of the kernel or the helper.
pub fn let_go(dir: &Path, lazy: bool) -> Result<(), Failure> {
    let Some(mount) = mountpoint::mounted(dir) else {
        return Err(Failure::new(
            Exit::NotMounted,
            format!("{} is not mounted", dir.display()),
            "give the directory that a volume is mounted on",
        ));
    };
    let failed = |why: &dyn std::fmt::Display| {
        Failure::unexpected(format!("cannot unmount {}: {why}", dir.display()))
    };
    fuse::detach(&mount, lazy).map_err(|error| match &error {
        MountError::Busy(_) => errors::mount(&error),
        // Its own text is about mounting.
        MountError::NotPermitted { reason, .. } => failed(reason),
        other => failed(other),
    })
}

/// The socket of a process that was mounted at `dir` and still drains. Another state directory than
/// `state_root` may be its own: then it is found if it is this user's.
pub fn draining_from(dir: &Path, state_root: &Path) -> Option<Address> {
    let drains = |report: &StatusReport| {
        report.mount.state != "mounted" && Path::new(&report.mount.mount_point) == dir
    };
    let sockets = state::all_sockets(state_root).into_iter();
    let known = sockets.map(Address::trusted).find(|socket| {
        control::ask_status(socket, Duration::from_secs(5)).is_ok_and(|report| drains(&report))
    });
    known.or_else(|| processes::find(nix::unistd::geteuid().as_raw(), drains))
}

/// Takes a mount whose process was killed out of the kernel's table.
///
/// # Errors
/// Always: [`Exit::NotDurable`], because that process did not drain, or the refusal of the kernel
/// or the helper.
pub fn clear_dead_mount(dir: &Path) -> Result<Unmounted, Failure> {
    let_go(dir, true)?;
    Err(Failure::new(
        Exit::NotDurable,
        format!(
            "the process that served {} had died; the directory is free again",
            dir.display()
        ),
        "fsynced data is in the store; check the last writes",
    ))
}

/// A session that has ended, with everything durable in the store and its process gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unmounted {
    /// When it ended, seconds since 1970.
    pub unix_seconds: i64,
    /// The fingerprint of the state that it left.
    pub fingerprint: Option<String>,
}

/// How the last session at `dir` ended, where nothing is mounted and nothing drains any more.
///
/// # Errors
/// `unknown` if no session there is known; the failure that the session ended with;
/// [`Exit::NotDurable`] if its process was killed.
pub fn ended_before(dir: &Path, state_root: &Path, unknown: Failure) -> Result<Unmounted, Failure> {
    if mountpoint::mounted(dir).is_some() {
        return Err(unknown);
    }
    let last = LastSession::read(state_root, dir).ok_or(unknown)?;
    outcome(dir, &last)
}

/// How the session of `process` at `dir` ended; `None` if it is not known to have ended.
pub fn outcome_of(
    process: &Process,
    dir: &Path,
    state_root: &Path,
) -> Option<Result<Unmounted, Failure>> {
    let last = LastSession::read(state_root, dir)?;
    (last.is_of(process) && last.ended.is_some()).then(|| outcome(dir, &last))
}

fn outcome(dir: &Path, last: &LastSession) -> Result<Unmounted, Failure> {
    let running = last.running();
    let (dir, url) = (dir.display(), &last.url);
    match &last.ended {
        Some(Ended {
            unix_seconds,
            outcome:
                Progress::Finished {
                    exit,
                    what,
                    advice,
                    fingerprint,
                },
        }) => match Exit::from_code(*exit) {
            Some(Exit::Ok) => {
                wait_until_gone(running.as_ref())?;
                Ok(Unmounted {
                    unix_seconds: *unix_seconds,
                    fingerprint: fingerprint.clone(),
                })
            }
            exit => Err(Failure::new(
                exit.unwrap_or(Exit::Unexpected),
                format!("{dir} was unmounted at {}: {what}", moment(*unix_seconds)),
                advice,
            )),
        },
        Some(_) | None => Err(Failure::new(
            Exit::NotDurable,
            match running {
                Some(process) => format!(
                    "process {} of the mount of {url} at {dir} does not answer",
                    process.pid
                ),
                None => format!(
                    "nothing is mounted at {dir}, and the process of the last mount there, of {url}, died before everything was durable"
                ),
            },
            "fsynced data is in the store; check the last writes",
        )),
    }
}

/// Waits until the process that served a mount has ended.
///
/// # Errors
/// It does not end.
pub fn wait_until_gone(process: Option<&Process>) -> Result<(), Failure> {
    let Some(process) = process else {
        return Ok(());
    };
    let deadline = Instant::now() + EXIT_WITHIN;
    while process.is_alive() {
        if Instant::now() > deadline {
            return Err(Failure::new(
                Exit::Unexpected,
                format!(
                    "everything is durable, but process {} has not ended",
                    process.pid
                ),
                "see its log",
            ));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}
