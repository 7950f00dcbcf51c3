//! The file that is logged to: opened anew when a signal asks for it, and begun anew when it gets
//! large.
//!
//! Promises: the file and the one before it (`FILE.1`) have at most the size that was given, and a
//! record of each process more. Records are whole, also where several processes log to one file. A
//! file that cannot be renamed grows on.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use parking_lot::{RwLock, RwLockReadGuard};
use tracing_subscriber::fmt::MakeWriter;

/// A file to log to.
#[derive(Clone, Copy, Debug)]
pub struct LogTarget<'a> {
    /// Its name.
    pub path: &'a Path,
    /// The size at which it is begun anew; 0: never.
    pub size_max: u64,
}

pub(super) struct LogFile {
    path: PathBuf,
    size_max: u64,
    file: RwLock<File>,
}

/// One record on its way: the file is not begun anew meanwhile.
pub(super) struct Record(RwLockReadGuard<'static, File>);

impl LogFile {
    pub(super) fn open(target: LogTarget<'_>) -> io::Result<LogFile> {
        Ok(LogFile {
            path: target.path.to_owned(),
            size_max: target.size_max,
            file: RwLock::new(append_to(target.path)?),
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn reopen(&self) -> io::Result<()> {
        *self.file.write() = append_to(&self.path)?;
        Ok(())
    }

    fn is_full(&self, file: &File) -> bool {
        self.size_max > 0
            && file
                .metadata()
                .is_ok_and(|file| file.len() >= self.size_max)
    }

    /// Renames the full file, unless another process has done so, and begins a new one.
    fn begin_anew(&self) -> io::Result<()> {
        let mut file = self.file.write();
        // Another thread may have been faster.
        if !self.is_full(&file) {
            return Ok(());
        }
        let (open, named) = (file.metadata()?, fs::metadata(&self.path)?);
        if (open.dev(), open.ino()) == (named.dev(), named.ino()) {
            fs::rename(&self.path, before(&self.path))?;
        }
        *file = append_to(&self.path)?;
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for &'static LogFile {
    type Writer = Record;

    fn make_writer(&'a self) -> Record {
        let file = self.file.read();
        if !self.is_full(&file) {
            return Record(file);
        }
        drop(file);
        // Where it cannot be begun anew it grows on: records matter more than their place.
        let _ = self.begin_anew();
        Record(self.file.read())
    }
}

impl Write for Record {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (&*self.0).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        (&*self.0).flush()
    }
}

/// The name of the file before the one at `path`.
pub fn before(path: &Path) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(".1");
    PathBuf::from(name)
}

fn append_to(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    const SIZE_MAX: u64 = 10_000;

    fn open(path: &Path) -> &'static LogFile {
        let size_max = SIZE_MAX;
        // The loggers of a process live as long as it does.
        Box::leak(Box::new(
            LogFile::open(LogTarget { path, size_max }).expect("opened"),
        ))
    }

    #[test]
    fn several_writers_of_several_processes_keep_to_the_size_and_lose_none_of_the_last_records() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("mount.log");
        // Two of them stand for two processes: they share nothing but the name.
        let logs = [open(&path), open(&path)];
        thread::scope(|scope| {
            for (writer, log) in (0..4).zip(logs.iter().cycle()) {
                scope.spawn(move || {
                    for number in 0..2000 {
                        let record = format!("{writer} {number:04} {}\n", "x".repeat(80));
                        log.make_writer()
                            .write_all(record.as_bytes())
                            .expect("written");
                        let len = fs::metadata(&log.path).map_or(0, |file| file.len());
                        assert!(len < SIZE_MAX + 1000, "{len}");
                    }
                });
            }
        });
        let read = |path: &Path| fs::read_to_string(path).expect("read");
        let (older, newer) = (read(&before(&path)), read(&path));
        assert!(older.len() as u64 >= SIZE_MAX, "{}", older.len());
        let whole = |line: &str| line.len() == 87 && line.ends_with('x');
        assert!(
            older.lines().chain(newer.lines()).all(whole),
            "a torn record"
        );
        assert_eq!(fs::read_dir(dir.path()).expect("listed").count(), 2);
    }

    #[test]
    fn a_file_that_cannot_be_renamed_grows_on() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("mount.log");
        fs::create_dir_all(before(&path).join("in-the-way")).expect("made");
        let log = open(&path);
        for _ in 0..300 {
            log.make_writer().write_all(&[b'x'; 100]).expect("written");
        }
        assert_eq!(fs::metadata(&path).expect("there").len(), 30_000);
    }

    #[test]
    fn without_a_size_it_is_never_begun_anew() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("mount.log");
        let target = LogTarget {
            path: &path,
            size_max: 0,
        };
        let log: &LogFile = Box::leak(Box::new(LogFile::open(target).expect("opened")));
        for _ in 0..300 {
            log.make_writer().write_all(&[b'x'; 100]).expect("written");
        }
        assert!(!before(&path).exists());
    }
}
