//! The mount at a directory, and the control socket of the process that serves it.
//!
//! Never: takes a mount away that answers, or that is not this user's.

use std::{
    ffi::OsString,
    fs, io,
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::{Path, PathBuf},
};

use nix::errno::Errno;

use super::{control::Address, errors, exit::Exit, failure::Failure, processes};
use crate::{
    fs::CONTROL_XATTR,
    fuse::{
        self, MountError,
        mountinfo::{self, MountEntry},
    },
};

/// Finds the mount at exactly this path, the uppermost if there are several. `path` is absolute.
pub fn mounted(path: &Path) -> Option<MountEntry> {
    mountinfo::find(path).ok().flatten()
}

/// The directory by its real path, if a volume can be mounted there: nothing is mounted on it, or
/// nothing but a mount of this user's whose process has died, which [`clear_dead`] takes away.
///
/// # Errors
/// Those of [`fuse::check_mount_point`].
pub fn check(dir: &Path) -> Result<PathBuf, Failure> {
    match fuse::check_mount_point(dir) {
        Err(error @ MountError::DeadMount(_)) => match own_dead(&resolve(dir)) {
            Some(mount) => Ok(mount.path),
            None => Err(errors::mount(&error)),
        },
        checked => checked.map_err(|error| errors::mount(&error)),
    }
}

/// Whether a mount of this user's whose process has died lies on `dir`, an absolute path.
pub fn is_own_dead(dir: &Path) -> bool {
    own_dead(dir).is_some()
}

/// Takes a mount of this user's whose process has died off `dir`, an absolute path. Leaves
/// everything else.
///
/// # Errors
/// The kernel or the helper refuses.
pub fn clear_dead(dir: &Path) -> Result<(), MountError> {
    let Some(mount) = own_dead(dir) else {
        return Ok(());
    };
    tracing::warn!(
        "the process of the mount on {} had died; another takes its place",
        dir.display()
    );
    // Programs may still stand in it or have its files open. They get errors either way.
    fuse::detach(&mount, true)
}

/// The mount at exactly this path, if it is ours and its process has died. Another user's never
/// counts, nor does one that root may not look into.
pub(super) fn own_dead(path: &Path) -> Option<MountEntry> {
    let own = |mount: &MountEntry| mount.user == Some(nix::unistd::geteuid().as_raw());
    ours(path).filter(|mount| own(mount) && fuse::is_dead(path))
}

/// The uppermost mount at exactly this path, if it is a Strongroom volume.
pub(super) fn ours(path: &Path) -> Option<MountEntry> {
    mounted(path).filter(|mount| mount.kind == fuse::KIND)
}

/// The control socket of the mount at `dir`. Any filesystem can have the attribute that names it,
/// so the kernel must confirm that this is a mount of ours and name the user who made it; that
/// user's process must be the one that listens.
///
/// # Errors
/// It is not a Strongroom mount, its process has died, or another user's process serves it.
pub fn control_socket(dir: &Path) -> Result<Address, Failure> {
    let found = ours(&resolve(dir)).or_else(|| ours(&fs::canonicalize(dir).ok()?));
    let not_ours = || {
        Failure::new(
            Exit::NotMounted,
            format!("{} is not a Strongroom mount", dir.display()),
            "give the directory that a volume is mounted on",
        )
    };
    let mount = found.ok_or_else(not_ours)?;
    let owner = mount.user.ok_or_else(not_ours)?;
    let attribute = xattr::get(dir, CONTROL_XATTR);
    let errno = |error: &io::Error| error.raw_os_error().map(Errno::from_raw);
    match attribute {
        Ok(Some(path)) if !path.is_empty() => Ok(Address {
            path: PathBuf::from(OsString::from_vec(path)),
            owner: Some(owner),
        }),
        Ok(_) => Err(not_ours()),
        Err(error) if errno(&error) == Some(Errno::ENOTCONN) => Err(errors::dead_mount(dir)),
        // The kernel lets nobody else in, not even root.
        Err(error) if errno(&error) == Some(Errno::EACCES) => {
            serving(&mount, owner).ok_or_else(|| errors::mount_of_another(dir, owner))
        }
        Err(error) => Err(Failure::new(
            Exit::Unexpected,
            format!("the mount at {} does not answer: {error}", dir.display()),
            "see its log",
        )),
    }
}

/// The process of a mount that this user cannot look into. Only root can ask it.
fn serving(mount: &MountEntry, owner: u32) -> Option<Address> {
    if !nix::unistd::geteuid().is_root() {
        return None;
    }
    processes::find(owner, |report| report.mount.device == mount.device)
}

/// The absolute path for comparisons. Only the parent is resolved, because a mount may not answer.
pub fn resolve(dir: &Path) -> PathBuf {
    let absolute = std::path::absolute(dir).unwrap_or_else(|_| dir.to_path_buf());
    // `absolute` keeps a slash at the end; going through the components drops it.
    let absolute: PathBuf = absolute.components().collect();
    match (absolute.parent(), absolute.file_name()) {
        (Some(parent), Some(name)) if name.as_bytes() != b".." => fs::canonicalize(parent)
            .map(|parent| parent.join(name))
            .unwrap_or(absolute),
        _ => absolute,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_attribute_of_another_filesystem_leads_to_no_socket() {
        let dir = tempfile::tempdir().expect("a directory");
        let value = dir.path().join("1.sock");
        let set = xattr::set(dir.path(), CONTROL_XATTR, value.as_os_str().as_bytes());
        let found = xattr::get(dir.path(), CONTROL_XATTR);
        // Some filesystems have no user attributes.
        assert_eq!(set.is_ok(), found.is_ok_and(|found| found.is_some()));
        let error = control_socket(dir.path()).expect_err("no mount");
        assert_eq!(error.exit, Exit::NotMounted);
    }
}
