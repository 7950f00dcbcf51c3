//! Files that are replaced, removed, overwritten in place and appended to; each step is synced, and
//! counts as promised once that has returned.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{Worker, sync_dir};
use crate::{
    stage::{Place, Stopped},
    support::random::{Random, noise},
};

const SLOTS: u64 = 40;
const LENS: [usize; 5] = [17, 4096, 70_000, 300_001, 1_500_000];

const BLOCKS: u64 = 256;
const BLOCK: usize = 4096;

/// A log is removed and begun anew at this length.
const LOG_LEN_MAX: u64 = 400_000;

/// Seed and length; `None` where there is no such file.
type Contents = Option<(u64, usize)>;

/// The contents promised under a name, and those that were tried since.
#[derive(Default)]
struct Slot {
    kept: Contents,
    tried: Vec<Contents>,
}

pub struct Files {
    random: Random,
    steps: u64,
    slots: BTreeMap<u64, Slot>,
    blocks: Blocks,
    log: Log,
}

/// A file whose blocks hold the number of the write that made them.
struct Blocks {
    kept: Vec<u64>,
    tried: Vec<u64>,
    number: u64,
    is_made: bool,
}

/// A file that grows by records.
#[derive(Default)]
struct Log {
    kept: u64,
    tried: u64,
    /// It is being removed: it may be there as it was, or not.
    is_leaving: bool,
}

impl Files {
    /// `steps` a round.
    pub fn new(random: Random, steps: u64) -> Files {
        Files {
            random,
            steps,
            slots: BTreeMap::new(),
            blocks: Blocks {
                kept: vec![0; BLOCKS as usize],
                tried: vec![0; BLOCKS as usize],
                number: 0,
                is_made: false,
            },
            log: Log::default(),
        }
    }

    fn replace(&mut self, dir: &Path, slot: u64) -> io::Result<()> {
        let contents = (self.random.next(), *self.random.pick(&LENS));
        let path = dir.join(format!("slot{slot}"));
        let new = dir.join(format!("slot{slot}.new"));
        let state = self.slots.entry(slot).or_default();
        let mut file = File::create(&new)?;
        file.write_all(&noise(contents.0, contents.1))?;
        // Once more over the beginning, which may be on its way already.
        file.write_all_at(&noise(contents.0, contents.1)[..contents.1 / 2], 0)?;
        file.sync_all()?;
        state.tried.push(Some(contents));
        fs::rename(&new, &path)?;
        sync_dir(dir)?;
        state.keep(Some(contents));
        Ok(())
    }

    /// A file of this name without a detour; before the sync it may be there in part.
    fn create(&mut self, dir: &Path, slot: u64) -> io::Result<()> {
        let contents = (self.random.next(), *self.random.pick(&LENS));
        self.remove(dir, slot)?;
        let state = self.slots.entry(slot).or_default();
        let path = dir.join(format!("slot{slot}.new"));
        let mut file = File::create(&path)?;
        file.write_all(&noise(contents.0, contents.1))?;
        state.tried.push(Some(contents));
        // The name before the contents.
        fs::rename(&path, dir.join(format!("slot{slot}")))?;
        file.sync_all()?;
        state.keep(Some(contents));
        Ok(())
    }

    fn remove(&mut self, dir: &Path, slot: u64) -> io::Result<()> {
        let state = self.slots.entry(slot).or_default();
        if state.kept.is_none() {
            return Ok(());
        }
        state.tried.push(None);
        fs::remove_file(dir.join(format!("slot{slot}")))?;
        sync_dir(dir)?;
        state.keep(None);
        Ok(())
    }

    fn look_at_slots(&mut self, at: &Place<'_>, dir: &Path) -> Result<(), Stopped> {
        for (number, slot) in &mut self.slots {
            let path = dir.join(format!("slot{number}"));
            let found = match fs::read(&path) {
                Ok(found) => Some(found),
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                Err(error) => return Err(at.judge(&path.display().to_string(), &error)),
            };
            slot.settle(found.as_deref()).map_err(|text| {
                Stopped::Wrong(format!("slot{number} on mount {}: {text}", at.life.number))
            })?;
            let new = dir.join(format!("slot{number}.new"));
            match fs::remove_file(&new) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(at.judge(&new.display().to_string(), &error));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

impl Slot {
    fn keep(&mut self, contents: Contents) {
        self.kept = contents;
        self.tried.clear();
    }

    /// The contents found are some of those that may be there, and count from now on.
    fn settle(&mut self, found: Option<&[u8]>) -> Result<(), String> {
        let same = |contents: &Contents| match (contents, found) {
            (None, None) => true,
            (Some((seed, len)), Some(found)) => found.len() == *len && found == noise(*seed, *len),
            _ => false,
        };
        let may_be = std::iter::once(&self.kept).chain(&self.tried);
        let mut whole = may_be.clone().copied();
        if let Some(contents) = whole.find(|contents| same(contents)) {
            self.keep(contents);
            return Ok(());
        }
        // A name that came before its contents, which nobody had synced: a part of them. It is not
        // kept as such; the next step replaces it.
        let is_part = |contents: &Contents| match (contents, found) {
            (Some((seed, len)), Some(found)) => noise(*seed, *len).starts_with(found),
            _ => false,
        };
        if self.kept.is_none() && self.tried.iter().any(is_part) {
            let found = found.map(<[u8]>::len);
            let contents = self.tried.iter().copied().flatten().next_back();
            self.keep(contents.map(|(seed, _)| (seed, found.unwrap_or(0))));
            return Ok(());
        }
        Err(format!(
            "{:?} bytes are found; promised was {:?}, tried since {:?}",
            found.map(<[u8]>::len),
            self.kept,
            self.tried
        ))
    }
}

impl Blocks {
    fn make(&mut self, path: &Path) -> io::Result<()> {
        if self.is_made {
            return Ok(());
        }
        let mut file = File::create(path)?;
        file.write_all(&vec![0; BLOCKS as usize * BLOCK])?;
        file.sync_all()?;
        self.is_made = true;
        Ok(())
    }

    fn overwrite(&mut self, path: &Path, random: &mut Random) -> io::Result<()> {
        self.make(path)?;
        let file = File::options().write(true).open(path)?;
        for _ in 0..random.between(1, 12) {
            self.number += 1;
            let block = random.below(BLOCKS);
            self.tried[block as usize] = self.number;
            let bytes = self.number.to_le_bytes().repeat(BLOCK / 8);
            file.write_all_at(&bytes, block * BLOCK as u64)?;
        }
        file.sync_all()?;
        self.kept.clone_from(&self.tried);
        Ok(())
    }

    fn settle(&mut self, bytes: &[u8]) -> Result<(), String> {
        if bytes.len() != BLOCKS as usize * BLOCK {
            return Err(format!("{} bytes", bytes.len()));
        }
        for (block, bytes) in bytes.chunks(BLOCK).enumerate() {
            let found = u64::from_le_bytes(bytes[..8].try_into().expect("eight"));
            if !bytes.chunks(8).all(|word| word == found.to_le_bytes()) {
                return Err(format!("block {block} is torn"));
            }
            let (kept, tried) = (self.kept[block], self.tried[block]);
            if !(kept..=tried).contains(&found) {
                return Err(format!(
                    "block {block} holds write {found}; promised was {kept}, the last tried {tried}"
                ));
            }
            self.kept[block] = found;
            self.tried[block] = found;
        }
        Ok(())
    }
}

/// Record by record, of lengths of their own.
fn log_contents(len: u64) -> Vec<u8> {
    noise(4711, len as usize)
}

impl Log {
    fn append(&mut self, path: &Path, dir: &Path, random: &mut Random) -> io::Result<()> {
        if self.kept > LOG_LEN_MAX {
            self.is_leaving = true;
            fs::remove_file(path)?;
            sync_dir(dir)?;
            *self = Log::default();
        }
        let mut file = File::options().create(true).append(true).open(path)?;
        for _ in 0..random.between(1, 5) {
            let end = self.tried + random.between(1, 9000);
            let record = &log_contents(end)[self.tried as usize..];
            self.tried = end;
            file.write_all(record)?;
        }
        file.sync_all()?;
        self.kept = self.tried;
        Ok(())
    }

    fn settle(&mut self, found: Option<&[u8]>) -> Result<(), String> {
        let Some(found) = found else {
            if self.kept > 0 && !self.is_leaving {
                return Err(format!("the log of {} bytes is gone", self.kept));
            }
            *self = Log::default();
            return Ok(());
        };
        let len = found.len() as u64;
        if !(self.kept..=self.tried).contains(&len) || found != log_contents(len) {
            return Err(format!(
                "the log has {len} bytes, or others; promised were {}, written {}",
                self.kept, self.tried
            ));
        }
        (self.kept, self.tried, self.is_leaving) = (len, len, false);
        Ok(())
    }
}

fn dir_of(at: &Place<'_>) -> PathBuf {
    at.life.dir.join("files")
}

impl Worker for Files {
    fn name(&self) -> &'static str {
        "files"
    }

    fn look(&mut self, at: &Place<'_>) -> Result<(), Stopped> {
        let dir = dir_of(at);
        at.io("mkdir", fs::create_dir_all(&dir))?;
        self.look_at_slots(at, &dir)?;
        let wrong = |text| Stopped::Wrong(format!("mount {}: {text}", at.life.number));
        if self.blocks.is_made {
            let bytes = at.io("blocks", fs::read(dir.join("blocks")))?;
            self.blocks.settle(&bytes).map_err(wrong)?;
        }
        let log = match fs::read(dir.join("log")) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            result => Some(at.io("log", result)?),
        };
        self.log.settle(log.as_deref()).map_err(wrong)
    }

    fn round(&mut self, at: &Place<'_>) -> Result<(), Stopped> {
        let dir = dir_of(at);
        for _ in 0..self.steps {
            if at.is_wanted_back() {
                break;
            }
            let slot = self.random.below(SLOTS);
            let result = match self.random.below(10) {
                0..3 => self.replace(&dir, slot),
                3 => self.create(&dir, slot),
                4 => self.remove(&dir, slot),
                5..8 => self.blocks.overwrite(&dir.join("blocks"), &mut self.random),
                _ => self.log.append(&dir.join("log"), &dir, &mut self.random),
            };
            at.io("files", result)?;
        }
        Ok(())
    }

    fn pause(&self) -> Duration {
        Duration::from_millis(400)
    }
}
