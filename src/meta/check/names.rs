//! Links: the entries that name each inode, and whether every directory hangs on the root.

use std::collections::HashSet;

use super::{CheckMemory, Collector, Counted, Fault, Halt, cursor::Cursor};
use crate::meta::{
    FileKind, Ino, Meta, MetaError,
    schema::{self, Table},
};

/// Memory of one inode while its names are counted.
const TARGET_BYTES: u64 = size_of::<Target>() as u64;
/// Memory of one directory that is known to hang on the root: an entry of a hash set.
const ROOTED_BYTES: u64 = 32;

/// An inode, and the names that were counted for it.
struct Target {
    ino: u64,
    /// `None` if its record does not decode; then no fault is reported for it.
    kind: Option<FileKind>,
    is_orphan: bool,
    links: u32,
    names: u32,
    subdirectories: u32,
    /// Directories: the parent as recorded, and the first directory that names it.
    parent: u64,
    named_by: u64,
}

/// A run of inodes, in order: those from `first` to `last`, whether or not each of them is there.
struct Part {
    first: u64,
    last: u64,
    targets: Vec<Target>,
    /// Set if entries that do not decode were passed over. They may name any inode, so inodes with
    /// too few names are no faults then.
    is_short: bool,
}

impl Part {
    fn covers(&self, ino: Ino) -> bool {
        (self.first..=self.last).contains(&ino.0)
    }

    fn get(&mut self, ino: Ino) -> Option<&mut Target> {
        let at = self
            .targets
            .binary_search_by_key(&ino.0, |target| target.ino);
        self.targets.get_mut(at.ok()?)
    }
}

impl Meta {
    pub(super) async fn check_names(
        &self,
        memory: CheckMemory,
        found: &mut Collector<'_>,
    ) -> Result<Counted, Halt> {
        // Half for the inodes, half for directories that hang on the root.
        let targets_max = (memory.counters_bytes / 2 / TARGET_BYTES).max(1024);
        let rooted_max = (memory.counters_bytes / 2 / ROOTED_BYTES).max(1024);
        let mut rooted = HashSet::new();
        let mut first = 0;
        loop {
            let mut part = self.part_of_inodes(first, targets_max as usize).await?;
            self.mark_orphans(&mut part).await?;
            self.count_names(&mut part, found).await?;
            for target in &part.targets {
                if !part.is_short {
                    check_target(target, found)?;
                }
                if target.kind == Some(FileKind::Directory) && target.names > 0 {
                    if rooted.len() as u64 >= rooted_max {
                        rooted.clear();
                    }
                    self.check_rooted(target, &mut rooted, rooted_max, found)
                        .await?;
                }
            }
            if part.last == u64::MAX {
                return Ok(Counted::default());
            }
            first = part.last + 1;
        }
    }

    /// The inodes from `first` on, as many as there may be at a time.
    async fn part_of_inodes(&self, first: u64, max: usize) -> Result<Part, MetaError> {
        let range = schema::inode_key(Ino(first))..Table::Inode.all().end;
        let mut rows = Cursor::open(&self.inner, range).await?;
        let mut targets: Vec<Target> = Vec::new();
        while targets.len() < max {
            let Some((key, value)) = rows.next().await? else {
                let last = u64::MAX;
                return Ok(Part {
                    first,
                    last,
                    targets,
                    is_short: false,
                });
            };
            let ino = schema::ino_of_key(&key)?;
            let inode = schema::decode_inode(ino, &value).ok();
            targets.push(Target {
                ino: ino.0,
                kind: inode.as_ref().map(|inode| inode.kind),
                is_orphan: false,
                links: inode.as_ref().map_or(0, |inode| inode.nlink),
                names: 0,
                subdirectories: 0,
                parent: inode.as_ref().map_or(0, |inode| inode.parent.0),
                named_by: 0,
            });
        }
        let last = targets.last().map_or(u64::MAX, |last| last.ino);
        Ok(Part {
            first,
            last,
            targets,
            is_short: false,
        })
    }

    async fn mark_orphans(&self, part: &mut Part) -> Result<(), MetaError> {
        let range = schema::orphan_key(Ino(part.first))..Table::Orphan.all().end;
        let mut rows = Cursor::open(&self.inner, range).await?;
        while let Some(number) = rows.number().filter(|number| *number <= part.last) {
            if let Some(target) = part.get(Ino(number)) {
                target.is_orphan = true;
            }
            rows.next().await?;
        }
        Ok(())
    }

    async fn count_names(&self, part: &mut Part, found: &mut Collector<'_>) -> Result<(), Halt> {
        let mut entries = Cursor::open(&self.inner, Table::Dentry.all()).await?;
        while let Some((key, value)) = entries.next().await? {
            let Ok((dentry, _)) = schema::decode_dentry_row(&value) else {
                part.is_short = true;
                continue;
            };
            let Some(dir) = key
                .get(1..9)
                .and_then(|bytes| bytes.try_into().ok())
                .map(|bytes| Ino(u64::from_be_bytes(bytes)))
            else {
                continue;
            };
            if dentry.kind == FileKind::Directory
                && let Some(parent) = part.get(dir)
            {
                parent.subdirectories = parent.subdirectories.saturating_add(1);
            }
            if !part.covers(dentry.ino) {
                continue;
            }
            let name = || schema::name_of_key(&key);
            let Some(target) = part.get(dentry.ino) else {
                found.add(Fault::Dangling {
                    dir,
                    name: name()?,
                    ino: dentry.ino,
                })?;
                continue;
            };
            let is_second = target.kind == Some(FileKind::Directory)
                && (target.names > 0 || dentry.ino == Ino::ROOT);
            if is_second {
                found.add(Fault::SecondName {
                    dir,
                    name: name()?,
                    ino: dentry.ino,
                })?;
                continue;
            }
            target.names = target.names.saturating_add(1);
            target.named_by = dir.0;
            if target.kind.is_some_and(|kind| kind != dentry.kind) {
                found.add(Fault::WrongKind {
                    dir,
                    name: name()?,
                    ino: dentry.ino,
                })?;
            }
        }
        Ok(())
    }

    /// Follows the parents up to the root, or to a directory that is known to hang on it.
    async fn check_rooted(
        &self,
        target: &Target,
        rooted: &mut HashSet<u64>,
        rooted_max: u64,
        found: &mut Collector<'_>,
    ) -> Result<(), Halt> {
        let mut at = target.ino;
        // Brent's algorithm: the mark moves on after 1, 2, 4, ... steps, and a walk in a circle
        // meets it.
        let (mut mark, mut steps, mut steps_to_next_mark) = (at, 0u64, 1u64);
        loop {
            if at == Ino::ROOT.0 || rooted.contains(&at) {
                break;
            }
            let Some(parent) = self.parent_of(at).await? else {
                // Its parent is wrong or does not decode, which is a fault of its own.
                return Ok(());
            };
            if parent == mark {
                return self.report_circle(mark, found).await;
            }
            at = parent;
            steps += 1;
            if steps == steps_to_next_mark {
                (mark, steps, steps_to_next_mark) = (at, 0, steps_to_next_mark * 2);
            }
        }
        // It hangs on the root, and so do all directories on the way.
        let mut at = target.ino;
        while at != Ino::ROOT.0 && (rooted.len() as u64) < rooted_max && rooted.insert(at) {
            match self.parent_of(at).await? {
                Some(parent) => at = parent,
                None => break,
            }
        }
        Ok(())
    }

    async fn parent_of(&self, dir: u64) -> Result<Option<u64>, MetaError> {
        let value = self.inner.get(&schema::inode_key(Ino(dir))).await?;
        let inode = value.and_then(|value| schema::decode_inode(Ino(dir), &value).ok());
        Ok(inode
            .filter(|inode| inode.kind == FileKind::Directory)
            .map(|inode| inode.parent.0))
    }

    /// Reports a circle once: when its lowest inode is reached.
    async fn report_circle(&self, on: u64, found: &mut Collector<'_>) -> Result<(), Halt> {
        let (mut at, mut lowest) = (on, on);
        loop {
            at = match self.parent_of(at).await? {
                Some(parent) => parent,
                None => return Ok(()),
            };
            lowest = lowest.min(at);
            if at == on {
                break;
            }
        }
        let fault = Fault::Detached { dir: Ino(lowest) };
        if found.faults.contains(&fault) {
            return Ok(());
        }
        found.add(fault)
    }
}

fn check_target(target: &Target, found: &mut Collector<'_>) -> Result<(), Halt> {
    let Some(kind) = target.kind else {
        return Ok(());
    };
    let (ino, is_root) = (Ino(target.ino), target.ino == Ino::ROOT.0);
    if target.names == 0 && !is_root {
        return match target.links == 0 && target.is_orphan {
            true => Ok(()),
            false => found.add(Fault::UnrecordedOrphan { ino }),
        };
    }
    let links = match kind {
        FileKind::Directory => target.subdirectories.saturating_add(2),
        _ => target.names,
    };
    if target.links != links {
        found.add(Fault::Links {
            ino,
            recorded: target.links,
            found: links,
        })?;
    }
    if target.is_orphan {
        found.add(Fault::NotAnOrphan { ino })?;
    }
    let parent = match is_root {
        true => Ino::ROOT.0,
        false => target.named_by,
    };
    if kind == FileKind::Directory && target.parent != parent {
        found.add(Fault::Parent {
            dir: ino,
            recorded: Ino(target.parent),
            found: Ino(parent),
        })?;
    }
    Ok(())
}
