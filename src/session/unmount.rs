//! Unmounting from another process.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use super::{
    control::{self, Address},
    errors,
    exit::Exit,
    failure::Failure,
    lease::Process,
    mountpoint, state,
};
use crate::fuse::{self, MountError};

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

/// The socket of a process that was mounted at `dir` and still drains.
pub fn draining_from(dir: &Path, state_root: &Path) -> Option<Address> {
    let sockets = state::all_sockets(state_root).into_iter();
    sockets.map(Address::trusted).find(|socket| {
        control::ask_status(socket, Duration::from_secs(5)).is_ok_and(|status| {
            status.mount.state != "mounted" && Path::new(&status.mount.mount_point) == dir
        })
    })
}

/// Takes a mount whose process was killed out of the kernel's table.
///
/// # Errors
/// Always: [`Exit::NotDurable`], because that process did not drain, or `not_ours` if there is no
/// such mount.
pub fn clear_dead_mount(dir: &Path, not_ours: Failure) -> Result<(), Failure> {
    // Unlike `stat`, this is never answered from the kernel's cache.
    let dead = nix::sys::statvfs::statvfs(dir) == Err(nix::errno::Errno::ENOTCONN);
    if !dead || !mountpoint::mounted(dir).is_some_and(|mount| mount.kind.starts_with("fuse")) {
        return Err(not_ours);
    }
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
