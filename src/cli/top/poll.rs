//! A thread that asks one mount each second, and tells how it ended.

use std::{
    io,
    path::{Path, PathBuf},
    sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, SyncSender},
    thread,
    time::{Duration, Instant},
};

use crate::{
    session::{
        activity::Activity,
        control::{self, Address},
        lease::Process,
        mountpoint, unmount,
    },
    telemetry::moment,
};

/// How often the mount is asked.
const EVERY: Duration = Duration::from_secs(1);

/// How long it may take to answer; it answers from memory.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);

/// Answers that wait to be shown, at most.
const ANSWERS_MAX: usize = 4;

/// A word from the thread.
#[derive(Debug)]
pub enum Told {
    /// The mount's answer, and when it came.
    Activity(Instant, Box<Activity>),
    /// It does not answer; it may later.
    Problem(String),
    /// It is over: how it ended. The last word.
    Ended(String),
}

/// The thread. It ends when this is dropped, after an answer that it waits for.
pub struct Poller {
    told: Receiver<Told>,
    _stop: Sender<()>,
}

/// The mount to be asked.
#[derive(Clone, Debug)]
pub struct Target {
    /// The directory.
    pub dir: PathBuf,
    /// Its socket, if that is known.
    pub address: Option<Address>,
    /// Where mounts note how they ended, if that is known.
    pub state_root: Option<PathBuf>,
}

impl Poller {
    /// Starts to ask.
    pub fn start(target: Target) -> Poller {
        let (sender, told) = mpsc::sync_channel(ANSWERS_MAX);
        let (stop, stopped) = mpsc::channel();
        // A mount that hangs keeps the thread, and nobody waits for it.
        thread::spawn(move || ask_until(&target, &sender, &stopped));
        Poller { told, _stop: stop }
    }

    /// The news since the last call.
    pub fn news(&self) -> impl Iterator<Item = Told> {
        self.told.try_iter()
    }
}

fn ask_until(target: &Target, sender: &SyncSender<Told>, stopped: &Receiver<()>) {
    let mut address = target.address.clone();
    let mut process = None;
    loop {
        let told = match ask(target, &mut address) {
            Ok(activity) => {
                process = process.or_else(|| Process::of(activity.status.mount.pid));
                Told::Activity(Instant::now(), Box::new(activity))
            }
            Err(why) => match ended(target, process.as_ref()) {
                Some(how) => Told::Ended(how),
                None => Told::Problem(why),
            },
        };
        let is_last = matches!(told, Told::Ended(_));
        if sender.send(told).is_err() || is_last {
            return;
        }
        match stopped.recv_timeout(EVERY) {
            Err(RecvTimeoutError::Timeout) => {}
            Ok(()) | Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

fn ask(target: &Target, address: &mut Option<Address>) -> Result<Activity, String> {
    let known = match address {
        Some(known) => known,
        None => {
            let found = mountpoint::control_socket(&target.dir).map_err(|failure| failure.what)?;
            address.insert(found)
        }
    };
    control::ask_activity(known, ANSWER_WITHIN).map_err(|error| match error.kind() {
        io::ErrorKind::TimedOut => format!("no answer within {} s", ANSWER_WITHIN.as_secs()),
        _ => error.to_string(),
    })
}

/// How the mount ended; `None` if its process goes on, or never answered.
fn ended(target: &Target, process: Option<&Process>) -> Option<String> {
    let process = process?;
    if let Some(outcome) = noted(&target.dir, process, target.state_root.as_deref()) {
        return Some(outcome);
    }
    (!process.is_alive()).then(|| {
        "its process has ended without a note of how; what was not fsynced may be lost".to_owned()
    })
}

fn noted(dir: &Path, process: &Process, root: Option<&Path>) -> Option<String> {
    let outcome = unmount::outcome_of(process, &mountpoint::resolve(dir), root?)?;
    Some(match outcome {
        Ok(unmounted) => format!(
            "it was unmounted, and everything is durable since {}",
            moment(unmounted.unix_seconds)
        ),
        Err(failure) => format!(
            "it ended with code {}: {}",
            failure.exit.code(),
            failure.what
        ),
    })
}
