//! git, told to sync all that it writes: a commit is promised once the directory of the branch is
//! synced too, which git itself leaves out.

use std::{fs, path::PathBuf, time::Duration};

use super::{Programs, Worker, sync_dir};
use crate::{
    stage::{Place, Stopped},
    support::random::{Random, noise},
};

/// After so many commits all begins anew.
const COMMITS_MAX: u64 = 120;

pub struct Git {
    programs: Programs,
    random: Random,
    is_made: bool,
    /// The last promised commit and its tree.
    kept: Option<(String, String)>,
    commits: u64,
    looks: u64,
}

impl Git {
    pub fn new(programs: Programs, random: Random) -> Git {
        Git {
            programs,
            random,
            is_made: false,
            kept: None,
            commits: 0,
            looks: 0,
        }
    }

    fn run(&self, at: &Place<'_>, line: &str) -> Result<String, Stopped> {
        self.programs.run(at, "git", &repository(at), line)
    }

    fn make(&mut self, at: &Place<'_>) -> Result<(), Stopped> {
        let dir = repository(at);
        (self.is_made, self.kept, self.commits) = (false, None, 0);
        if dir.exists() {
            at.io("rm", fs::remove_dir_all(&dir))?;
        }
        at.io("mkdir", fs::create_dir(&dir))?;
        self.run(
            at,
            "git init -q -b main . && git config core.fsync all && git config core.fsyncMethod fsync
             git config gc.auto 0 && git config core.logAllRefUpdates false
             git config user.name t && git config user.email t@localhost",
        )?;
        at.io("sync of the directory", sync_dir(&dir.join(".git")))?;
        self.is_made = true;
        Ok(())
    }
}

fn repository(at: &Place<'_>) -> PathBuf {
    at.life.dir.join("git")
}

impl Worker for Git {
    fn name(&self) -> &'static str {
        "git"
    }

    fn look(&mut self, at: &Place<'_>) -> Result<(), Stopped> {
        self.looks += 1;
        let Some((commit, tree)) = self.kept.clone() else {
            return self.make(at);
        };
        self.run(at, "find .git -name '*.lock' -delete; rm -f .git/gc.pid")?;
        // Nobody synced the files that were checked out.
        self.run(at, "git reset -q --hard")?;
        let line = format!(
            "git merge-base --is-ancestor {commit} HEAD && git rev-parse {commit}^{{tree}}"
        );
        let found = self.run(at, &line)?;
        if found.trim() != tree {
            return Err(Stopped::Wrong(format!(
                "commit {commit} has tree {found}, promised was {tree}"
            )));
        }
        match self.looks.is_multiple_of(4) {
            true => self.look_closely(at),
            false => Ok(()),
        }
    }

    fn look_closely(&mut self, at: &Place<'_>) -> Result<(), Stopped> {
        self.run(at, "git fsck --full --strict --no-dangling --no-progress")
            .map(|_| ())
    }

    fn round(&mut self, at: &Place<'_>) -> Result<(), Stopped> {
        if !self.is_made || self.commits >= COMMITS_MAX {
            self.make(at)?;
        }
        let dir = repository(at);
        for _ in 0..3 {
            let name = format!("f{}", self.random.below(40));
            let contents = noise(self.random.next(), self.random.below(30_000) as usize);
            at.io(&name, fs::write(dir.join(&name), contents))?;
        }
        self.commits += 1;
        let line = format!(
            "git add -A && git commit -q --allow-empty -m 'commit {}' && git rev-parse HEAD HEAD^{{tree}}",
            self.commits
        );
        let said = self.run(at, &line)?;
        at.io("sync of the branch", sync_dir(&dir.join(".git/refs/heads")))?;
        let mut said = said.lines().map(str::to_owned);
        self.kept = said.next().zip(said.next());
        if self.commits.is_multiple_of(25) {
            self.run(at, "git repack -adq && git prune --expire=now")?;
        }
        Ok(())
    }

    fn pause(&self) -> Duration {
        Duration::from_secs(3)
    }
}
