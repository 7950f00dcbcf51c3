//! The mount at a directory, and the control socket of the process that serves it.

use std::{
    ffi::OsString,
    fs,
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::{Path, PathBuf},
};

use super::{control::Address, exit::Exit, failure::Failure};
use crate::{
    fs::CONTROL_XATTR,
    fuse::{
        self,
        mountinfo::{self, MountEntry},
    },
};

/// Finds the mount at exactly this path, the uppermost if there are several. `path` is absolute.
pub fn mounted(path: &Path) -> Option<MountEntry> {
    mountinfo::find(path).ok().flatten()
}

/// The control socket of the mount at `dir`. Any filesystem can have the attribute that names it,
/// so the kernel must confirm that this is a mount of ours and name the user who made it; that
/// user's process must be the one that listens.
///
/// # Errors
/// It is not a Strongroom mount.
pub fn control_socket(dir: &Path) -> Result<Address, Failure> {
    let socket = || {
        let owner =
            mounted_by(&resolve(dir)).or_else(|| mounted_by(&fs::canonicalize(dir).ok()?))?;
        let path = xattr::get(dir, CONTROL_XATTR).ok()??;
        (!path.is_empty()).then(|| Address {
            path: PathBuf::from(OsString::from_vec(path)),
            owner: Some(owner),
        })
    };
    socket().ok_or_else(|| {
        Failure::new(
            Exit::NotMounted,
            format!("{} is not a Strongroom mount", dir.display()),
            "give the directory that a volume is mounted on",
        )
    })
}

/// The user who mounted a Strongroom volume exactly there. `path` is absolute.
fn mounted_by(path: &Path) -> Option<u32> {
    let mount = mounted(path)?;
    mount.user.filter(|_| mount.kind == fuse::KIND)
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
