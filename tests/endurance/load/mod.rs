//! The programs, each of which knows what it was promised.

mod borg;
mod files;
mod fsx;
mod git;
mod names;
mod program;
mod restic;
mod rsync;
mod source;
mod sqlite;

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use crate::{
    stage::{Place, Stage, Stopped},
    support::random::Random,
};

pub use program::Programs;

/// A program that works on the volume in a directory of its own, round after round.
pub trait Worker: Send {
    fn name(&self) -> &'static str;

    /// Checks that everything promised is there, to the byte; contents that a crash left open are
    /// settled as they were found.
    fn look(&mut self, at: &Place<'_>) -> Result<(), Stopped>;

    /// Some seconds of work.
    fn round(&mut self, at: &Place<'_>) -> Result<(), Stopped>;

    /// Everything once more, as thoroughly as the program can.
    fn look_closely(&mut self, at: &Place<'_>) -> Result<(), Stopped> {
        self.look(at)
    }

    /// Between two rounds, so that the machine stays usable.
    fn pause(&self) -> Duration;
}

/// Rounds and looks by program, and how often each was interrupted.
#[derive(Default)]
pub struct Tally {
    done: Mutex<BTreeMap<&'static str, Done>>,
    rounds: AtomicU64,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct Done {
    pub rounds: u64,
    pub interrupted: u64,
    pub looks: u64,
}

impl Tally {
    fn count(&self, name: &'static str, count: impl FnOnce(&mut Done)) {
        count(self.done.lock().expect("tally").entry(name).or_default());
    }

    pub fn rounds(&self) -> u64 {
        self.rounds.load(Ordering::Relaxed)
    }

    pub fn by_program(&self) -> Vec<(&'static str, Done)> {
        let done = self.done.lock().expect("tally");
        done.iter().map(|(name, done)| (*name, *done)).collect()
    }
}

/// Works until all is over: looks whenever it is asked for, and makes rounds in between. `haste`
/// divides the pauses.
pub fn work(worker: &mut dyn Worker, stage: &Stage, tally: &Tally, haste: u32) {
    let mut looked = 0;
    while let Some(place) = stage.enter() {
        let is_look = place.look != looked;
        let result = match is_look {
            true => worker.look(&place),
            false => worker.round(&place),
        };
        let life = place.life.clone();
        let look = place.look;
        drop(place);
        match result {
            Ok(()) if is_look => {
                looked = look;
                tally.count(worker.name(), |done| done.looks += 1);
                stage.note_looked(look);
            }
            Ok(()) => {
                tally.count(worker.name(), |done| done.rounds += 1);
                tally.rounds.fetch_add(1, Ordering::Relaxed);
                // With some chance in it, lest all begin together again and again.
                let share = tally.rounds() % 5;
                stage.pause(worker.pause() * (80 + 10 * share as u32) / 100 / haste);
            }
            Err(Stopped::Interrupted) => {
                tally.count(worker.name(), |done| done.interrupted += 1);
                debug_assert!(life.is_doomed());
            }
            Err(Stopped::Wrong(text)) => stage.fail(format!("{}: {text}", worker.name())),
        }
    }
}

/// The thorough look at the end, one after the other.
pub fn look_closely(workers: &mut [Box<dyn Worker>], place: &Place<'_>) -> Result<(), String> {
    for worker in workers {
        match worker.look_closely(place) {
            Ok(()) => {}
            Err(Stopped::Interrupted) => return Err(format!("{} was interrupted", worker.name())),
            Err(Stopped::Wrong(text)) => return Err(format!("{}: {text}", worker.name())),
        }
    }
    Ok(())
}

/// The programs of the five hundred kills. They hardly pause: a round of each takes seconds.
pub fn for_kills(programs: &Programs, random: &mut Random) -> Vec<Box<dyn Worker>> {
    vec![
        Box::new(files::Files::new(random.branch(1), 12)),
        Box::new(names::Names::new(random.branch(2))),
        Box::new(sqlite::Sqlite::new(programs.clone(), 12)),
        Box::new(rsync::Rsync::new(programs.clone(), random.branch(3), 12)),
        Box::new(restic::Restic::new(programs.clone(), random.branch(4), 12)),
    ]
}

/// The programs of the soak; together they use about one core.
pub fn for_soak(programs: &Programs, random: &mut Random) -> Vec<Box<dyn Worker>> {
    vec![
        Box::new(files::Files::new(random.branch(1), 60)),
        Box::new(names::Names::new(random.branch(2))),
        Box::new(sqlite::Sqlite::new(programs.clone(), 40)),
        Box::new(rsync::Rsync::new(programs.clone(), random.branch(3), 24)),
        Box::new(restic::Restic::new(programs.clone(), random.branch(4), 24)),
        Box::new(borg::Borg::new(programs.clone(), random.branch(5), 24)),
        Box::new(git::Git::new(programs.clone(), random.branch(6))),
        Box::new(fsx::Fsx::new(programs.clone(), random.branch(7))),
    ]
}

/// Makes what is in the directory durable by name, and what replaced a file by contents.
fn sync_dir(dir: &Path) -> std::io::Result<()> {
    std::fs::File::open(dir)?.sync_all()
}
