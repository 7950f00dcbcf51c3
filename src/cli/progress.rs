//! How far a long command is: a bar on a terminal, else a line every ten seconds, on standard
//! error.

use std::{
    io::{self, IsTerminal, Write},
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use parking_lot::Mutex;

use crate::telemetry::human_size;

/// Without a terminal a line is printed this often.
const PLAIN_LINE_EVERY: Duration = Duration::from_secs(10);

/// See the module's head.
pub struct ProgressLine {
    quiet: bool,
    bar: Option<ProgressBar>,
    shown: Mutex<Shown>,
}

/// The step that is shown.
struct Shown {
    step: String,
    step_began: Instant,
    last_line: Instant,
}

impl ProgressLine {
    /// Shows nothing if `quiet`.
    pub fn new(quiet: bool) -> ProgressLine {
        let on_terminal = !quiet && io::stderr().is_terminal();
        let bar = || ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
        ProgressLine {
            quiet,
            bar: on_terminal.then(bar),
            shown: Mutex::new(Shown {
                step: String::new(),
                step_began: Instant::now(),
                last_line: Instant::now(),
            }),
        }
    }

    /// Shows a step, and the bytes that it has read of those that it is to read; zero of zero where
    /// that is not known.
    pub fn show(&self, step: &str, done: u64, total: u64) {
        let mut shown = self.shown.lock();
        if step != shown.step {
            step.clone_into(&mut shown.step);
            shown.step_began = Instant::now();
            self.style(step, total);
        }
        if let Some(bar) = &self.bar {
            bar.set_length(total);
            bar.set_position(done);
        } else if !self.quiet && shown.last_line.elapsed() >= PLAIN_LINE_EVERY {
            shown.last_line = Instant::now();
            let rate = done as f64 / shown.step_began.elapsed().as_secs_f64().max(0.001);
            let _ = match total {
                0 => writeln!(io::stderr(), "{step}"),
                _ => writeln!(
                    io::stderr(),
                    "{step}: {} of {}, {}/s, {} s left",
                    human_size(done),
                    human_size(total),
                    human_size(rate as u64),
                    (total.saturating_sub(done) as f64 / rate.max(1.0)) as u64
                ),
            };
        }
    }

    fn style(&self, step: &str, total: u64) {
        let Some(bar) = &self.bar else { return };
        let template = match total {
            0 => "{msg} ({elapsed})",
            _ => "{msg} [{bar:30}] {bytes} of {total_bytes} ({bytes_per_sec}, {eta})",
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.reset();
        bar.set_message(step.to_owned());
    }

    /// Names a step of which nothing can be counted.
    pub fn step(&self, step: &str) {
        self.style(step, 0);
    }

    /// Removes the bar.
    pub fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    /// Prints something else meanwhile.
    pub fn beside(&self, print: impl FnOnce()) {
        match &self.bar {
            Some(bar) => bar.suspend(print),
            None => print(),
        }
    }
}
