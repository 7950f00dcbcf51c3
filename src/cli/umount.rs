//! `strongroom umount`: lets the kernel go, shows the drain, and returns when it is over.
//!
//! Promises: exit 0 only when everything is durable in the store and the process has gone.

use std::{
    io::{self, IsTerminal, Write},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::{
    control::{self, Address, Answers, Progress, Request},
    exit::{CliError, Exit},
    lease::Process,
    mountpoint::{self, UnmountError},
    state,
    values::human_size,
};
use crate::telemetry::shown;

/// A mount that says nothing for this long has died or hangs; it speaks five times a second.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// How long the process may take to go once all is durable.
const EXIT_WITHIN: Duration = Duration::from_secs(30);

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

    /// Where mounts keep their control sockets, if not the default; needed only to follow the drain of a directory that
    /// the kernel has let go of already
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
}

/// Runs the command.
pub fn run(args: &UmountArgs) -> Result<(), CliError> {
    let dir = mountpoint::resolve(&args.dir);
    let mounted = mountpoint::control_socket(&dir);
    let (socket, detach) = match mounted {
        Ok(socket) => (socket, true),
        Err(error) => match draining_from(&dir, args.state_dir.as_deref()) {
            Some(socket) => (socket, false),
            None => return clear_dead_mount(&dir, error),
        },
    };
    let lost_touch = |error: io::Error| {
        CliError::new(
            Exit::NotDurable,
            format!(
                "the process of the mount at {} does not answer: {error}",
                dir.display()
            ),
            "see its log; what was not fsynced may be lost",
        )
    };
    let status = control::ask_status(&socket, SILENCE_MAX).map_err(lost_touch)?;
    let process = Process::of(status.mount.pid);
    // The connection is there before the kernel lets go: afterwards nothing leads to the process.
    let lines = control::request(&socket, Request::FollowDrain, SILENCE_MAX).map_err(lost_touch)?;
    if detach {
        let_go(&dir, args.lazy)?;
    }
    follow(lines, &Display::new(args.quiet)).map_err(|failure| match failure {
        FollowError::Ended(error) => error,
        FollowError::LostTouch(error) => lost_touch(error),
    })?;
    wait_until_gone(process.as_ref())
}

fn let_go(dir: &Path, lazy: bool) -> Result<(), CliError> {
    let shown = dir.display();
    mountpoint::unmount(dir, lazy).map_err(|error| match error {
        UnmountError::Busy => CliError::new(
            Exit::Busy,
            format!("{shown} is busy"),
            format!("close what uses it ('fuser -vm {shown}' tells who), or use --lazy"),
        ),
        UnmountError::NotMounted => CliError::new(
            Exit::NotMounted,
            format!("{shown} is not mounted"),
            "give the directory that a volume is mounted on",
        ),
        UnmountError::Other(why) => CliError::unexpected(format!("cannot unmount {shown}: {why}")),
    })
}

/// The socket of a process that was mounted at `dir` and still drains.
fn draining_from(dir: &Path, state_dir: Option<&Path>) -> Option<Address> {
    let root = state_dir.map_or_else(state::default_root, Path::to_path_buf);
    let sockets = state::all_sockets(&root).into_iter();
    sockets.map(Address::trusted).find(|socket| {
        control::ask_status(socket, Duration::from_secs(5)).is_ok_and(|status| {
            status.mount.state != "mounted" && Path::new(&status.mount.mount_point) == dir
        })
    })
}

/// A mount whose process was killed still stands in the kernel's table; take it out, but say that it did not drain.
fn clear_dead_mount(dir: &Path, not_ours: CliError) -> Result<(), CliError> {
    // Unlike `stat`, this is never answered from the kernel's cache.
    let dead = nix::sys::statvfs::statvfs(dir) == Err(nix::errno::Errno::ENOTCONN);
    if !dead || !mountpoint::is_fuse_mount(dir) {
        return Err(not_ours);
    }
    let_go(dir, true)?;
    Err(CliError::new(
        Exit::NotDurable,
        format!(
            "the process that served {} had died; the directory is free again",
            dir.display()
        ),
        "what was fsynced is in the store; check what was written last",
    ))
}

enum FollowError {
    /// The mount ended with this error.
    Ended(CliError),
    /// The connection broke.
    LostTouch(io::Error),
}

fn follow(mut lines: Answers, display: &Display) -> Result<(), FollowError> {
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
            Progress::Finished { exit, what, advice } => {
                display.clear();
                return match Exit::from_code(exit) {
                    Some(Exit::Ok) => Ok(()),
                    exit => {
                        let exit = exit.unwrap_or(Exit::Unexpected);
                        Err(FollowError::Ended(CliError::new(exit, what, advice)))
                    }
                };
            }
        }
    }
    display.clear();
    Err(FollowError::LostTouch(io::ErrorKind::UnexpectedEof.into()))
}

fn wait_until_gone(process: Option<&Process>) -> Result<(), CliError> {
    let Some(process) = process else {
        return Ok(());
    };
    let deadline = Instant::now() + EXIT_WITHIN;
    while process.is_alive() {
        if Instant::now() > deadline {
            return Err(CliError::new(
                Exit::Unexpected,
                format!(
                    "everything is durable, but process {} has not ended",
                    process.pid
                ),
                "see its log",
            ));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
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

    /// The directory is free, but the kernel still serves the mount to somebody. Says so once it has lasted.
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
