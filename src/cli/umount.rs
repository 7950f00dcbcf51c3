//! `strongroom umount`: lets the kernel go, shows the drain, and returns when it is over.
//!
//! Promises: exit 0 only when everything is durable in the store and the process has gone, now or
//! before; Ctrl-C ends this command and not the drain.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use clap::Args;

use super::{args::StateArgs, drain_display::Display, runtime};
use crate::{
    session::{
        Exit, Failure,
        control::{self, Answers, Progress, Request},
        interruptible,
        lease::Process,
        mountpoint,
        unmount::{self, Unmounted},
    },
    telemetry::{moment, shown},
};

/// A mount that says nothing for this long has died or hangs; it speaks five times a second.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// A path may have 4,096 bytes.
const PATH_CHARS_MAX: usize = 4096;

/// `strongroom umount DIR`
#[derive(Args, Debug)]
pub struct UmountArgs {
    /// The directory that the volume is mounted on
    dir: PathBuf,

    /// Detach at once even if files are open (the command returns when the last file is closed and
    /// drained; Ctrl-C is safe)
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
    let display = Arc::new(Display::new(args.quiet));
    let unmounting = Unmounting {
        dir: dir.clone(),
        state: args.state.clone(),
        lazy: args.lazy,
        display: Arc::clone(&display),
    };
    let done = runtime::block_on(async {
        // The work begins once signals are caught.
        let work = async { tokio::task::spawn_blocking(move || unmounting.run()).await };
        interruptible(work).await.map_err(|error| match error.exit {
            Exit::Interrupted => {
                display.clear();
                interrupted(&dir)
            }
            _ => error,
        })
    })?;
    let done = done.map_err(|error| Failure::unexpected(format!("cannot unmount: {error}")))??;
    if args.quiet {
        return Ok(());
    }
    // A reader that has gone is no error.
    let mut out = io::stdout();
    if let Done::Before(Unmounted { unix_seconds, .. }) = &done {
        let _ = writeln!(
            out,
            "{} was unmounted and everything is durable since {}",
            shown(&args.dir.display().to_string(), PATH_CHARS_MAX),
            moment(*unix_seconds)
        );
    }
    let (Done::Now(fingerprint) | Done::Before(Unmounted { fingerprint, .. })) = done;
    if let Some(fingerprint) = fingerprint {
        let _ = writeln!(out, "fingerprint {fingerprint}");
    }
    Ok(())
}

/// The mount does not notice that nobody follows it any more.
fn interrupted(dir: &Path) -> Failure {
    let is_mounted = mountpoint::mounted(dir).is_some();
    let dir = dir.display();
    match is_mounted {
        true => Failure::new(
            Exit::Interrupted,
            format!("interrupted; {dir} is still mounted"),
            "start it again to unmount",
        ),
        false => Failure::new(
            Exit::Interrupted,
            format!(
                "interrupted; {dir} is unmounted, and its process goes on until everything is durable"
            ),
            format!("follow it with 'strongroom umount {dir}'"),
        ),
    }
}

/// How it ended well.
enum Done {
    /// This command saw the drain's end; the fingerprint of what it left.
    Now(Option<String>),
    /// It was over before.
    Before(Unmounted),
}

/// One `umount`, on a thread that may wait.
struct Unmounting {
    dir: PathBuf,
    state: StateArgs,
    lazy: bool,
    display: Arc<Display>,
}

impl Unmounting {
    fn run(&self) -> Result<Done, Failure> {
        let dir = &self.dir;
        let (socket, detach) = match mountpoint::control_socket(dir) {
            Ok(socket) => (socket, true),
            Err(error) => match unmount::draining_from(dir, &self.state.root()?) {
                Some(socket) => (socket, false),
                None if mountpoint::is_own_dead(dir) => {
                    return unmount::clear_dead_mount(dir).map(Done::Before);
                }
                None => {
                    return unmount::ended_before(dir, &self.state.root()?, error)
                        .map(Done::Before);
                }
            },
        };
        let status =
            control::ask_status(&socket, SILENCE_MAX).map_err(|error| self.lost_touch(&error))?;
        let process = Process::of(status.mount.pid);
        // The connection is there before the kernel lets go: afterwards nothing leads to the
        // process.
        let lines = control::request(&socket, Request::FollowDrain, SILENCE_MAX)
            .map_err(|error| self.lost_touch(&error))?;
        if detach {
            unmount::let_go(dir, self.lazy)?;
        }
        match follow(lines, &self.display) {
            Ok(fingerprint) => {
                unmount::wait_until_gone(process.as_ref())?;
                Ok(Done::Now(fingerprint))
            }
            Err(FollowError::Ended(error)) => Err(error),
            // It may have ended between two questions, and has noted how then.
            Err(FollowError::LostTouch(error)) => process
                .and_then(|process| {
                    let root = self.state.root().ok()?;
                    unmount::outcome_of(&process, dir, &root)
                })
                .unwrap_or_else(|| Err(self.lost_touch(&error)))
                .map(Done::Before),
        }
    }

    fn lost_touch(&self, error: &io::Error) -> Failure {
        Failure::new(
            Exit::NotDurable,
            format!(
                "the process of the mount at {} does not answer: {error}",
                self.dir.display()
            ),
            "see its log; data that was not fsynced may be lost",
        )
    }
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
                sent,
                ..
            } => display.show(dirty_bytes, sent, trouble.as_deref()),
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
