//! restic: a backup that ended well is promised, and stays so over prunes of others.

use std::{collections::VecDeque, fs, time::Duration};

use super::{
    Programs, Worker,
    source::{Manifest, Source, compare},
};
use crate::{
    stage::{Place, Stopped},
    support::random::Random,
};

/// Snapshots that are kept.
const KEPT: usize = 3;

pub struct Restic {
    programs: Programs,
    source: Source,
    mib: usize,
    random: Random,
    is_made: bool,
    /// Promised snapshots, the oldest first.
    kept: VecDeque<(String, Manifest)>,
    looks: u64,
}

impl Restic {
    pub fn new(programs: Programs, mut random: Random, mib: usize) -> Restic {
        let dir = programs.scratch("restic-source");
        Restic {
            source: Source::new(dir, random.branch(1), mib),
            programs,
            mib,
            random,
            is_made: false,
            kept: VecDeque::new(),
            looks: 0,
        }
    }

    fn run(&self, at: &Place<'_>, line: &str) -> Result<String, Stopped> {
        let line = format!("restic -q -r restic {line}");
        self.programs.run(at, "restic", &at.life.dir, &line)
    }

    /// Each promised snapshot is listed.
    fn look_for_snapshots(&self, at: &Place<'_>) -> Result<(), Stopped> {
        if self.kept.is_empty() {
            return Ok(());
        }
        let listed = self.run(at, "snapshots --json --no-lock")?;
        match self.kept.iter().find(|(id, _)| !listed.contains(id)) {
            None => Ok(()),
            Some((id, _)) => Err(Stopped::Wrong(format!(
                "mount {}: snapshot {id} is gone; there are {listed}",
                at.life.number
            ))),
        }
    }

    /// Prunes all but what is promised: also what was made and could not be reported any more.
    fn forget_others(&self, at: &Place<'_>) -> Result<(), Stopped> {
        let listed = self.run(at, "snapshots --json")?;
        let listed: serde_json::Value =
            serde_json::from_str(&listed).map_err(|error| at.judge("snapshots", &error))?;
        let is_other = |id: &&str| !self.kept.iter().any(|(kept, _)| id.starts_with(&**kept));
        let others: Vec<&str> = listed
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|snapshot| snapshot["id"].as_str())
            .filter(is_other)
            .collect();
        let line = format!("forget --prune {}", others.join(" "));
        self.run(at, &line).map(|_| ())
    }

    /// The newest snapshot gives back what it was made of.
    fn restore(&self, at: &Place<'_>) -> Result<(), Stopped> {
        let Some((id, manifest)) = self.kept.back() else {
            return Ok(());
        };
        let target = self.programs.scratch("restic-restored");
        let line = format!("restore {id} --no-lock --target {}", target.display());
        let restored = self.run(at, &line).map(|_| {
            let below = self.source.dir.strip_prefix("/").expect("absolute");
            compare(&target.join(below), manifest)
        });
        let _ = fs::remove_dir_all(&target);
        restored?.map_err(|error| {
            Stopped::Wrong(format!(
                "mount {}: restored from snapshot {id}: {error}",
                at.life.number
            ))
        })
    }
}

impl Worker for Restic {
    fn name(&self) -> &'static str {
        "restic"
    }

    fn look(&mut self, at: &Place<'_>) -> Result<(), Stopped> {
        self.looks += 1;
        if !self.is_made {
            // The directory that an interrupted `init` left is no repository.
            let repository = at.life.dir.join("restic");
            if repository.exists() {
                at.io("rm", fs::remove_dir_all(&repository))?;
            }
            self.run(at, "init")?;
            self.is_made = true;
        }
        if self.looks.is_multiple_of(10) {
            return self.look_closely(at);
        }
        self.look_for_snapshots(at)
    }

    fn look_closely(&mut self, at: &Place<'_>) -> Result<(), Stopped> {
        self.look_for_snapshots(at)?;
        self.run(at, "unlock --remove-all")?;
        self.run(at, "check --read-data")?;
        self.restore(at)
    }

    fn round(&mut self, at: &Place<'_>) -> Result<(), Stopped> {
        // An interrupted run has left its lock.
        self.run(at, "unlock --remove-all")?;
        self.source.advance(self.mib);
        let line = format!("backup --json {}", self.source.dir.display());
        let said = self.run(at, &line)?;
        let id = said
            .split("\"snapshot_id\":\"")
            .nth(1)
            .and_then(|rest| rest.split('"').next());
        let id = id.ok_or_else(|| at.judge(&line, &said))?.to_owned();
        self.kept.push_back((id, self.source.manifest.clone()));
        if self.kept.len() > KEPT + 2 {
            // Not promised from the moment on when they are to go.
            while self.kept.len() > KEPT {
                self.kept.pop_front();
            }
            self.forget_others(at)?;
        }
        match self.random.below(6) {
            0 => self.restore(at),
            1 => self.run(at, "check").map(|_| ()),
            _ => Ok(()),
        }
    }

    fn pause(&self) -> Duration {
        Duration::from_secs(6)
    }
}
