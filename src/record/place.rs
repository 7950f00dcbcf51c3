//! The file of a recording: whose it is, and how one document takes the place of another.
//!
//! A document is written beside the file and renamed, so that the file is whole at every moment.
//! A file that is there already is only touched if it is a recording, and is kept as `FILE.old`.

use std::{
    error, fmt,
    fs::{self, File, OpenOptions},
    io::{self, Read},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
    libc::O_NOFOLLOW,
};

use super::har::BEGINNING;

/// The ending of the recording before this one.
const OLD: &str = ".old";
/// The ending of a document that is being written.
const NEW: &str = ".new";

/// The reason why nothing can be recorded in a file.
#[derive(Debug)]
pub struct PlaceError {
    path: PathBuf,
    why: String,
}

impl PlaceError {
    fn new(path: &Path, why: impl Into<String>) -> PlaceError {
        PlaceError {
            path: path.to_path_buf(),
            why: why.into(),
        }
    }
}

impl fmt::Display for PlaceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.why)
    }
}

impl error::Error for PlaceError {}

/// A file that this process records in.
#[derive(Debug)]
pub struct RecordFile {
    path: PathBuf,
    /// The document that is going to be the first.
    fresh: Option<Flock<File>>,
    /// The document under the path.
    current: Option<Flock<File>>,
}

/// The thing under a path.
enum There {
    Nothing,
    Empty,
    Recording(File),
}

impl RecordFile {
    /// Makes sure that a recording can be kept at `path`, and makes way for it. A disk that is full
    /// is no obstacle: it may have room later.
    ///
    /// # Errors
    /// Something else is there, another process records there, or nothing can be made there.
    pub fn open(path: &Path) -> Result<RecordFile, PlaceError> {
        let failed = |error: io::Error| PlaceError::new(path, error.to_string());
        let old = beside(path, OLD);
        let earlier = look(path)?;
        look(&old)?;
        match earlier {
            There::Nothing => {}
            There::Empty => fs::remove_file(path).map_err(failed)?,
            There::Recording(file) => {
                // The lock is that of its own process while that lives.
                drop(locked(file).map_err(|_| in_use(path))?);
                fs::rename(path, &old).map_err(failed)?;
            }
        }
        let mut place = RecordFile {
            path: path.to_path_buf(),
            fresh: None,
            current: None,
        };
        match place.create() {
            Ok(file) => place.fresh = Some(file),
            Err(error) if is_full(&error) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(in_use(path)),
            Err(error) => return Err(failed(error)),
        }
        Ok(place)
    }

    /// The path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The document under the path, once there is one.
    pub(super) fn current(&self) -> Option<&File> {
        self.current.as_deref()
    }

    /// Puts a document under the path, which `write` writes; it is given the one that is there.
    /// Nothing is left of it if that fails.
    pub(super) fn replace<T>(
        &mut self,
        write: impl FnOnce(Option<&File>, &File) -> io::Result<T>,
    ) -> io::Result<T> {
        let file = match self.fresh.take() {
            Some(file) => file,
            None => self.create()?,
        };
        let new = beside(&self.path, NEW);
        let written = write(self.current.as_deref(), &file)
            .and_then(|value| fs::rename(&new, &self.path).map(|()| value));
        match written {
            Ok(value) => {
                self.current = Some(file);
                Ok(value)
            }
            Err(error) => {
                // The space of it may be what others wait for.
                let _ = fs::remove_file(&new);
                Err(error)
            }
        }
    }

    /// An empty file for a document, which no other process writes.
    fn create(&self) -> io::Result<Flock<File>> {
        let path = beside(&self.path, NEW);
        let make = || {
            OpenOptions::new()
                .read(true)
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&path)
        };
        let made = match make() {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let left = OpenOptions::new()
                    .read(true)
                    .custom_flags(O_NOFOLLOW)
                    .open(&path)?;
                drop(locked(left)?);
                fs::remove_file(&path)?;
                make()
            }
            made => made,
        };
        locked(made?)
    }
}

impl Drop for RecordFile {
    fn drop(&mut self) {
        if self.fresh.take().is_some() {
            let _ = fs::remove_file(beside(&self.path, NEW));
        }
    }
}

/// Whether a failure says that there is no room.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

fn in_use(path: &Path) -> PlaceError {
    PlaceError::new(path, "another mount records there")
}

fn locked(file: File) -> io::Result<Flock<File>> {
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| match errno {
        Errno::EWOULDBLOCK => io::ErrorKind::WouldBlock.into(),
        errno => errno.into(),
    })
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    PathBuf::from(name)
}

/// Finds out what is at `path`, which must be nothing that a recording would destroy.
fn look(path: &Path) -> Result<There, PlaceError> {
    let failed = |error: io::Error| PlaceError::new(path, error.to_string());
    let meta = match fs::symlink_metadata(path) {
        Ok(meta) => meta,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(There::Nothing),
        Err(error) => return Err(failed(error)),
    };
    if !meta.is_file() {
        return Err(PlaceError::new(path, "it is no regular file"));
    }
    if meta.len() == 0 {
        return Ok(There::Empty);
    }
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(O_NOFOLLOW)
        .open(path)
        .map_err(failed)?;
    let mut beginning = Vec::new();
    (&file)
        .take(BEGINNING.len() as u64)
        .read_to_end(&mut beginning)
        .map_err(failed)?;
    match beginning == BEGINNING.as_bytes() {
        true => Ok(There::Recording(file)),
        false => Err(PlaceError::new(path, "it is there, and is no recording")),
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Write, os::unix::fs::MetadataExt};

    use super::*;

    fn fill(place: &mut RecordFile, text: &str) -> io::Result<()> {
        place.replace(|_, mut file| file.write_all(text.as_bytes()))
    }

    #[test]
    fn a_recording_is_private_and_the_one_before_is_kept() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("traffic.har");
        for turn in ["first", "second", "third"] {
            let mut place = RecordFile::open(&path).expect("opened");
            fill(&mut place, &format!("{BEGINNING} {turn}")).expect("written");
            assert_eq!(fs::metadata(&path).expect("there").mode() & 0o777, 0o600);
            let error = RecordFile::open(&path).expect_err("in use");
            assert!(error.to_string().contains("another mount"), "{error}");
        }
        let old = fs::read_to_string(dir.path().join("traffic.har.old")).expect("kept");
        assert!(old.ends_with("second"), "{old}");
        assert_eq!(fs::read_dir(dir.path()).expect("listed").count(), 2);
    }

    #[test]
    fn nothing_but_a_recording_is_touched() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("letter");
        fs::write(&path, "dear").expect("written");
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&path, &link).expect("linked");
        for path in [&path, &link, &dir.path().to_path_buf()] {
            RecordFile::open(path).expect_err("refused");
        }
        // Neither is what lies where the recording before would go.
        fs::write(dir.path().join("a.har.old"), "dear").expect("written");
        RecordFile::open(&dir.path().join("a.har")).expect_err("refused");
        RecordFile::open(&dir.path().join("no/such/place")).expect_err("refused");
        assert_eq!(fs::read_to_string(&path).expect("there"), "dear");
        assert_eq!(fs::read_dir(dir.path()).expect("listed").count(), 3);
    }

    #[test]
    fn a_document_that_cannot_be_written_leaves_the_one_before() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("traffic.har");
        let mut place = RecordFile::open(&path).expect("opened");
        fill(&mut place, BEGINNING).expect("written");
        let full = place.replace(|_, mut file| {
            file.write_all(b"half")?;
            Err::<(), _>(io::ErrorKind::StorageFull.into())
        });
        assert!(is_full(&full.expect_err("full")));
        assert_eq!(fs::read_dir(dir.path()).expect("listed").count(), 1);
        assert_eq!(fs::read_to_string(&path).expect("there"), BEGINNING);
        fill(&mut place, "next").expect("written");
        drop(place);
        assert_eq!(fs::read_dir(dir.path()).expect("listed").count(), 1);
    }
}
