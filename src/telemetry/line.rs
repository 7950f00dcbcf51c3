//! The shape of a log line.

use std::{
    fmt,
    os::{fd::AsFd, unix::fs::MetadataExt},
};

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::{
    fmt::{
        FmtContext, FormatEvent, FormatFields,
        format::{self, Writer},
    },
    registry::LookupSpan,
};

/// The format that `--log-format` chooses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// Time, level, module, message. The journal has time and level of its own, so a line that goes
    /// there has a priority before it instead (`sd-daemon(3)`).
    #[default]
    Text,
    /// A JSON object a line: `timestamp`, `level`, `target`, `message`, and the fields of the
    /// event.
    Json,
}

/// The shape of each line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Line {
    Text,
    Journal,
    Json,
}

impl Line {
    /// The shape for a log in `format`, on standard error or in a file.
    pub(super) fn new(format: LogFormat, on_standard_error: bool) -> Line {
        match format {
            LogFormat::Json => Line::Json,
            LogFormat::Text if on_standard_error && is_journal() => Line::Journal,
            LogFormat::Text => Line::Text,
        }
    }
}

/// Whether standard error is a stream to the journal: systemd names it in `JOURNAL_STREAM` as
/// `device:inode` (systemd.exec(5)). A variable that was inherited names another one.
fn is_journal() -> bool {
    let named = std::env::var("JOURNAL_STREAM").unwrap_or_default();
    let standard_error = std::io::stderr()
        .as_fd()
        .try_clone_to_owned()
        .and_then(|descriptor| std::fs::File::from(descriptor).metadata());
    standard_error.is_ok_and(|file| named == format!("{}:{}", file.dev(), file.ino()))
}

fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        _ => 7,
    }
}

impl<S, N> FormatEvent<S, N> for Line
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let text = format::format().with_ansi(false);
        match self {
            Line::Text => text.format_event(context, writer, event),
            Line::Journal => {
                write!(writer, "<{}>", priority(*event.metadata().level()))?;
                let bare = text.without_time().with_level(false);
                bare.format_event(context, writer, event)
            }
            Line::Json => text
                .json()
                .flatten_event(true)
                .with_current_span(false)
                .with_span_list(false)
                .format_event(context, writer, event),
        }
    }
}
