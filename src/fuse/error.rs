//! Why a mount cannot be made or undone.

use std::{io, path::PathBuf};

use crate::fs::FsError;

/// Each says what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// Nothing is there.
    #[error("mount point {0:?} does not exist; make the directory first")]
    Missing(PathBuf),
    /// Something else is there.
    #[error("mount point {0:?} is not a directory; name a directory")]
    NotADirectory(PathBuf),
    /// Something is mounted there.
    #[error("{0:?} is already a mount point; unmount what is there or name another directory")]
    AlreadyMounted(PathBuf),
    /// The process behind what is mounted there is gone.
    #[error("{0:?} holds a mount whose process is gone; remove it with: fusermount3 -u {0:?}")]
    DeadMount(PathBuf),
    /// The kernel module is not there.
    #[error(
        "there is no /dev/fuse; load the module with: modprobe fuse (in a container: pass --device /dev/fuse)"
    )]
    NoFuseDevice,
    /// Not root, and no helper program.
    #[error(
        "fusermount3 was not found, which users other than root need to mount; install the package fuse3"
    )]
    NoFusermount,
    /// `/etc/fuse.conf` forbids it.
    #[error(
        "--allow-other is refused; root must put the line user_allow_other into /etc/fuse.conf"
    )]
    AllowOtherRefused,
    /// Refused otherwise.
    #[error("mounting at {path:?} is not permitted: {reason}")]
    NotPermitted {
        /// Where.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// Files in it are open.
    #[error("{0:?} is in use; close what uses it (lsof names it), or unmount lazily")]
    Busy(PathBuf),
    /// The mount is there and does not answer.
    #[error("the mount at {0:?} does not answer")]
    NoAnswer(PathBuf),
    /// Anything else.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        source: io::Error,
    },
}

impl MountError {
    /// The root directory cannot be read, so nothing could be answered.
    pub fn root(error: FsError) -> MountError {
        MountError::io("reading the root directory", io::Error::other(error))
    }

    pub(super) fn io(what: &'static str, source: impl Into<io::Error>) -> MountError {
        MountError::Io {
            what,
            source: source.into(),
        }
    }
}
