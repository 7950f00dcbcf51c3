//! Where log lines go: standard error or a file, never both; one line a record.

use std::{
    fs::{File, OpenOptions},
    io,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use parking_lot::RwLock;
use tracing_subscriber::{EnvFilter, fmt::MakeWriter};

/// The file that is logged to.
struct LogFile {
    path: PathBuf,
    file: RwLock<Arc<File>>,
}

static LOG_FILE: OnceLock<LogFile> = OnceLock::new();

impl LogFile {
    fn open(path: &Path) -> io::Result<LogFile> {
        Ok(LogFile {
            path: path.to_owned(),
            file: RwLock::new(Arc::new(append_to(path)?)),
        })
    }

    fn reopen(&self) -> io::Result<()> {
        let file = append_to(&self.path)?;
        *self.file.write() = Arc::new(file);
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for &'static LogFile {
    type Writer = Arc<File>;

    fn make_writer(&'a self) -> Arc<File> {
        Arc::clone(&self.file.read())
    }
}

fn append_to(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

/// Starts logging at `level` (`error`, `warn`, `info`, `debug`, `trace`, or a `tracing` filter),
/// into `file` or to standard error. Call once.
///
/// # Errors
/// The file cannot be opened for appending, or the filter cannot be parsed.
pub fn start(level: &str, file: Option<&Path>) -> io::Result<()> {
    let filter = EnvFilter::try_new(level).map_err(|error| {
        io::Error::new(io::ErrorKind::InvalidInput, format!("log level: {error}"))
    })?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_target(true)
        .with_ansi(false)
        // It would report a full disk or a terminal that is gone on standard error, and panic where
        // that is gone too.
        .log_internal_errors(false);
    match file {
        Some(path) => {
            let opened = LogFile::open(path)?;
            builder.with_writer(LOG_FILE.get_or_init(|| opened)).init();
        }
        None => builder.with_writer(io::stderr).init(),
    }
    Ok(())
}

/// Opens the log file again by its name: what was renamed meanwhile is left to whoever renamed it.
/// Standard error stays what it is.
///
/// # Errors
/// The file cannot be opened; the one that is open stays in use.
pub fn reopen() -> io::Result<()> {
    LOG_FILE.get().map_or(Ok(()), LogFile::reopen)
}
