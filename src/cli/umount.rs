//! `strongroom umount`: lets the kernel go, shows the drain, and returns when it is over.
//!
//! Promises: exit 0 only when everything is durable in the store and the process has gone.

use std::{
    io::{self, IsTerminal, Write},
    path::PathBuf,
    time::{Duration, Instant},
};

use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::args::StateArgs;
use crate::{
    session::{
        Exit, Failure,
        control::{self, Answers, Progress, Request},
        lease::Process,
        mountpoint, unmount,
    },
    telemetry::{human_size, shown},
};

/// A mount that says nothing for this long has died or hangs; it speaks five times a second.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// A longer trouble of the mount's is cut.
const TROUBLE_CHARS_MAX: usize = 1000;

/// How often plain progress lines are printed where there is no terminal.
const PLAIN_LINE_EVERY: Duration = Duration::from_secs(5);

/// `strongroom umount DIR`
#[derive(Args, Debug)]
pub struct UmountArgs {
    /// The directory that the volume is mounted on
    dir: PathBuf,

    /// Detach at once even if files are open; their writes still become durable, later opens fail
    #[arg(long)]
    lazy: bool,

    /// Print nothing but errors
    #[arg(long, short)]
    quiet: bool,

    #[command(flatten)]
    state: StateArgs,
}

/// Runs the command.
pub fn run(args: &UmountArgs) -> Result<(), Failure> {
    let dir = mountpoint::resolve(&args.dir);
    let mounted = mountpoint::control_socket(&dir);
    let (socket, detach) = match mounted {
        Ok(socket) => (socket, true),
        Err(error) => match unmount::draining_from(&dir, &args.state.root()?) {
            Some(socket) => (socket, false),
            None => return unmount::clear_dead_mount(&dir, error),
        },
    };
    let lost_touch = |error: io::Error| {
        Failure::new(
            Exit::NotDurable,
            format!(
                "the process of the mount at {} does not answer: {error}",
                dir.display()
            ),
            "see its log; data that was not fsynced may be lost",
        )
    };
    let status = control::ask_status(&socket, SILENCE_MAX).map_err(lost_touch)?;
    let process = Process::of(status.mount.pid);
    // The connection is there before the kernel lets go: afterwards nothing leads to the process.
    let lines = control::request(&socket, Request::FollowDrain, SILENCE_MAX).map_err(lost_touch)?;
    if detach {
        unmount::let_go(&dir, args.lazy)?;
    }
    let ended = follow(lines, &Display::new(args.quiet));
    let fingerprint = ended.map_err(|failure| match failure {
        FollowError::Ended(error) => error,
        FollowError::LostTouch(error) => lost_touch(error),
    })?;
    unmount::wait_until_gone(process.as_ref())?;
    if let Some(fingerprint) = fingerprint.filter(|_| !args.quiet) {
        // A reader that has gone is no error.
        let _ = writeln!(io::stdout(), "fingerprint {fingerprint}");
    }
    Ok(())
}

enum FollowError {
    /// The mount ended with this error.
    Ended(Failure),
    /// The connection broke.
    LostTouch(io::Error),
}

fn follow(mut lines: Answers, display: &Display) -> Result<Option<String>, FollowError> {
    while let Some(line) = lines.next_line().map_err(FollowError::LostTouch)? {
        let progress =
            serde_json::from_str(&line).map_err(|error| FollowError::LostTouch(error.into()))?;
        match progress {
            Progress::Mounted => display.still_in_use(),
            Progress::Draining {
                dirty_bytes,
                trouble,
                ..
            } => display.show(dirty_bytes, trouble.as_deref()),
            Progress::Finished {
                exit,
                what,
                advice,
                fingerprint,
            } => {
                display.clear();
                return match Exit::from_code(exit) {
                    Some(Exit::Ok) => Ok(fingerprint),
                    exit => {
                        let exit = exit.unwrap_or(Exit::Unexpected);
                        Err(FollowError::Ended(Failure::new(exit, what, advice)))
                    }
                };
            }
        }
    }
    display.clear();
    Err(FollowError::LostTouch(io::ErrorKind::UnexpectedEof.into()))
}

/// How the drain is shown: a bar on a terminal, a line now and then elsewhere.
pub struct Display {
    bar: Option<ProgressBar>,
    last_line: parking_lot::Mutex<Option<Instant>>,
    in_use: parking_lot::Mutex<InUse>,
    quiet: bool,
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
            if let Ok(style) = ProgressStyle::with_template(
                "draining [{bar:30}] {bytes} of {total_bytes} ({bytes_per_sec}, {eta}) {msg}",
            ) {
                bar.set_style(style.progress_chars("=> "));
            }
            bar
        });
        Display {
            bar,
            in_use: parking_lot::Mutex::new(InUse::No),
            last_line: parking_lot::Mutex::new(None),
            quiet,
        }
    }

    /// Shows how much is left. The bar's length is the most that was ever left.
    pub fn show(&self, dirty_bytes: u64, trouble: Option<&str>) {
        if let Some(bar) = &self.bar {
            let total = bar.length().unwrap_or(0).max(dirty_bytes);
            bar.set_length(total);
            bar.set_position(total - dirty_bytes);
            bar.set_message(shown(trouble.unwrap_or_default(), TROUBLE_CHARS_MAX));
            return;
        }
        let mut last_line = self.last_line.lock();
        if self.quiet || last_line.is_some_and(|at| at.elapsed() < PLAIN_LINE_EVERY) {
            return;
        }
        if last_line.is_some() {
            let trouble = trouble
                .map(|trouble| format!(" ({})", shown(trouble, TROUBLE_CHARS_MAX)))
                .unwrap_or_default();
            let _ = writeln!(
                io::stderr(),
                "draining: {} left{trouble}",
                human_size(dirty_bytes)
            );
        }
        // A drain shorter than the first interval prints nothing.
        *last_line = Some(Instant::now());
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
