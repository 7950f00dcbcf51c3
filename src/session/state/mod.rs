//! The state directory: the knowledge that this machine keeps beside the bucket.
//!
//! | what | where |
//! |---|---|
//! | logs of background mounts, control sockets of running mounts | `<state-dir>/<volume id>/`, here |
//! | the known state of the volume at each place, so that a store cannot show an older or another volume unnoticed | `<state-dir>/places/`: `known.rs`, `form.rs`, `place.rs` |
//! | the last session at each mount point | `<state-dir>/mount-points/`: `session/last_session.rs` |
//! | the comparison, and the fingerprint of a state | `trust.rs`, `fingerprint.rs` |
//!
//! Promises: no data depends on anything here; a file that is lost or damaged here costs a check,
//! and is never a reason not to mount. Never: holds a secret or a name from the volume; trusts a
//! directory in a place where others can write unless it is this user's alone.

mod fingerprint;
mod form;
#[cfg(any(fuzzing, test))]
pub(crate) mod fuzz;
mod known;
mod place;
mod trust;

use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

pub use fingerprint::Fingerprint;
pub use known::{Known, StateSeen};
pub use place::places;
pub use trust::{Accept, Trust};

use super::{exit::Exit, failure::Failure};
use crate::{disk::own_directory, seal::keys::VolumeId};

/// The file in it that names the last recording.
const RECORDING_NOTE: &str = "recording";

/// The state directory of one volume.
#[derive(Clone, Debug)]
pub struct VolumeState {
    dir: PathBuf,
}

/// The state directory if none was named: `/var/lib/strongroom` for root,
/// `$XDG_STATE_HOME/strongroom` or `~/.local/state/strongroom` for others, and without a home one
/// in the directory of temporary files.
///
/// # Errors
/// The last of these exists and is not this user's alone.
pub fn default_root() -> Result<PathBuf, Failure> {
    let from = |name| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    if nix::unistd::geteuid().is_root() {
        return Ok(PathBuf::from("/var/lib/strongroom"));
    }
    if let Some(state) = from("XDG_STATE_HOME").filter(|path| path.is_absolute()) {
        return Ok(state.join("strongroom"));
    }
    if let Some(home) = from("HOME") {
        return Ok(home.join(".local/state/strongroom"));
    }
    let dir = std::env::temp_dir().join(format!("strongroom-{}", nix::unistd::geteuid()));
    own_directory(&dir).map_err(|why| {
        Failure::new(
            Exit::Unexpected,
            format!(
                "the state directory {} cannot be trusted: {why}",
                dir.display()
            ),
            "set HOME, or name another one with --state-dir",
        )
    })?;
    Ok(dir)
}

impl VolumeState {
    /// Makes the directory if it is not there (mode 0700) and removes sockets that nobody listens
    /// on.
    ///
    /// # Errors
    /// The directory cannot be made.
    pub fn open(root: &Path, volume: VolumeId) -> Result<VolumeState, Failure> {
        let dir = root.join(volume.to_string());
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&dir)
            .map_err(|error| {
                Failure::new(
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

    /// Where the path of the last recording is noted.
    pub fn recording_note(&self) -> PathBuf {
        self.dir.join(RECORDING_NOTE)
    }

    /// Where the mount of process `pid` listens.
    pub fn socket(&self, pid: u32) -> PathBuf {
        self.dir.join(format!("{pid}.sock"))
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

/// The directories of all volumes below a state directory, with the volumes' ids.
pub fn volumes(root: &Path) -> Vec<(String, VolumeState)> {
    let entries = fs::read_dir(root).into_iter().flatten();
    let volume = |entry: io::Result<fs::DirEntry>| {
        let dir = entry.ok()?.path();
        let name = dir.file_name()?.to_str()?.to_owned();
        let is_id = name.len() == 32 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
        (is_id && dir.is_dir()).then_some((name, VolumeState { dir }))
    };
    entries.filter_map(volume).collect()
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
    fn a_directory_among_temporary_files_is_used_only_if_it_is_this_users_alone() {
        use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
        let root = tempfile::tempdir().expect("a directory");
        let dir = root.path().join("strongroom-1");
        own_directory(&dir).expect("made");
        own_directory(&dir).expect("found");
        assert_eq!(fs::metadata(&dir).expect("there").mode() & 0o777, 0o700);
        let link = root.path().join("link");
        symlink(&dir, &link).expect("made");
        own_directory(&link).expect_err("a link may lead anywhere");
        let file = root.path().join("file");
        fs::write(&file, b"").expect("made");
        own_directory(&file).expect_err("a file is no directory");
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).expect("changed");
        own_directory(&dir).expect_err("others can enter it");
        // Only root can give a directory away.
        if nix::unistd::geteuid().is_root() {
            fs::set_permissions(&dir, fs::Permissions::from_mode(0o700)).expect("changed");
            std::os::unix::fs::chown(&dir, Some(12345), None).expect("given away");
            own_directory(&dir).expect_err("it is somebody else's");
        }
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
