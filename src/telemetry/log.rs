//! Where log lines go: standard error or a file, never both; one line a record.

use std::{fs::OpenOptions, io, path::Path};

use tracing_subscriber::EnvFilter;

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
        .with_target(true);
    match file {
        Some(path) => {
            let file = OpenOptions::new().create(true).append(true).open(path)?;
            builder.with_ansi(false).with_writer(file).init();
        }
        None => builder.with_ansi(false).with_writer(io::stderr).init(),
    }
    Ok(())
}
