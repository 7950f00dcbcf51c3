//! The directory of a cache: `<root>/<volume>/<instance>/`, one instance for each mount at a time.
//!
//! The root may be a directory of the system's that others can enter. Everything below it is this
//! user's alone (0700), and links are not followed there.

use std::{
    error, fmt,
    fs::{self, DirBuilder, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
    libc::O_NOFOLLOW,
    sys::statvfs::fstatvfs,
};

/// Mounts of one volume that have a cache at the same time.
const INSTANCES_MAX: u32 = 16;

/// Ends the name of a segment, after eight hexadecimal digits.
const SEGMENT_ENDING: &str = ".frames";

/// The reason why a directory cannot be used.
#[derive(Debug)]
pub struct PlaceError {
    dir: PathBuf,
    why: String,
}

impl PlaceError {
    pub(super) fn new(dir: &Path, why: &str, error: &io::Error) -> PlaceError {
        PlaceError::because(dir, format!("{why}: {error}"))
    }

    fn because(dir: &Path, why: impl Into<String>) -> PlaceError {
        PlaceError {
            dir: dir.to_path_buf(),
            why: why.into(),
        }
    }
}

impl fmt::Display for PlaceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.dir.display(), self.why)
    }
}

impl error::Error for PlaceError {}

/// A directory that this process holds locked for as long as this lives.
pub(super) struct Place {
    dir: PathBuf,
    lock: Flock<File>,
}

/// Space of a filesystem.
#[derive(Clone, Copy, Debug)]
pub(super) struct Space {
    pub(super) total_bytes: u64,
    pub(super) available_bytes: u64,
}

impl Place {
    pub(super) fn open(root: &Path, volume: &str) -> Result<Place, PlaceError> {
        trusted_root(root)?;
        let volume = root.join(volume);
        own_directory(&volume).map_err(|why| PlaceError::because(&volume, why))?;
        for instance in 0..INSTANCES_MAX {
            let dir = volume.join(instance.to_string());
            own_directory(&dir).map_err(|why| PlaceError::because(&dir, why))?;
            let lock = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .custom_flags(O_NOFOLLOW)
                .open(dir.join("lock"))
                .map_err(|error| PlaceError::new(&dir, "no lock", &error))?;
            match Flock::lock(lock, FlockArg::LockExclusiveNonblock) {
                Ok(lock) => return Ok(Place { dir, lock }),
                Err((_, Errno::EWOULDBLOCK)) => {}
                Err((_, errno)) => return Err(PlaceError::new(&dir, "no lock", &errno.into())),
            }
        }
        let why = format!("{INSTANCES_MAX} mounts of this volume have their caches here");
        Err(PlaceError::because(&volume, why))
    }

    /// The numbers of the segments that are there, ascending. Other files there are not touched.
    pub(super) fn segments(&self) -> io::Result<Vec<u32>> {
        let number = |entry: fs::DirEntry| {
            let name = entry.file_name();
            let digits = name.to_str()?.strip_suffix(SEGMENT_ENDING)?;
            let number = u32::from_str_radix(digits, 16).ok()?;
            (segment_name(number).as_str() == name).then_some(number)
        };
        let mut numbers: Vec<u32> = fs::read_dir(&self.dir)?
            .filter_map(|entry| number(entry.ok()?))
            .collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    pub(super) fn create(&self, number: u32) -> io::Result<File> {
        OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .custom_flags(O_NOFOLLOW)
            .open(self.path(number))
    }

    /// A segment of an earlier mount, and its length.
    pub(super) fn open_segment(&self, number: u32) -> io::Result<(File, u64)> {
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(O_NOFOLLOW)
            .open(self.path(number))?;
        let found = file.metadata()?;
        if !found.is_file() {
            return Err(io::Error::other("it is no file"));
        }
        Ok((file, found.len()))
    }

    pub(super) fn remove(&self, number: u32) -> io::Result<()> {
        fs::remove_file(self.path(number))
    }

    pub(super) fn space(&self) -> io::Result<Space> {
        let found = fstatvfs(&*self.lock)?;
        Ok(Space {
            total_bytes: found.blocks() * found.fragment_size(),
            available_bytes: found.blocks_available() * found.fragment_size(),
        })
    }

    fn path(&self, number: u32) -> PathBuf {
        self.dir.join(segment_name(number))
    }
}

fn segment_name(number: u32) -> String {
    format!("{number:08x}{SEGMENT_ENDING}")
}

/// Makes the root, or makes sure that nobody but this user and root can put another directory in
/// the place of one below it.
fn trusted_root(root: &Path) -> Result<(), PlaceError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(root)
        .map_err(|error| PlaceError::new(root, "it cannot be made", &error))?;
    let found = fs::metadata(root).map_err(|error| PlaceError::new(root, "unknown", &error))?;
    let is_sticky = found.mode() & 0o1000 != 0;
    if ![0, nix::unistd::geteuid().as_raw()].contains(&found.uid()) {
        let why = format!("it belongs to user {}", found.uid());
        return Err(PlaceError::because(root, why));
    }
    if found.mode() & 0o022 != 0 && !is_sticky {
        let why = "others can write to it (its mode must be 0755 or less)";
        return Err(PlaceError::because(root, why));
    }
    Ok(())
}

/// Makes the directory, or makes sure that it is a directory of this user's that nobody else can
/// enter. Its parent may be anybody's, if it is sticky: then nobody else can put another one in its
/// place.
///
/// # Errors
/// The reason why it is not to be used.
pub fn own_directory(dir: &Path) -> Result<(), String> {
    match DirBuilder::new().mode(0o700).create(dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error.to_string()),
        _ => {}
    }
    // The attributes of the link itself, if it is one.
    let found = fs::symlink_metadata(dir).map_err(|error| error.to_string())?;
    if !found.is_dir() {
        return Err("it is no directory".to_owned());
    }
    if found.uid() != nix::unistd::geteuid().as_raw() {
        return Err(format!("it belongs to user {}", found.uid()));
    }
    if found.mode() & 0o077 != 0 {
        return Err("others can enter it (its mode must be 0700)".to_owned());
    }
    Ok(())
}
