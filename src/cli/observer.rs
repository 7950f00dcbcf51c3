//! The terminal of a mount: it shows how the mount begins and drains, and chooses the log file.

use std::path::Path;

use super::{args::LogArgs, daemon::Reporter, drain_display::Display};
use crate::{
    session::{Failure, Observer, control::Sent, state::VolumeState},
    telemetry,
};

/// A terminal, or the process that waits there until a mount in the background answers.
pub struct TerminalObserver<'a> {
    reporter: &'a Reporter,
    log: &'a LogArgs,
    display: Display,
}

impl<'a> TerminalObserver<'a> {
    /// In the foreground the log begins at once.
    ///
    /// # Errors
    /// There can be no log.
    pub fn start(
        reporter: &'a Reporter,
        log: &'a LogArgs,
    ) -> Result<TerminalObserver<'a>, Failure> {
        if !reporter.is_background() {
            start_log(log, log.log_file.as_deref())?;
        }
        Ok(TerminalObserver {
            reporter,
            log,
            display: Display::new(reporter.is_background()),
        })
    }
}

impl Observer for TerminalObserver<'_> {
    fn is_background(&self) -> bool {
        self.reporter.is_background()
    }

    fn message(&self, line: &str) {
        self.reporter.message(line);
    }

    fn unlocked(&self, state: &VolumeState) -> Result<(), Failure> {
        if !self.is_background() {
            return Ok(());
        }
        let file = self.log.log_file.clone();
        start_log(self.log, Some(&file.unwrap_or_else(|| state.log_file())))
    }

    fn ready(&self) -> bool {
        self.reporter.ready()
    }

    fn abandoned(&self) -> impl Future<Output = ()> + Send {
        self.reporter.abandoned()
    }

    fn step(&self, line: &str) {
        self.reporter.step(line);
    }

    fn draining(&self, sent: Sent, trouble: Option<&str>) {
        let left = sent.total_bytes.saturating_sub(sent.sent_bytes);
        self.display.show(left, Some(sent), trouble);
    }
}

fn start_log(log: &LogArgs, file: Option<&Path>) -> Result<(), Failure> {
    let level = log.log_level.as_deref().unwrap_or("info");
    let target = file.map(|path| log.target(path));
    telemetry::log::start(level, log.log_format, target).map_err(|error| {
        let place = file
            .map(|file| format!(" to {}", file.display()))
            .unwrap_or_default();
        Failure::usage(
            format!("cannot log{place}: {error}"),
            "see --log-level and --log-file",
        )
    })
}
