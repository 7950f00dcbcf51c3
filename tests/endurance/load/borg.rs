//! borg: an archive whose creation ended well is promised.

use std::{collections::VecDeque, fs, time::Duration};

use super::{
    Programs, Worker,
    source::{Manifest, Source, compare},
};
use crate::{
    stage::{Place, Stopped},
    support::random::Random,
};

/// Archives that are kept.
const KEPT: usize = 3;

pub struct Borg {
    programs: Programs,
    source: Source,
    mib: usize,
    is_made: bool,
    /// Promised archives, the oldest first.
    kept: VecDeque<(String, Manifest)>,
    number: u64,
    looks: u64,
}

impl Borg {
    pub fn new(programs: Programs, random: Random, mib: usize) -> Borg {
        let source = Source::new(programs.scratch("borg-source"), random, mib);
        Borg {
            programs,
            source,
            mib,
            is_made: false,
            kept: VecDeque::new(),
            number: 0,
            looks: 0,
        }
    }

    fn run(&self, at: &Place<'_>, line: &str) -> Result<String, Stopped> {
        self.programs.run(at, "borg", &at.life.dir, line)
    }

    fn look_for_archives(&self, at: &Place<'_>) -> Result<(), Stopped> {
        if self.kept.is_empty() {
            return Ok(());
        }
        let listed = self.run(at, "borg list --short borg")?;
        let is_listed = |name: &str| listed.lines().any(|line| line == name);
        match self.kept.iter().find(|(name, _)| !is_listed(name)) {
            None => Ok(()),
            Some((name, _)) => Err(Stopped::Wrong(format!(
                "mount {}: archive {name} is gone; there are {listed}",
                at.life.number
            ))),
        }
    }

    /// Also what was made and could not be reported any more.
    fn delete_others(&self, at: &Place<'_>) -> Result<(), Stopped> {
        let listed = self.run(at, "borg list --short borg")?;
        let is_other = |name: &&str| !self.kept.iter().any(|(kept, _)| kept == name);
        let others: Vec<&str> = listed.lines().filter(is_other).collect();
        let line = format!("borg delete borg {} && borg compact borg", others.join(" "));
        self.run(at, &line).map(|_| ())
    }

    fn extract(&self, at: &Place<'_>) -> Result<(), Stopped> {
        let Some((name, manifest)) = self.kept.back() else {
            return Ok(());
        };
        let target = self.programs.scratch("borg-extracted");
        let repository = at.life.dir.join("borg");
        let line = format!(
            "cd {} && borg extract {}::{name}",
            target.display(),
            repository.display()
        );
        let extracted = self.run(at, &line).map(|_| {
            let below = self.source.dir.strip_prefix("/").expect("absolute");
            compare(&target.join(below), manifest)
        });
        let _ = fs::remove_dir_all(&target);
        extracted?.map_err(|error| {
            Stopped::Wrong(format!(
                "mount {}: extracted from {name}: {error}",
                at.life.number
            ))
        })
    }
}

impl Worker for Borg {
    fn name(&self) -> &'static str {
        "borg"
    }

    fn look(&mut self, at: &Place<'_>) -> Result<(), Stopped> {
        self.looks += 1;
        if !self.is_made {
            // The directory that an interrupted `init` left is no repository, and borg remembers
            // what it was.
            let repository = at.life.dir.join("borg");
            if repository.exists() {
                at.io("rm", fs::remove_dir_all(&repository))?;
            }
            self.run(at, "borg init -e none borg")?;
            self.is_made = true;
        }
        self.run(at, "borg break-lock borg")?;
        if self.looks.is_multiple_of(5) {
            return self.look_closely(at);
        }
        self.look_for_archives(at)
    }

    fn look_closely(&mut self, at: &Place<'_>) -> Result<(), Stopped> {
        self.look_for_archives(at)?;
        self.run(at, "borg check --verify-data borg")?;
        self.extract(at)
    }

    fn round(&mut self, at: &Place<'_>) -> Result<(), Stopped> {
        self.source.advance(self.mib);
        self.number += 1;
        let name = format!("a{}", self.number);
        let line = format!(
            "borg create --compression none borg::{name} {}",
            self.source.dir.display()
        );
        self.run(at, &line)?;
        self.kept.push_back((name, self.source.manifest.clone()));
        if self.kept.len() > KEPT + 2 {
            while self.kept.len() > KEPT {
                self.kept.pop_front();
            }
            self.delete_others(at)?;
        }
        Ok(())
    }

    fn pause(&self) -> Duration {
        Duration::from_secs(10)
    }
}
