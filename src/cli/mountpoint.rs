//! Is a directory fit to be mounted on; is it a mount; letting go of it.

use std::{
    ffi::OsString,
    fs, io,
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use nix::{
    errno::Errno,
    mount::{MntFlags, umount2},
};

use super::sys;
use crate::{
    fuse::mountinfo::{self, MountEntry},
    session::{Exit, Failure, control::Address},
};

/// The type that the kernel shows for our mounts.
const KIND: &str = "fuse.strongroom";

/// The attribute of a mount's root directory that names its control socket.
pub const CONTROL_ATTRIBUTE: &str = "user.strongroom.control";

/// Checks that something can be mounted there and gives back the absolute path.
///
/// # Errors
/// It is missing, no directory, or a mount already; or FUSE is not there.
pub fn check(dir: &Path) -> Result<PathBuf, Failure> {
    let shown = dir.display();
    // A dead mount (its process was killed) answers `stat` with ENOTCONN, so mounts are looked for first.
    if let Ok(absolute) = std::path::absolute(dir)
        && is_mount(&absolute)
    {
        return Err(in_use(dir));
    }
    let metadata = fs::metadata(dir).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Failure::new(
            Exit::MountPointMissing,
            format!("mount point {shown} does not exist"),
            format!("make it: mkdir -p {shown}"),
        ),
        io::ErrorKind::NotADirectory => not_a_directory(dir),
        _ => Failure::new(
            Exit::MountPointMissing,
            format!("mount point {shown} cannot be used: {error}"),
            "choose a directory that you own",
        ),
    })?;
    if !metadata.is_dir() {
        return Err(not_a_directory(dir));
    }
    let path = fs::canonicalize(dir).map_err(|error| {
        Failure::new(
            Exit::MountPointMissing,
            format!("mount point {shown} cannot be used: {error}"),
            "choose a directory that you own",
        )
    })?;
    if is_mount(&path) {
        return Err(in_use(dir));
    }
    Ok(path)
}

/// Checks that FUSE is there.
///
/// # Errors
/// No `/dev/fuse`, or it cannot be opened, or `fusermount3` is missing for somebody who is not root.
pub fn check_fuse() -> Result<(), Failure> {
    const DEVICE: &str = "/dev/fuse";
    fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(DEVICE)
        .map_err(|error| {
            let advice = match error.kind() {
                io::ErrorKind::NotFound => {
                    "load the kernel module with 'modprobe fuse', or give the container the device"
                }
                _ => "ask for the right to use the device",
            };
            Failure::new(
                Exit::NoFuse,
                format!("cannot open {DEVICE}: {error}"),
                advice,
            )
        })?;
    if !nix::unistd::geteuid().is_root() && !on_path("fusermount3") {
        return Err(Failure::new(
            Exit::NoFuse,
            "fusermount3 is not installed",
            "install it: apt-get install fuse3",
        ));
    }
    Ok(())
}

fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(program).exists())
}

fn in_use(dir: &Path) -> Failure {
    Failure::new(
        Exit::MountPointInUse,
        format!("something is mounted on {} already", dir.display()),
        format!(
            "unmount it (fusermount3 -u {}), or choose another directory",
            dir.display()
        ),
    )
}

fn not_a_directory(dir: &Path) -> Failure {
    Failure::new(
        Exit::MountPointNotDirectory,
        format!("mount point {} is not a directory", dir.display()),
        "choose a directory",
    )
}

/// Whether something is mounted exactly there. `path` is absolute.
pub fn is_mount(path: &Path) -> bool {
    mounts().iter().any(|mount| mount.path == path)
}

/// Whether a FUSE filesystem is mounted exactly there. `path` is absolute.
pub fn is_fuse_mount(path: &Path) -> bool {
    mounts()
        .iter()
        .any(|mount| mount.path == path && mount.kind.starts_with("fuse"))
}

/// All mounts that this process sees.
fn mounts() -> Vec<MountEntry> {
    mountinfo::all().unwrap_or_default()
}

/// The control socket of the mount at `dir`. Any filesystem can have the attribute that names it, so the kernel must say that this is a
/// mount of ours, and who made it; that user's process must be the one that listens.
///
/// # Errors
/// It is not a Strongroom mount.
pub fn control_socket(dir: &Path) -> Result<Address, Failure> {
    let path_bytes_max = 4096;
    let socket = || {
        let owner =
            mounted_by(&resolve(dir)).or_else(|| mounted_by(&fs::canonicalize(dir).ok()?))?;
        let path = sys::getxattr(dir, CONTROL_ATTRIBUTE, path_bytes_max).ok()?;
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

/// Who mounted a Strongroom volume exactly there. `path` is absolute.
fn mounted_by(path: &Path) -> Option<u32> {
    let mounts = mounts();
    // The last one covers those before it.
    let mount = mounts.iter().rfind(|mount| mount.path == path)?;
    mount.user.filter(|_| mount.kind == KIND)
}

/// Why the kernel did not let go.
#[derive(Debug)]
pub enum UnmountError {
    /// Somebody uses it.
    Busy,
    /// Nothing is mounted there.
    NotMounted,
    /// Anything else.
    Other(String),
}

/// Detaches the mount at `dir`, as root directly, otherwise through `fusermount3`. `lazy`: even while it is in use.
///
/// # Errors
/// See [`UnmountError`].
pub fn unmount(dir: &Path, lazy: bool) -> Result<(), UnmountError> {
    let mut flags = MntFlags::UMOUNT_NOFOLLOW;
    if lazy {
        flags |= MntFlags::MNT_DETACH;
    }
    match umount2(dir, flags) {
        Ok(()) => Ok(()),
        Err(Errno::EBUSY) => Err(UnmountError::Busy),
        Err(Errno::EINVAL | Errno::ENOENT) => Err(UnmountError::NotMounted),
        Err(Errno::EPERM) => through_fusermount(dir, lazy),
        Err(error) => Err(UnmountError::Other(error.to_string())),
    }
}

fn through_fusermount(dir: &Path, lazy: bool) -> Result<(), UnmountError> {
    let output = Command::new("fusermount3")
        .arg(if lazy { "-uz" } else { "-u" })
        .arg("--")
        .arg(dir)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| UnmountError::Other(format!("fusermount3: {error}")))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    if said.contains("busy") {
        Err(UnmountError::Busy)
    } else if said.contains("not found") || said.contains("not mounted") {
        Err(UnmountError::NotMounted)
    } else {
        Err(UnmountError::Other(said.trim().to_owned()))
    }
}

/// The absolute path for comparisons, without asking a mount that may not answer: only the parent is resolved.
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
        let set = Command::new("setfattr")
            .args(["-n", CONTROL_ATTRIBUTE, "-v"])
            .arg(&value)
            .arg(dir.path())
            .status();
        let is_set = sys::getxattr(dir.path(), CONTROL_ATTRIBUTE, 4096).is_ok();
        assert_eq!(set.is_ok_and(|status| status.success()), is_set);
        let error = control_socket(dir.path()).expect_err("no mount");
        assert_eq!(error.exit, Exit::NotMounted);
    }

    #[test]
    fn a_missing_mount_point_and_a_file_are_told_apart() {
        let dir = tempfile::tempdir().expect("a directory");
        let missing = check(&dir.path().join("missing")).expect_err("missing");
        assert_eq!(missing.exit, Exit::MountPointMissing);
        let file = dir.path().join("file");
        fs::write(&file, b"x").expect("written");
        assert_eq!(
            check(&file).expect_err("a file").exit,
            Exit::MountPointNotDirectory
        );
        assert_eq!(
            check(Path::new("/proc")).expect_err("a mount").exit,
            Exit::MountPointInUse
        );
        assert!(check(dir.path()).is_ok());
    }
}
