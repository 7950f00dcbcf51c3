//! Going into the background, and telling the terminal how that went.
//!
//! `mount` forks before any thread or runtime exists. The child does the work; the parent waits on
//! a pipe for messages, and for `ready` or an error, and exits accordingly. So errors appear on the
//! terminal, with their exit code, and `mount` returns when the mount answers.
//!
//! Promises: the child holds none of the caller's streams, so a pipe that the caller gave is at its
//! end when the parent exits; the child notices when its parent is gone (Ctrl-C).

use std::{
    fs::{File, OpenOptions},
    io::{self, BufRead, BufReader, IsTerminal as _, Write},
    os::fd::AsFd,
    time::Duration,
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout},
    sys::wait::waitpid,
    unistd::{ForkResult, Pid},
};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::sys;
use crate::{
    session::{Exit, Failure},
    telemetry::shown,
};

/// Longer messages are cut. They may name another host.
const MESSAGE_CHARS_MAX: usize = 1000;

/// The messages of the child to the parent: one JSON line each.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Report {
    /// Something worth showing while the mount is being made.
    Message(String),
    /// A step of the work, for a terminal.
    Step(String),
    /// The mount answers.
    Ready,
    /// The mount failed.
    Failed {
        exit: u8,
        what: String,
        advice: String,
    },
}

/// Tells the process that started the mount how it goes.
#[derive(Debug)]
pub struct Reporter(Channel);

#[derive(Debug)]
enum Channel {
    /// In the foreground: the terminal. The text, if any, is printed when the mount is ready.
    Terminal(Option<String>),
    /// In the background: the pipe to the parent, until the mount is ready.
    Pipe(Mutex<Option<File>>),
}

/// Which side of the fork this is.
#[derive(Debug)]
pub enum Side {
    /// The process that the user started; its outcome is that of the mount.
    Parent(Result<(), Failure>),
    /// The process that stays.
    Child(Reporter),
}

/// Forks into the background.
///
/// # Errors
/// The system refuses to fork.
pub fn detach() -> Result<Side, Failure> {
    let failed = |error: io::Error| {
        Failure::new(
            Exit::Unexpected,
            format!("cannot go into the background: {error}"),
            "use --foreground",
        )
    };
    let (reader, writer) = io::pipe().map_err(failed)?;
    match sys::fork().map_err(failed)? {
        ForkResult::Parent { child } => {
            drop(writer);
            Ok(Side::Parent(wait_for_child(BufReader::new(reader), child)))
        }
        ForkResult::Child => {
            drop(reader);
            let writer = File::from(std::os::fd::OwnedFd::from(writer));
            let reporter = Reporter(Channel::Pipe(Mutex::new(Some(writer))));
            match leave_the_terminal() {
                Ok(()) => Ok(Side::Child(reporter)),
                Err(error) => {
                    reporter.failed(&failed(error));
                    Err(failed(io::Error::other(
                        "the child could not leave the terminal",
                    )))
                }
            }
        }
    }
}

fn leave_the_terminal() -> io::Result<()> {
    nix::unistd::setsid()?;
    let null = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/null")?;
    nix::unistd::dup2_stdin(&null)?;
    nix::unistd::dup2_stdout(&null)?;
    nix::unistd::dup2_stderr(&null)?;
    Ok(())
}

fn wait_for_child(reports: impl BufRead, child: Pid) -> Result<(), Failure> {
    for line in reports.lines() {
        let Ok(line) = line else { break };
        match serde_json::from_str(&line) {
            Ok(Report::Message(text)) => {
                let _ = writeln!(io::stderr(), "{}", shown(&text, MESSAGE_CHARS_MAX));
            }
            Ok(Report::Step(text)) => show_step(&text),
            Ok(Report::Ready) => return Ok(()),
            Ok(Report::Failed { exit, what, advice }) => {
                let exit = Exit::from_code(exit).unwrap_or(Exit::Unexpected);
                return Err(Failure::new(exit, what, advice));
            }
            Err(_) => break,
        }
    }
    let end = match waitpid(child, None) {
        Ok(status) => format!("{status:?}"),
        Err(error) => error.to_string(),
    };
    Err(Failure::new(
        Exit::Unexpected,
        format!("the mount process ended before the mount was ready ({end})"),
        "try again with --foreground --log-level debug",
    ))
}

impl Reporter {
    /// For a mount that stays in the foreground.
    pub fn terminal() -> Reporter {
        Reporter(Channel::Terminal(None))
    }

    /// For a mount that stays in the foreground and prints `greeting` when it is ready.
    pub fn terminal_with_greeting(greeting: String) -> Reporter {
        Reporter(Channel::Terminal(Some(greeting)))
    }

    /// Whether this process is in the background.
    pub fn is_background(&self) -> bool {
        matches!(self.0, Channel::Pipe(_))
    }

    /// Shows a line on the terminal, while there is one.
    pub fn message(&self, text: &str) {
        match &self.0 {
            Channel::Terminal(_) => {
                let _ = writeln!(io::stderr(), "{}", shown(text, MESSAGE_CHARS_MAX));
            }
            Channel::Pipe(_) => {
                self.send(&Report::Message(text.to_owned()));
            }
        }
    }

    /// Says what is being done, if there is a terminal.
    pub fn step(&self, text: &str) {
        match &self.0 {
            Channel::Terminal(_) => show_step(text),
            Channel::Pipe(_) => {
                self.send(&Report::Step(text.to_owned()));
            }
        }
    }

    /// The mount answers: lets the parent go. False if the parent is gone already.
    pub fn ready(&self) -> bool {
        let delivered = match &self.0 {
            Channel::Terminal(greeting) => {
                if let Some(greeting) = greeting {
                    let _ = writeln!(io::stdout(), "{greeting}");
                }
                true
            }
            Channel::Pipe(_) => {
                let delivered = self.send(&Report::Ready);
                // The directory that it was started in may be unmounted from now on.
                let _ = nix::unistd::chdir("/");
                delivered
            }
        };
        if let Channel::Pipe(pipe) = &self.0 {
            pipe.lock().take();
        }
        delivered
    }

    /// Tells the parent why there will be no mount. In the foreground the caller's return value
    /// does that.
    pub fn failed(&self, error: &Failure) {
        if let Channel::Pipe(_) = &self.0 {
            self.send(&Report::Failed {
                exit: error.exit.code(),
                what: error.what.clone(),
                advice: error.advice.clone(),
            });
        }
    }

    /// Returns if the parent goes (interrupted by its user) before the mount is ready; never
    /// otherwise.
    pub async fn abandoned(&self) {
        const LOOK_EVERY: Duration = Duration::from_millis(200);
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            if self.is_abandoned() {
                return;
            }
        }
    }

    fn is_abandoned(&self) -> bool {
        let Channel::Pipe(pipe) = &self.0 else {
            return false;
        };
        let pipe = pipe.lock();
        let Some(pipe) = pipe.as_ref() else {
            return false;
        };
        let mut fds = [PollFd::new(pipe.as_fd(), PollFlags::POLLERR)];
        let ready = nix::poll::poll(&mut fds, PollTimeout::ZERO).is_ok_and(|count| count > 0);
        ready
            && fds
                .first()
                .and_then(PollFd::revents)
                .is_some_and(|events| events.contains(PollFlags::POLLERR))
    }

    /// Writes one line; false if nobody reads it.
    fn send(&self, report: &Report) -> bool {
        let Channel::Pipe(pipe) = &self.0 else {
            return true;
        };
        let mut pipe = pipe.lock();
        let (Some(pipe), Ok(mut line)) = (pipe.as_mut(), serde_json::to_vec(report)) else {
            return false;
        };
        line.push(b'\n');
        pipe.write_all(&line).is_ok()
    }
}

fn show_step(text: &str) {
    if io::stderr().is_terminal() {
        let _ = writeln!(io::stderr(), "{}", shown(text, MESSAGE_CHARS_MAX));
    }
}
