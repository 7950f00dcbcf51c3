//! How a drain is shown: a bar on a terminal, a line now and then elsewhere, both with the same
//! facts.

use std::{
    collections::VecDeque,
    io::{self, IsTerminal, Write},
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use parking_lot::Mutex;

use crate::{
    session::control::Sent,
    telemetry::{human_size, shown},
};

/// A longer trouble of the mount's is cut.
const TROUBLE_CHARS_MAX: usize = 1000;

/// How often plain progress lines are printed where there is no terminal.
const PLAIN_LINE_EVERY: Duration = Duration::from_secs(5);

/// The rate is that of the last so many seconds. Less than one second tells nothing: the kernel's
/// buffers take some MiB at once.
const RATE_OVER: Duration = Duration::from_secs(10);
const RATE_AFTER: Duration = Duration::from_secs(1);

/// The bytes that had been sent at each of the last moments.
#[derive(Default)]
struct Rate {
    samples: VecDeque<(Instant, u64)>,
}

impl Rate {
    fn add(&mut self, now: Instant, sent_bytes: u64) {
        self.samples.push_back((now, sent_bytes));
        // The oldest sample is the last one that is old enough.
        while let Some((second, _)) = self.samples.get(1)
            && now - *second >= RATE_OVER
        {
            self.samples.pop_front();
        }
    }

    fn bytes_per_second(&self) -> Option<u64> {
        let ((began, before), (now, after)) = (self.samples.front()?, self.samples.back()?);
        let took = *now - *began;
        let bytes = after.saturating_sub(*before) as f64;
        (took >= RATE_AFTER).then(|| (bytes / took.as_secs_f64()) as u64)
    }

    /// Bytes of the total, rate and time left.
    fn facts(&self, sent: Sent) -> String {
        let Sent {
            sent_bytes,
            total_bytes,
        } = sent;
        let mut facts = format!(
            "{} of {} sent",
            human_size(sent_bytes),
            human_size(total_bytes)
        );
        if sent_bytes >= total_bytes {
            facts += ", waiting until it is committed";
        } else if let Some(rate) = self.bytes_per_second() {
            facts += &format!(", {}/s", human_size(rate));
            if let Some(seconds) = (total_bytes - sent_bytes).checked_div(rate) {
                facts += &format!(", {} left", time_left(seconds));
            }
        }
        facts
    }
}

fn time_left(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{} s", seconds.max(1)),
        120..7200 => format!("{} min", seconds.div_ceil(60)),
        _ => format!("{} h", seconds.div_ceil(3600)),
    }
}

/// How the drain is shown: a bar on a terminal, a line now and then elsewhere.
pub struct Display {
    bar: Option<ProgressBar>,
    state: Mutex<State>,
    in_use: Mutex<InUse>,
    quiet: bool,
}

/// The state that was shown before.
#[derive(Default)]
struct State {
    last_line: Option<Instant>,
    most_dirty_bytes: u64,
    rate: Rate,
}

/// Whether the kernel still serves a mount whose directory is free.
#[derive(Clone, Copy)]
enum InUse {
    No,
    Since(Instant),
    Said,
}

impl Display {
    /// A display on standard error.
    pub fn new(quiet: bool) -> Display {
        let bar = (!quiet && io::stderr().is_terminal()).then(|| {
            let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
            if let Ok(style) = ProgressStyle::with_template("draining [{bar:30}] {msg}") {
                bar.set_style(style.progress_chars("=> "));
            }
            bar
        });
        Display {
            bar,
            in_use: Mutex::new(InUse::No),
            state: Mutex::default(),
            quiet,
        }
    }

    /// Shows how much went out. A mount of an earlier version says only what is dirty: then the
    /// total is the most that was ever dirty.
    pub fn show(&self, dirty_bytes: u64, sent: Option<Sent>, trouble: Option<&str>) {
        let now = Instant::now();
        let (facts, sent) = {
            let mut state = self.state.lock();
            state.most_dirty_bytes = state.most_dirty_bytes.max(dirty_bytes);
            let most = state.most_dirty_bytes;
            let sent = sent.unwrap_or(Sent {
                sent_bytes: most - dirty_bytes,
                total_bytes: most,
            });
            state.rate.add(now, sent.sent_bytes);
            (state.rate.facts(sent), sent)
        };
        let trouble = trouble
            .map(|trouble| format!(" ({})", shown(trouble, TROUBLE_CHARS_MAX)))
            .unwrap_or_default();
        if let Some(bar) = &self.bar {
            bar.set_length(sent.total_bytes);
            bar.set_position(sent.sent_bytes);
            bar.set_message(format!("{facts}{trouble}"));
            return;
        }
        let mut state = self.state.lock();
        let last = state.last_line;
        if self.quiet || last.is_some_and(|at| now - at < PLAIN_LINE_EVERY) {
            return;
        }
        if last.is_some() {
            let _ = writeln!(io::stderr(), "draining: {facts}{trouble}");
        }
        // A drain shorter than the first interval prints nothing.
        state.last_line = Some(now);
    }

    /// The directory is free, but the kernel still serves the mount to some program. It says so
    /// once that has lasted.
    pub fn still_in_use(&self) {
        let mut in_use = self.in_use.lock();
        match *in_use {
            InUse::No => *in_use = InUse::Since(Instant::now()),
            InUse::Since(since) if since.elapsed() >= PLAIN_LINE_EVERY => {
                *in_use = InUse::Said;
                let _ = writeln!(
                    io::stderr(),
                    "strongroom: the directory is free, but files are still open or another mount namespace (a container?) still holds the mount; \
                     waiting until that is over"
                );
            }
            InUse::Since(_) | InUse::Said => {}
        }
    }

    /// Removes the bar.
    pub fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn facts(rate: &Rate, sent_bytes: u64) -> String {
        rate.facts(Sent {
            sent_bytes,
            total_bytes: 100 * MIB,
        })
    }

    #[test]
    fn the_rate_is_that_of_the_last_seconds_and_the_time_left_follows_it() {
        let mut rate = Rate::default();
        let begun = Instant::now();
        rate.add(begun, 0);
        assert_eq!(facts(&rate, 0), "0 B of 100 MiB sent");
        for tenth in 1..=200 {
            // First 1 MiB/s, later 3.
            let sent = tenth * MIB / 10 + tenth.saturating_sub(100) * MIB / 5;
            rate.add(begun + Duration::from_millis(tenth * 100), sent);
            assert!(rate.samples.len() <= 102);
        }
        assert_eq!(
            facts(&rate, 40 * MIB),
            "40 MiB of 100 MiB sent, 3.0 MiB/s, 20 s left"
        );
        let done = facts(&rate, 100 * MIB);
        assert_eq!(
            done,
            "100 MiB of 100 MiB sent, waiting until it is committed"
        );
    }

    #[test]
    fn a_drain_that_stands_has_no_time_left() {
        let mut rate = Rate::default();
        let begun = Instant::now();
        rate.add(begun, MIB);
        rate.add(begun + Duration::from_secs(30), MIB);
        assert_eq!(facts(&rate, MIB), "1.0 MiB of 100 MiB sent, 0 B/s");
        assert_eq!(time_left(0), "1 s");
        assert_eq!(time_left(121), "3 min");
        assert_eq!(time_left(7300), "3 h");
    }
}
