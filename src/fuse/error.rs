//! Why a mount cannot be made or undone.

use std::{io, path::PathBuf};

use crate::fs::FsError;

/// Each error says what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// Nothing is there.
    #[error("mount point {} does not exist; make it: mkdir -p {}", .0.display(), .0.display())]
    Missing(PathBuf),
    /// Something else is there.
    #[error("mount point {} is not a directory; name a directory", .0.display())]
    NotADirectory(PathBuf),
    /// Something is mounted there.
    #[error("something is mounted on {} already; unmount it (fusermount3 -u {}), or name another directory", .0.display(), .0.display())]
    AlreadyMounted(PathBuf),
    /// The process behind the mount there is gone.
    #[error("{} holds a mount whose process is gone; remove it (fusermount3 -u {})", .0.display(), .0.display())]
    DeadMount(PathBuf),
    /// The device is there, and this user may not use it.
    #[error(
        "cannot open /dev/fuse: {0}; mount as root or as a member of the group that owns it (in a container: pass --device /dev/fuse)"
    )]
    DeviceRefused(io::Error),
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
    #[error("mounting at {} is not permitted: {reason}; choose a directory that you own", path.display())]
    NotPermitted {
        /// Where.
        path: PathBuf,
        /// The system's explanation.
        reason: String,
    },
    /// Files in it are open.
    #[error("{} is busy; close what uses it ('fuser -vm {}' tells who), or use --lazy", .0.display(), .0.display())]
    Busy(PathBuf),
    /// The mount is there and does not answer.
    #[error("the mount at {} does not answer", .0.display())]
    NoAnswer(PathBuf),
    /// Anything else.
    #[error("{what}: {source}")]
    Io {
        /// The step that was tried.
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
