//! Where log lines go: standard error or a file, never both; one line a record.
//!
//! Promises: whatever text from outside is in a record, it is escaped; signatures and session tokens
//! are not logged at any level.

use std::{
    fs::OpenOptions,
    io::{self, Write},
    path::Path,
};

use tracing_subscriber::{EnvFilter, filter::Directive, fmt::MakeWriter};

use super::text::record;

/// Modules that log signatures or requests with their credentials, and the level that they are
/// kept to, whatever was asked for.
const KEPT_QUIET: [&str; 4] = [
    "s3s::service=info",
    "s3s::ops=info",
    "aws_sigv4=info",
    "aws_smithy_runtime::client::orchestrator=info",
];

/// Starts logging at `level` (`error`, `warn`, `info`, `debug`, `trace`, or a `tracing` filter),
/// into `file` or to standard error. Call once.
///
/// # Errors
/// The file cannot be opened for appending, or the filter cannot be parsed.
pub fn start(level: &str, file: Option<&Path>) -> io::Result<()> {
    let filter = EnvFilter::try_new(level).map_err(|error| {
        io::Error::new(io::ErrorKind::InvalidInput, format!("log level: {error}"))
    })?;
    let quiet = KEPT_QUIET
        .iter()
        .filter_map(|directive| directive.parse::<Directive>().ok());
    let filter = quiet.fold(filter, EnvFilter::add_directive);
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_target(true);
    match file {
        Some(path) => {
            let file = OpenOptions::new().create(true).append(true).open(path)?;
            builder.with_ansi(false).with_writer(Escaped(file)).init();
        }
        None => builder
            .with_ansi(false)
            .with_writer(Escaped(io::stderr))
            .init(),
    }
    Ok(())
}

/// Writes each record as one line of printable characters.
struct Escaped<W>(W);

impl<'a, W: MakeWriter<'a>> MakeWriter<'a> for Escaped<W> {
    type Writer = Escaped<W::Writer>;

    fn make_writer(&'a self) -> Self::Writer {
        Escaped(self.0.make_writer())
    }
}

impl<W: Write> Write for Escaped<W> {
    /// tracing hands over a record at a time.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write_all(&record(bytes))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}
