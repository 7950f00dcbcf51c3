//! rsync with `--fsync`, and a sync of the directories after it: from then on the copy is promised.
//! While it works, and after a crash in the middle of it, each file is old or new.

use std::{fs, path::Path, time::Duration};

use super::{
    Programs, Worker,
    source::{Manifest, Source, compare},
    sync_dir,
};
use crate::{
    stage::{Place, Stopped},
    support::random::{Random, noise},
};

pub struct Rsync {
    programs: Programs,
    source: Source,
    mib: usize,
    /// The files that the copy is promised to hold.
    kept: Manifest,
    /// rsync has begun to bring the copy up to the source as it is.
    is_changing: bool,
}

impl Rsync {
    pub fn new(programs: Programs, random: Random, mib: usize) -> Rsync {
        let source = Source::new(programs.scratch("rsync-source"), random, mib);
        Rsync {
            programs,
            source,
            mib,
            kept: Manifest::new(),
            is_changing: false,
        }
    }

    /// Each file is as it was promised, or as it was to become.
    fn look_at_a_mixture(&self, at: &Place<'_>, copy: &Path) -> Result<(), Stopped> {
        let (old, new) = (&self.kept, &self.source.manifest);
        let wrong = |text| Stopped::Wrong(format!("mount {}: the copy's {text}", at.life.number));
        for (name, contents) in old {
            let found = match fs::read(copy.join(name)) {
                Ok(found) => found,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                    match new.contains_key(name) {
                        true => return Err(wrong(format!("{name} is gone"))),
                        false => continue,
                    }
                }
                Err(error) => return Err(at.judge(name, &error)),
            };
            let is = |(seed, len): &(u64, usize)| found == noise(*seed, *len);
            if !is(contents) && !new.get(name).is_some_and(is) {
                let text = format!("{name} is neither old nor new: {} bytes", found.len());
                return Err(wrong(text));
            }
        }
        // rsync syncs a new file before it gives it its name.
        for (name, (seed, len)) in new.iter().filter(|(name, _)| !old.contains_key(*name)) {
            match fs::read(copy.join(name)) {
                Ok(found) if found == noise(*seed, *len) => {}
                Ok(found) => {
                    let text = format!("{name} is not as it was synced: {} bytes", found.len());
                    return Err(wrong(text));
                }
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(at.judge(name, &error)),
            }
        }
        Ok(())
    }
}

impl Worker for Rsync {
    fn name(&self) -> &'static str {
        "rsync"
    }

    fn look(&mut self, at: &Place<'_>) -> Result<(), Stopped> {
        let copy = at.life.dir.join("copy");
        at.io("mkdir", fs::create_dir_all(&copy))?;
        if self.is_changing {
            return self.look_at_a_mixture(at, &copy);
        }
        compare(&copy, &self.kept).map_err(|error| match at.life.is_doomed() {
            true => Stopped::Interrupted,
            false => Stopped::Wrong(format!("mount {}: the copy's {error}", at.life.number)),
        })
    }

    fn round(&mut self, at: &Place<'_>) -> Result<(), Stopped> {
        let copy = at.life.dir.join("copy");
        // After an interruption the same source once more, so that there are two states at most.
        if !self.is_changing {
            self.source.advance(self.mib);
        }
        self.is_changing = true;
        // To the nanosecond: by itself rsync takes files of one length and one second for the same.
        let line = format!(
            "rsync -a --modify-window=-1 --fsync --delete {}/ copy/",
            self.source.dir.display()
        );
        self.programs.run(at, "rsync", &at.life.dir, &line)?;
        for entry in walkdir::WalkDir::new(&copy) {
            let entry = entry.map_err(|error| at.judge("walk", &error))?;
            if entry.file_type().is_dir() {
                at.io("sync of a directory", sync_dir(entry.path()))?;
            }
        }
        self.kept.clone_from(&self.source.manifest);
        self.is_changing = false;
        Ok(())
    }

    fn pause(&self) -> Duration {
        Duration::from_secs(3)
    }
}
