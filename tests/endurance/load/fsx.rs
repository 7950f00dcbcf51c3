//! fsx: each of its reads is compared by itself; what it leaves behind is synced, and promised.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    time::Duration,
};

use super::{Programs, Worker};
use crate::{
    stage::{Place, Stopped},
    support::{commands::fsx_configuration, random::Random},
};

const OPERATIONS: u64 = 500;
const FILES_MAX: usize = 8;

pub struct Fsx {
    programs: Programs,
    random: Random,
    kept: BTreeMap<String, Vec<u8>>,
}

impl Fsx {
    pub fn new(programs: Programs, random: Random) -> Fsx {
        let dir = programs.scratch("fsx");
        // It syncs seldom, for the sake of the others.
        fs::write(dir.join("fsx.toml"), fsx_configuration("0.2")).expect("configuration");
        Fsx {
            programs,
            random,
            kept: BTreeMap::new(),
        }
    }
}

impl Worker for Fsx {
    fn name(&self) -> &'static str {
        "fsx"
    }

    fn look(&mut self, at: &Place<'_>) -> Result<(), Stopped> {
        let dir = at.life.dir.join("fsx");
        at.io("mkdir", fs::create_dir_all(&dir))?;
        for (name, contents) in &self.kept {
            if at.io(name, fs::read(dir.join(name)))? != *contents {
                let text = format!("mount {}: {name} differs", at.life.number);
                return Err(Stopped::Wrong(text));
            }
        }
        for entry in at.io("list", fs::read_dir(&dir))? {
            let name = at.io("list", entry)?.file_name();
            if !self.kept.contains_key(&*name.to_string_lossy()) {
                at.io("rm", fs::remove_file(dir.join(name)))?;
            }
        }
        Ok(())
    }

    fn round(&mut self, at: &Place<'_>) -> Result<(), Stopped> {
        let dir = at.life.dir.join("fsx");
        let seed = self.random.below(1 << 31);
        let name = format!("x{seed}");
        let configuration = self.programs.scratch("fsx").join("fsx.toml");
        let line = format!(
            "fsx -q -f {} -S {seed} -N {OPERATIONS} {name}",
            configuration.display()
        );
        self.programs.run(at, "fsx", &dir, &line)?;
        let path = dir.join(&name);
        at.io("sync", File::open(&path).and_then(|file| file.sync_all()))?;
        let contents = at.io(&name, fs::read(&path))?;
        self.kept.insert(name, contents);
        if self.kept.len() > FILES_MAX {
            let (name, _) = self.kept.pop_first().expect("some");
            at.io("rm", fs::remove_file(dir.join(name)))?;
        }
        Ok(())
    }

    fn pause(&self) -> Duration {
        Duration::from_secs(4)
    }
}
