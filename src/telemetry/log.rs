//! Where log lines go: standard error or a file, never both; one line a record.
//!
//! Promises: text from outside is escaped in each record; signatures and session tokens are not
//! logged at any level.

use std::{
    io::{self, Write},
    path::Path,
    sync::OnceLock,
};

use tracing_subscriber::{EnvFilter, filter::Directive, fmt::MakeWriter};

use super::{
    line::{Line, LogFormat},
    log_file::{LogFile, LogTarget},
    text::{record, shown_json},
};

/// Modules that log signatures, requests with their credentials, or the output of programs that
/// give credentials, and the level that they are kept to, whichever was asked for.
const KEPT_QUIET: [&str; 7] = [
    "aws_config::credential_process=info",
    "aws_config::meta::credentials::chain=error",
    "aws_config::profile::credentials=error",
    "s3s::service=info",
    "s3s::ops=info",
    "aws_sigv4=info",
    "aws_smithy_runtime::client::orchestrator=info",
];

/// The levels, from nothing to everything.
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

static LOG_FILE: OnceLock<LogFile> = OnceLock::new();

/// Checks that `text` is a level or a filter. A filter by itself takes any word for the name of a
/// module, so a level that is misspelt would log nothing.
///
/// # Errors
/// One line that names the values.
pub fn check(text: &str) -> Result<(), String> {
    let is_level = |word: &str| LEVELS.iter().any(|level| level.eq_ignore_ascii_case(word));
    let is_directive = |piece: &str| match piece.rsplit_once('=') {
        Some((target, level)) => !target.is_empty() && is_level(level),
        None => is_level(piece),
    };
    if text.split(',').all(is_directive) && EnvFilter::try_new(text).is_ok() {
        return Ok(());
    }
    Err(format!(
        "'{text}' is neither a level ({}) nor a filter such as info,strongroom::data=debug",
        LEVELS.join(", ")
    ))
}

/// Starts logging at `level` (`error`, `warn`, `info`, `debug`, `trace`, or a `tracing` filter),
/// into `file` or to standard error, in `format`. Only the first call has an effect.
///
/// # Errors
/// The file cannot be opened for appending, or the filter cannot be parsed.
pub fn start(level: &str, format: LogFormat, file: Option<LogTarget<'_>>) -> io::Result<()> {
    let filter = EnvFilter::try_new(level).map_err(|error| {
        io::Error::new(io::ErrorKind::InvalidInput, format!("log level: {error}"))
    })?;
    let quiet = KEPT_QUIET
        .iter()
        .filter_map(|directive| directive.parse::<Directive>().ok());
    let filter = quiet.fold(filter, EnvFilter::add_directive);
    let line = Line::new(format, file.is_none());
    let builder = tracing_subscriber::fmt()
        // It would report a full disk or a terminal that is gone on standard error, and panic where
        // that is gone too.
        .log_internal_errors(false)
        .with_env_filter(filter)
        .event_format(line);
    match file {
        Some(target) => {
            let opened = LogFile::open(target)?;
            let file = LOG_FILE.get_or_init(|| opened);
            // It is started again after a passphrase was typed wrong.
            let _ = builder.with_writer(Escaped(file, line)).try_init();
        }
        None => {
            let _ = builder.with_writer(Escaped(io::stderr, line)).try_init();
        }
    }
    Ok(())
}

/// Opens the log file again by its name; a file that was renamed meanwhile is left as it is.
/// Standard error stays in use if it was.
///
/// # Errors
/// The file cannot be opened; the one that is open stays in use.
pub fn reopen() -> io::Result<()> {
    LOG_FILE.get().map_or(Ok(()), LogFile::reopen)
}

/// The file that is logged to; `None` if it is standard error.
pub fn file() -> Option<&'static Path> {
    LOG_FILE.get().map(LogFile::path)
}

/// Writes each record as one line of printable characters.
struct Escaped<W>(W, Line);

impl<'a, W: MakeWriter<'a>> MakeWriter<'a> for Escaped<W> {
    type Writer = Escaped<W::Writer>;

    fn make_writer(&'a self) -> Self::Writer {
        Escaped(self.0.make_writer(), self.1)
    }
}

impl<W: Write> Write for Escaped<W> {
    /// tracing hands over a record at a time.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.1 {
            Line::Json => {
                let json = shown_json(&String::from_utf8_lossy(bytes));
                self.0.write_all(json.as_bytes())?;
            }
            Line::Text | Line::Journal => self.0.write_all(&record(bytes))?,
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_that_is_misspelt_is_no_filter() {
        for text in [
            "warn",
            "WARN",
            "off",
            "info,strongroom::data=debug",
            "strongroom=trace,aws_config=off",
            "strongroom[span{a=1}]=debug",
        ] {
            assert_eq!(check(text), Ok(()), "{text}");
        }
        for text in [
            "wran",
            "",
            "info,",
            "verbose",
            "strongroom",
            "strongroom=wran",
            "=debug",
            "info,strongroom::data=debgu",
            "info debug",
            "strongroom[=debug",
        ] {
            let why = check(text).unwrap_err();
            assert!(
                why.contains("off, error, warn, info, debug, trace"),
                "{why}"
            );
        }
    }
}
