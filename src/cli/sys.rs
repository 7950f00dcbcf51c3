//! The few system calls that have no safe wrapper among the dependencies.
//!
//! The only module of the command line with `unsafe` in it.
#![allow(unsafe_code)]

use std::io;

use nix::unistd::ForkResult;

#[cfg(feature = "demo")]
use crate::session::Failure;

/// Forks. Refuses when the process has more than one thread, since a lock held by another thread
/// would stay locked in the child for ever.
///
/// # Errors
/// There are other threads, or the system has no room for a process.
pub fn fork() -> io::Result<ForkResult> {
    refuse_threads()?;
    // SAFETY: this is the only thread, checked above, so the child may use everything that the
    // parent could.
    unsafe { nix::unistd::fork() }.map_err(io::Error::from)
}

fn refuse_threads() -> io::Result<()> {
    match std::fs::read_dir("/proc/self/task")?.count() {
        1 => Ok(()),
        threads => Err(io::Error::other(format!("{threads} threads exist already"))),
    }
}

/// Sets an environment variable of this process. `/proc/<pid>/environ` goes on showing the
/// variables that the process was started with.
///
/// # Errors
/// There are other threads, which might read the environment at the same time.
#[cfg(feature = "demo")]
pub fn set_environment(name: &str, value: &str) -> Result<(), Failure> {
    refuse_threads().map_err(environment_error)?;
    // SAFETY: this is the only thread, checked above.
    unsafe { std::env::set_var(name, value) };
    Ok(())
}

/// Removes an environment variable of this process.
///
/// # Errors
/// As [`set_environment`].
#[cfg(feature = "demo")]
pub fn remove_environment(name: &str) -> Result<(), Failure> {
    refuse_threads().map_err(environment_error)?;
    // SAFETY: this is the only thread, checked above.
    unsafe { std::env::remove_var(name) };
    Ok(())
}

#[cfg(feature = "demo")]
fn environment_error(error: io::Error) -> Failure {
    Failure::unexpected(format!("cannot change the environment: {error}"))
}
