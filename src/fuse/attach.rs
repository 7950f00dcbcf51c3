//! Attaching a mount to a directory, and detaching it.
//!
//! Root mounts by itself; other users go through the set-uid program fusermount3, which hands the
//! device over a socket. fuser's own way is not used: it may unmount something that others have
//! mounted at the same path since, and lets a comma in the source's name inject options.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read},
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::net::UnixStream,
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use nix::{
    errno::Errno,
    mount::{MntFlags, MsFlags, umount2},
    unistd::{Gid, Uid},
};

use super::{
    MountError, MountOptions, REQUEST_LEN_MAX,
    mountinfo::{self, MountEntry, escape_option},
    sys,
};

const DEVICE: &str = "/dev/fuse";
const HELPER: &str = "fusermount3";
/// `fuse.` plus this is the type in `/proc/mounts`.
const SUBTYPE: &str = "strongroom";

/// The type that the kernel shows for our mounts.
pub const KIND: &str = "fuse.strongroom";

/// Whether this user can mount at all.
///
/// # Errors
/// There is no `/dev/fuse`, or it cannot be opened, or `fusermount3` is missing and the user is not
/// root.
pub fn check_device() -> Result<(), MountError> {
    let opened = OpenOptions::new().read(true).write(true).open(DEVICE);
    match opened {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(MountError::NoFuseDevice),
        Err(error) => Err(MountError::DeviceRefused(error)),
        Ok(_) if !Uid::effective().is_root() && !has_helper() => Err(MountError::NoFusermount),
        Ok(_) => Ok(()),
    }
}

/// The directory by its real path, if something can be mounted there.
///
/// # Errors
/// It is missing, no directory, or a mount already, dead or alive.
pub fn check_mount_point(mountpoint: &Path) -> Result<PathBuf, MountError> {
    let path = match mountpoint.canonicalize() {
        Ok(path) => path,
        Err(error) => {
            return Err(match error.raw_os_error() {
                Some(libc::ENOENT) => MountError::Missing(mountpoint.to_owned()),
                Some(libc::ENOTDIR) => MountError::NotADirectory(mountpoint.to_owned()),
                Some(libc::ENOTCONN) => MountError::DeadMount(mountpoint.to_owned()),
                Some(libc::EACCES) => MountError::NotPermitted {
                    path: mountpoint.to_owned(),
                    reason: error.to_string(),
                },
                _ => MountError::io("looking at the mount point", error),
            });
        }
    };
    if mountinfo::find(&path)
        .map_err(|error| MountError::io("reading /proc/self/mountinfo", error))?
        .is_some()
    {
        return Err(if is_dead(&path) {
            MountError::DeadMount(path)
        } else {
            MountError::AlreadyMounted(path)
        });
    }
    let metadata = match std::fs::metadata(&path) {
        Ok(metadata) => metadata,
        Err(error) if error.raw_os_error() == Some(libc::ENOTCONN) => {
            return Err(MountError::DeadMount(path));
        }
        Err(error) => return Err(MountError::io("looking at the mount point", error)),
    };
    if metadata.is_dir() {
        Ok(path)
    } else {
        Err(MountError::NotADirectory(path))
    }
}

/// Whether the process behind the mount at `path` is gone.
pub fn is_dead(path: &Path) -> bool {
    // Unlike `stat`, this is never answered from the kernel's cache.
    nix::sys::statvfs::statvfs(path) == Err(Errno::ENOTCONN)
}

/// Mounts. Returns the device's descriptor, on which the kernel's INIT is waiting.
pub fn attach(path: &Path, options: &MountOptions, read_only: bool) -> Result<OwnedFd, MountError> {
    if !Path::new(DEVICE).exists() {
        return Err(MountError::NoFuseDevice);
    }
    if Uid::effective().is_root() {
        match mount_as_root(path, options, read_only) {
            // Root without the capability (a container): the helper may have it.
            Err(MountError::NotPermitted { .. }) if has_helper() => {}
            other => return other,
        }
    }
    mount_with_helper(path, options, read_only)
}

fn mount_as_root(
    path: &Path,
    options: &MountOptions,
    read_only: bool,
) -> Result<OwnedFd, MountError> {
    let not_permitted = |errno: Errno| MountError::NotPermitted {
        path: path.to_owned(),
        reason: errno.desc().to_owned(),
    };
    let device: File = OpenOptions::new()
        .read(true)
        .write(true)
        .open(DEVICE)
        .map_err(|error| match error.kind() {
            io::ErrorKind::PermissionDenied => not_permitted(Errno::EACCES),
            // ENODEV, ENXIO: there is a device node without its module.
            _ => MountError::NoFuseDevice,
        })?;
    let data = kernel_options(device.as_raw_fd(), options);
    let mounted = nix::mount::mount(
        Some(options.source.as_str()),
        path,
        Some(KIND),
        mount_flags(options, read_only),
        Some(data.as_str()),
    );
    match mounted {
        Ok(()) => Ok(device.into()),
        Err(errno @ (Errno::EPERM | Errno::EACCES)) => Err(not_permitted(errno)),
        Err(Errno::ENODEV) => Err(MountError::NoFuseDevice),
        Err(errno) => Err(MountError::io("mount(2)", errno)),
    }
}

fn kernel_options(fd: i32, options: &MountOptions) -> String {
    // The root's kind is all that counts of `rootmode` before the first getattr: 40000 is a
    // directory.
    let mut data = format!(
        "fd={fd},rootmode=40000,user_id={},group_id={},default_permissions,max_read={REQUEST_LEN_MAX}",
        Uid::effective(),
        Gid::effective()
    );
    if options.allow_other {
        data.push_str(",allow_other");
    }
    data
}

fn mount_flags(options: &MountOptions, read_only: bool) -> MsFlags {
    let mut flags = MsFlags::empty();
    flags.set(MsFlags::MS_NOSUID, !options.suid);
    flags.set(MsFlags::MS_NODEV, !options.dev);
    flags.set(MsFlags::MS_NOEXEC, !options.exec);
    flags.set(MsFlags::MS_RDONLY, read_only);
    flags
}

fn helper_options(options: &MountOptions, read_only: bool) -> String {
    let mut words = vec![
        if read_only { "ro" } else { "rw" }.to_owned(),
        format!("fsname={}", escape_option(&options.source)),
        format!("subtype={SUBTYPE}"),
        "default_permissions".to_owned(),
        format!("max_read={REQUEST_LEN_MAX}"),
    ];
    for (set, word) in [
        (!options.suid, "nosuid"),
        (options.suid, "suid"),
        (!options.dev, "nodev"),
        (options.dev, "dev"),
        (!options.exec, "noexec"),
        (options.allow_other, "allow_other"),
    ] {
        if set {
            words.push(word.to_owned());
        }
    }
    words.join(",")
}

/// Whether `fusermount3` is on the PATH.
pub fn has_helper() -> bool {
    std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(HELPER).is_file()))
}

fn mount_with_helper(
    path: &Path,
    options: &MountOptions,
    read_only: bool,
) -> Result<OwnedFd, MountError> {
    let (ours, theirs) =
        UnixStream::pair().map_err(|error| MountError::io("making a socket", error))?;
    let mut child = Command::new(HELPER)
        .arg("-o")
        .arg(helper_options(options, read_only))
        .arg("--")
        .arg(path)
        // The helper sends the device over the descriptor that this names. As its standard input it
        // needs no inheriting beside it.
        .env("_FUSE_COMMFD", "0")
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => MountError::NoFusermount,
            _ => MountError::io("starting fusermount3", error),
        })?;
    let device = sys::receive_fd(&ours);
    let mut said = String::new();
    if let Some(stderr) = child.stderr.take() {
        // The helper's output only serves the error text.
        let _ = stderr.take(4096).read_to_string(&mut said);
    }
    let status = child
        .wait()
        .map_err(|error| MountError::io("waiting for fusermount3", error))?;
    match device {
        Ok(Some(device)) if status.success() => Ok(device),
        Err(error) if said.is_empty() => Err(MountError::io(
            "receiving the device from fusermount3",
            error,
        )),
        _ => Err(helper_error(path, said.trim())),
    }
}

fn helper_error(path: &Path, said: &str) -> MountError {
    if said.contains("user_allow_other") {
        MountError::AllowOtherRefused
    } else if said.contains("device not found") {
        MountError::NoFuseDevice
    } else {
        let reason = said
            .lines()
            .next()
            .unwrap_or("fusermount3 failed and said nothing");
        MountError::NotPermitted {
            path: path.to_owned(),
            reason: reason.trim_start_matches("fusermount3: ").to_owned(),
        }
    }
}

/// Unmounts `entry` if it is still there, by root directly, by others through `fusermount3`; `lazy`
/// detaches it even while it is in use.
///
/// # Errors
/// [`MountError::Busy`], or the refusal of the kernel or the helper.
pub fn detach(entry: &MountEntry, lazy: bool) -> Result<(), MountError> {
    let there = mountinfo::is_there(entry)
        .map_err(|error| MountError::io("reading /proc/self/mountinfo", error))?;
    if !there {
        return Ok(());
    }
    if Uid::effective().is_root() {
        let flags = if lazy {
            MntFlags::MNT_DETACH
        } else {
            MntFlags::empty()
        };
        return match umount2(&entry.path, flags | MntFlags::UMOUNT_NOFOLLOW) {
            Ok(()) => Ok(()),
            Err(Errno::EBUSY) => Err(MountError::Busy(entry.path.clone())),
            Err(Errno::EPERM) => detach_with_helper(entry, lazy),
            Err(errno) => Err(MountError::io("umount2(2)", errno)),
        };
    }
    detach_with_helper(entry, lazy)
}

fn detach_with_helper(entry: &MountEntry, lazy: bool) -> Result<(), MountError> {
    let output = Command::new(HELPER)
        .arg(if lazy { "-uz" } else { "-u" })
        .arg("--")
        .arg(&entry.path)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => MountError::NoFusermount,
            _ => MountError::io("starting fusermount3", error),
        })?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    if said.contains("busy") {
        Err(MountError::Busy(entry.path.clone()))
    } else {
        Err(helper_error(&entry.path, said.trim()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> MountOptions {
        MountOptions {
            source: "s3://bucket/a,b".to_owned(),
            ..MountOptions::default()
        }
    }

    #[test]
    fn the_kernel_checks_permissions_and_others_stay_out_unless_they_are_let_in() {
        let data = kernel_options(7, &options());
        assert!(data.starts_with("fd=7,rootmode=40000,user_id="));
        assert!(data.contains(",default_permissions,max_read=1048576"));
        assert!(!data.contains("allow_other"));
        assert!(
            kernel_options(
                7,
                &MountOptions {
                    allow_other: true,
                    ..options()
                }
            )
            .ends_with(",allow_other")
        );
    }

    #[test]
    fn a_comma_in_the_source_is_no_option() {
        assert!(helper_options(&options(), false).contains("fsname=s3://bucket/a\\,b,"));
    }

    #[test]
    fn set_id_programs_and_devices_are_off_unless_asked_for() {
        assert_eq!(
            mount_flags(&options(), false),
            MsFlags::MS_NOSUID | MsFlags::MS_NODEV
        );
        assert_eq!(
            mount_flags(
                &MountOptions {
                    suid: true,
                    dev: true,
                    exec: false,
                    ..options()
                },
                true
            ),
            MsFlags::MS_NOEXEC | MsFlags::MS_RDONLY
        );
        assert!(helper_options(&options(), true).starts_with("ro,"));
        assert!(helper_options(&options(), false).ends_with("nosuid,nodev"));
    }

    #[test]
    fn each_unfit_mount_point_is_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, b"").unwrap();
        assert!(matches!(
            check_mount_point(&dir.path().join("none")),
            Err(MountError::Missing(_))
        ));
        assert!(matches!(
            check_mount_point(&file),
            Err(MountError::NotADirectory(_))
        ));
        assert!(matches!(
            check_mount_point(Path::new("/proc")),
            Err(MountError::AlreadyMounted(_))
        ));
        assert_eq!(
            check_mount_point(dir.path()).unwrap(),
            dir.path().canonicalize().unwrap()
        );
    }

    #[test]
    fn what_the_mount_program_says_becomes_advice() {
        let said = "fusermount3: option allow_other only allowed if 'user_allow_other' is set in /etc/fuse.conf";
        assert!(matches!(
            helper_error(Path::new("/m"), said),
            MountError::AllowOtherRefused
        ));
        let refused = helper_error(
            Path::new("/m"),
            "fusermount3: user has no write access to mountpoint /m",
        );
        assert_eq!(
            refused.to_string(),
            "mounting at /m is not permitted: user has no write access to mountpoint /m; choose a directory that you own"
        );
    }

    #[test]
    fn the_mount_program_hands_over_a_device_and_takes_the_mount_away_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = check_mount_point(dir.path()).unwrap();
        let device = mount_with_helper(&path, &options(), false).unwrap();
        let entry = mountinfo::find(&path).unwrap().unwrap();
        assert_eq!(entry.kind, "fuse.strongroom");
        drop(device);
        assert!(matches!(
            check_mount_point(&path),
            Err(MountError::DeadMount(_))
        ));
        detach_with_helper(&entry, false).unwrap();
        assert_eq!(mountinfo::find(&path).unwrap(), None);
    }
}
