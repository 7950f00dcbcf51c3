//! The mount that programs work on at present, and who works on it.
//!
//! The end of a mount is announced before: a program that fails on it from then on was interrupted,
//! any other failure is one of the test.

use std::{
    io,
    path::PathBuf,
    sync::{
        Arc, Condvar, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use crate::support::mount::Mount;

/// One mount, from the moment it answers until somebody ends it.
pub struct Life {
    pub number: u32,
    pub dir: PathBuf,
    /// The process that serves it.
    pub pid: u32,
    doomed: AtomicBool,
    /// Programs at work on it; changes with the stage's lock held.
    at_work: AtomicUsize,
}

impl Life {
    /// Whether somebody is about to end it, or has.
    pub fn is_doomed(&self) -> bool {
        self.doomed.load(Ordering::SeqCst)
    }
}

/// The reason why a piece of work did not end well.
#[derive(Debug)]
pub enum Stopped {
    /// Its mount went away on purpose.
    Interrupted,
    /// A promise was broken.
    Wrong(String),
}

#[derive(Default)]
struct State {
    life: Option<Arc<Life>>,
    /// Nobody is let in.
    closed: bool,
    over: bool,
    /// Counts the times when everybody is to look at what was promised.
    looks: u64,
    /// Programs that have looked since `looks` was counted up.
    looked: usize,
    failures: Vec<String>,
}

#[derive(Default)]
pub struct Stage {
    state: Mutex<State>,
    changed: Condvar,
}

/// Somebody's place on a life; it ends with the piece of work.
pub struct Place<'a> {
    pub life: Arc<Life>,
    /// See [`Stage::wait_looked`].
    pub look: u64,
    stage: &'a Stage,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.stage
            .change(|_| self.life.at_work.fetch_sub(1, Ordering::SeqCst));
    }
}

impl Place<'_> {
    /// Whether long work had better end here.
    pub fn is_wanted_back(&self) -> bool {
        let state = self.stage.lock();
        self.life.is_doomed() || state.closed || state.over
    }

    /// Judges a failure of `what`: an interruption, or a fault.
    pub fn judge(&self, what: &str, error: &dyn std::fmt::Display) -> Stopped {
        if self.life.is_doomed() {
            return Stopped::Interrupted;
        }
        Stopped::Wrong(format!("{what} on mount {}: {error}", self.life.number))
    }

    /// Judges the result of an input or output on the mount.
    pub fn io<T>(&self, what: &str, result: io::Result<T>) -> Result<T, Stopped> {
        result.map_err(|error| self.judge(what, &error))
    }
}

impl Stage {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics with it")
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.lock());
        self.changed.notify_all();
        result
    }

    /// Waits until it is so; false after `patience`.
    fn wait(&self, patience: Duration, so: impl Fn(&State) -> bool) -> bool {
        let until = Instant::now() + patience;
        let mut state = self.lock();
        while !so(&state) {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            state = self.changed.wait_timeout(state, left).expect("lock").0;
        }
        true
    }

    /// A place on the life that goes on; `None` when all is over.
    pub fn enter(&self) -> Option<Place<'_>> {
        let open = |state: &State| {
            !state.closed && state.life.as_ref().is_some_and(|life| !life.is_doomed())
        };
        loop {
            let state = self.lock();
            if state.over {
                return None;
            }
            if open(&state) {
                let life = state.life.clone().expect("open");
                life.at_work.fetch_add(1, Ordering::SeqCst);
                let look = state.looks;
                drop(state);
                return Some(Place {
                    life,
                    look,
                    stage: self,
                });
            }
            drop(state);
            self.wait(Duration::from_secs(1), |state| state.over || open(state));
        }
    }

    /// A mount answers: everybody looks at what was promised, and goes on.
    pub fn open(&self, number: u32, mount: &Mount<'_>) -> Arc<Life> {
        let life = Arc::new(Life {
            number,
            dir: mount.dir.clone(),
            pid: mount.pid(),
            doomed: AtomicBool::new(false),
            at_work: AtomicUsize::new(0),
        });
        self.change(|state| {
            state.life = Some(life.clone());
            state.closed = false;
            state.looks += 1;
            state.looked = 0;
        });
        life
    }

    /// The life is about to end.
    pub fn doom(&self, life: &Life) {
        life.doomed.store(true, Ordering::SeqCst);
        self.changed.notify_all();
    }

    /// Nobody is let in, and whoever is in comes out in time, or that is a failure.
    pub fn close(&self, life: &Life, patience: Duration) -> Result<(), String> {
        self.change(|state| state.closed = true);
        self.wait_left(life, patience)
    }

    /// Waits until nobody works on a life any more that is doomed or closed.
    pub fn wait_left(&self, life: &Life, patience: Duration) -> Result<(), String> {
        let at_work = || life.at_work.load(Ordering::SeqCst);
        match self.wait(patience, |_| at_work() == 0) {
            true => Ok(()),
            false => Err(format!(
                "{} programs do not leave mount {} within {patience:?}",
                at_work(),
                life.number
            )),
        }
    }

    /// Everybody looks at what was promised, though the mount is the same.
    pub fn look_again(&self) {
        self.change(|state| {
            state.looks += 1;
            state.looked = 0;
        });
    }

    pub fn note_looked(&self, look: u64) {
        self.change(|state| state.looked += usize::from(state.looks == look));
    }

    /// Waits until so many have looked, or all is over.
    pub fn wait_looked(&self, all: usize, patience: Duration) -> Result<(), String> {
        self.wait(patience, |state| state.looked >= all || state.over);
        let looked = self.lock().looked;
        match looked >= all || self.is_over() {
            true => Ok(()),
            false => Err(format!(
                "{looked} of {all} programs have looked at what was promised within {patience:?}"
            )),
        }
    }

    /// All is over.
    pub fn end(&self) {
        self.change(|state| state.over = true);
    }

    pub fn fail(&self, failure: String) {
        eprintln!("FAILURE {failure}");
        self.change(|state| {
            state.failures.push(failure);
            state.over = true;
        });
    }

    /// The mount that programs work on, unless somebody is about to end it.
    pub fn life(&self) -> Option<Arc<Life>> {
        let life = self.lock().life.clone();
        life.filter(|life| !life.is_doomed())
    }

    pub fn is_over(&self) -> bool {
        self.lock().over
    }

    /// Waits for so long, or until all is over.
    pub fn pause(&self, time: Duration) {
        self.wait(time, |state| state.over);
    }

    pub fn failures(&self) -> Vec<String> {
        self.lock().failures.clone()
    }
}

/// Ends the stage also where a panic unwinds, so that nobody waits for a mount that never comes.
pub struct EndOfStage<'a>(pub &'a Stage);

impl Drop for EndOfStage<'_> {
    fn drop(&mut self) {
        self.0.end();
    }
}
