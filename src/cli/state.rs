//! What this machine remembers of a volume: `<state-dir>/<volume id>/`.
//!
//! It holds the log of background mounts, the control sockets of running mounts and `seen.json`: the newest state of
//! the volume that this machine has met, so that a provider cannot serve an older one unnoticed.
//!
//! Promises: no data depends on anything here; what is lost or damaged here is no check, never a failure to mount.
//! Never: holds a secret or a name from the volume.

use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::exit::{CliError, Exit};
use crate::seal::keys::VolumeId;

/// The newest state of a volume that was met.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// Of the metadata; grows with every flush.
    pub generation: u64,
    /// Of the volume header; grows with every change of a key slot.
    pub header_revision: u64,
}

impl Seen {
    /// The newer of each.
    #[must_use]
    pub fn newest(self, other: Seen) -> Seen {
        Seen {
            generation: self.generation.max(other.generation),
            header_revision: self.header_revision.max(other.header_revision),
        }
    }
}

/// The state directory of one volume.
#[derive(Clone, Debug)]
pub struct VolumeState {
    dir: PathBuf,
}

/// The state directory that is used when `--state-dir` names none: `/var/lib/strongroom` for root, otherwise
/// `$XDG_STATE_HOME/strongroom` or `~/.local/state/strongroom`.
pub fn default_root() -> PathBuf {
    let from = |name| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    if nix::unistd::geteuid().is_root() {
        return PathBuf::from("/var/lib/strongroom");
    }
    if let Some(state) = from("XDG_STATE_HOME").filter(|path| path.is_absolute()) {
        return state.join("strongroom");
    }
    match from("HOME") {
        Some(home) => home.join(".local/state/strongroom"),
        None => std::env::temp_dir().join(format!("strongroom-{}", nix::unistd::geteuid())),
    }
}

/// The id as it stands in paths: 32 hexadecimal digits.
pub fn volume_name(volume: VolumeId) -> String {
    data_encoding::HEXLOWER.encode(&volume.0)
}

impl VolumeState {
    /// Makes the directory if it is not there (mode 0700) and removes sockets that nobody listens on.
    ///
    /// # Errors
    /// The directory cannot be made.
    pub fn open(root: &Path, volume: VolumeId) -> Result<VolumeState, CliError> {
        let dir = root.join(volume_name(volume));
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&dir)
            .map_err(|error| {
                CliError::new(
                    Exit::Unexpected,
                    format!("cannot make the state directory {}: {error}", dir.display()),
                    "choose another one with --state-dir",
                )
            })?;
        let state = VolumeState { dir };
        state.remove_dead_sockets();
        Ok(state)
    }

    /// Where a background mount logs.
    pub fn log_file(&self) -> PathBuf {
        self.dir.join("mount.log")
    }

    /// Where the mount of process `pid` listens.
    pub fn socket(&self, pid: u32) -> PathBuf {
        self.dir.join(format!("{pid}.sock"))
    }

    /// What was seen; nothing if that cannot be read.
    pub fn seen(&self) -> Seen {
        let Ok(text) = fs::read(self.seen_file()) else {
            return Seen::default();
        };
        serde_json::from_slice(&text).unwrap_or_else(|error| {
            tracing::warn!(
                "{} cannot be read and is ignored: {error}",
                self.seen_file().display()
            );
            Seen::default()
        })
    }

    /// Remembers `seen`, replacing the file whole.
    ///
    /// # Errors
    /// The directory cannot be written; the caller goes on without.
    pub fn remember(&self, seen: Seen) -> io::Result<()> {
        let temporary = self.dir.join(format!("seen.{}.tmp", std::process::id()));
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&temporary)?;
        file.write_all(&serde_json::to_vec(&seen)?)?;
        file.sync_all()?;
        fs::rename(&temporary, self.seen_file())
    }

    fn seen_file(&self) -> PathBuf {
        self.dir.join("seen.json")
    }

    fn remove_dead_sockets(&self) {
        for socket in sockets(&self.dir) {
            let dead = super::control::connect(&socket)
                .is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused);
            if dead {
                // Another mount may have removed it just now; either way it is gone.
                let _ = fs::remove_file(&socket);
            }
        }
    }
}

/// All control sockets below a state directory, of all volumes.
pub fn all_sockets(root: &Path) -> Vec<PathBuf> {
    let Ok(volumes) = fs::read_dir(root) else {
        return Vec::new();
    };
    volumes
        .filter_map(Result::ok)
        .flat_map(|volume| sockets(&volume.path()))
        .collect()
}

fn sockets(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else {
        return Vec::new();
    };
    entries
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "sock")
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const VOLUME: VolumeId = VolumeId([7; 16]);

    #[test]
    fn what_was_seen_is_remembered_and_lost_state_is_no_failure() {
        let root = tempfile::tempdir().expect("a directory");
        let state = VolumeState::open(root.path(), VOLUME).expect("opened");
        assert_eq!(state.seen(), Seen::default());
        let seen = Seen {
            generation: 9,
            header_revision: 2,
        };
        state.remember(seen).expect("written");
        assert_eq!(
            VolumeState::open(root.path(), VOLUME)
                .expect("opened")
                .seen(),
            seen
        );
        fs::write(state.seen_file(), b"{").expect("written");
        assert_eq!(state.seen(), Seen::default());
    }

    #[test]
    fn a_socket_nobody_listens_on_is_removed() {
        let root = tempfile::tempdir().expect("a directory");
        let state = VolumeState::open(root.path(), VOLUME).expect("opened");
        let (dead, live) = (state.socket(1), state.socket(2));
        drop(std::os::unix::net::UnixListener::bind(&dead).expect("bound"));
        let _listener = std::os::unix::net::UnixListener::bind(&live).expect("bound");
        let _ = VolumeState::open(root.path(), VOLUME).expect("opened");
        assert!(!dead.exists());
        assert!(live.exists());
        assert_eq!(all_sockets(root.path()), [live]);
    }
}
