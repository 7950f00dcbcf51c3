//! Signals to a process that serves a mount.
//!
//! | signal | effect |
//! |---|---|
//! | SIGINT, SIGTERM | unmount and drain; a second one while draining gives the rest up |
//! | SIGHUP | the log file is opened anew, for programs that rotate it |
//! | SIGHUP, in the foreground, once the terminal is gone | unmount and drain |
//! | SIGUSR1, SIGUSR2, SIGQUIT | nothing: their default would end the process and lose data that is not yet durable |
//!
//! SIGPIPE is ignored by every Rust program.

use std::{fs::File, future::pending, io, time::Duration};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::{Instant, sleep},
};

use super::failure::Failure;
use crate::telemetry::log;

/// The terminal that controls this process, if there is one.
const TERMINAL: &str = "/dev/tty";

/// The kernel may send SIGHUP a moment before it takes the terminal away: how long, and how often,
/// the terminal is looked at.
const TERMINAL_GOES_WITHIN: Duration = Duration::from_secs(1);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// The signals above, caught.
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
    /// `None` where the process was started to survive its terminal (nohup).
    hangup: Option<Signal>,
    user1: Signal,
    user2: Signal,
    quit: Signal,
    /// There was a terminal at the start, and it may still be there.
    has_terminal: bool,
    /// Until when the terminal is looked at, after a SIGHUP.
    doubtful_until: Option<Instant>,
}

/// The request that a signal makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Request {
    Stop,
    /// The same, but made by a terminal that is gone: it is never a second, impatient request.
    TerminalGone,
    Nothing,
}

impl Signals {
    /// Begins to catch them. A process in the background has no terminal to lose.
    ///
    /// # Errors
    /// The system refuses.
    pub fn catch(in_background: bool) -> Result<Signals, Failure> {
        let failed =
            |error: io::Error| Failure::unexpected(format!("cannot catch signals: {error}"));
        let catch = |kind| signal(kind).map_err(failed);
        let survives_its_terminal = !in_background && hangup_is_ignored();
        Ok(Signals {
            interrupt: catch(SignalKind::interrupt())?,
            terminate: catch(SignalKind::terminate())?,
            hangup: match survives_its_terminal {
                true => None,
                false => Some(catch(SignalKind::hangup())?),
            },
            user1: catch(SignalKind::user_defined1())?,
            user2: catch(SignalKind::user_defined2())?,
            quit: catch(SignalKind::quit())?,
            has_terminal: !in_background && terminal_is_there(),
            doubtful_until: None,
        })
    }

    /// Returns when the mount is to end. Serves the other signals meanwhile.
    pub async fn stop(&mut self) {
        while self.next().await == Request::Nothing {}
    }

    /// Returns when a second signal shows that its sender has lost patience. Serves the other
    /// signals meanwhile.
    pub async fn give_up(&mut self) {
        while self.next().await != Request::Stop {}
    }

    async fn next(&mut self) -> Request {
        let hangup = async {
            match &mut self.hangup {
                Some(hangup) => hangup.recv().await,
                None => pending().await,
            }
        };
        let look_again = async {
            match self.doubtful_until {
                Some(_) => sleep(LOOK_EVERY).await,
                None => pending().await,
            }
        };
        tokio::select! {
            _ = self.interrupt.recv() => return Request::Stop,
            _ = self.terminate.recv() => return Request::Stop,
            _ = self.user1.recv() => return Request::Nothing,
            _ = self.user2.recv() => return Request::Nothing,
            _ = self.quit.recv() => return Request::Nothing,
            _ = hangup => {
                reopen_log();
                self.doubtful_until = self.has_terminal.then(|| Instant::now() + TERMINAL_GOES_WITHIN);
            }
            () = look_again => {}
        }
        if self.has_terminal && !terminal_is_there() {
            (self.has_terminal, self.doubtful_until) = (false, None);
            tracing::info!("the terminal is gone");
            return Request::TerminalGone;
        }
        self.doubtful_until = self.doubtful_until.filter(|until| Instant::now() < *until);
        Request::Nothing
    }
}

fn reopen_log() {
    match log::reopen() {
        Ok(()) => tracing::info!("SIGHUP: the log was opened anew"),
        // The old file is still open and takes this line.
        Err(error) => tracing::error!("SIGHUP: the log cannot be opened anew: {error}"),
    }
}

/// Once a terminal has hung up, the kernel answers with EIO, and then takes it away from the whole
/// session (ENXIO).
fn terminal_is_there() -> bool {
    File::open(TERMINAL).is_ok()
}

/// Whether this process was started with SIGHUP ignored.
fn hangup_is_ignored() -> bool {
    let ignored = crate::proc::Status::of_self().signals("SigIgn");
    ignored & (1 << (libc::SIGHUP - 1)) != 0
}
