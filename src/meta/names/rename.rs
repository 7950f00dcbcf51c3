//! Rename, replace and exchange: one batch each, however much moves with a directory.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    entries::Removal,
    rules::{add_link, check_name},
};
use crate::meta::{
    Dentry, FileKind, Ino, Inode, Meta, MetaError, Timestamp,
    schema::Fallback,
    state::{
        change::{Change, Replacement},
        locks::Held,
    },
};

/// How rename treats an existing target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RenameMode {
    /// Replaces it.
    Replace,
    /// RENAME_NOREPLACE.
    NoReplace,
    /// RENAME_EXCHANGE.
    Exchange,
}

/// The source of a rename, as the caller found it before it asked [`crate::data`] for its contents.
#[derive(Clone, Copy, Debug)]
pub struct RenameSource {
    /// The inode.
    pub ino: Ino,
    /// The number of the last change of its contents, if they are not all committed. Then the name
    /// goes on to stand for the replaced file in the durable state, until a commit covers that
    /// change ([`super::ContentCommit::covers`]).
    pub uncommitted: Option<u64>,
}

/// A depth beyond any path that a kernel hands over. A deeper tree has a loop, which is a fault.
const DEPTH_MAX: usize = 1 << 20;

/// The two names under their locks.
struct Names<'a> {
    from: (Ino, &'a [u8], Dentry),
    to: (Ino, &'a [u8], Option<Dentry>),
}

/// The inode under a name that now goes to a file whose contents are not committed.
struct Replaced {
    old: Fallback,
    /// See [`Replacement::superseded`].
    superseded: Vec<Ino>,
    /// The last change of the contents.
    last_change: u64,
}

/// Inodes that a rename touches. Each is written once, even if it takes part several times.
#[derive(Default)]
struct Touched(BTreeMap<Ino, Inode>);

impl Touched {
    async fn get(&mut self, meta: &Meta, ino: Ino) -> Result<&mut Inode, MetaError> {
        if let std::collections::btree_map::Entry::Vacant(entry) = self.0.entry(ino) {
            entry.insert(meta.existing_inode(ino).await?.as_ref().clone());
        }
        self.0.get_mut(&ino).ok_or(MetaError::NotFound)
    }

    /// A parent that gains (+1) or loses (-1) a name, which may be a directory's.
    async fn parent(
        &mut self,
        meta: &Meta,
        dir: Ino,
        entries: i64,
        links: i64,
        now: Timestamp,
    ) -> Result<(), MetaError> {
        let inode = self.get(meta, dir).await?;
        inode.entries = inode.entries.saturating_add_signed(entries);
        for _ in 0..links {
            add_link(inode)?;
        }
        inode.nlink = inode
            .nlink
            .saturating_sub(links.min(0).unsigned_abs() as u32);
        (inode.mtime, inode.ctime) = (now, now);
        Ok(())
    }
}

impl Meta {
    /// As [`Meta::rename_source`], for a source whose contents are all committed, if it has any.
    pub async fn rename(
        &self,
        from_dir: Ino,
        from_name: &[u8],
        to_dir: Ino,
        to_name: &[u8],
        mode: RenameMode,
        now: Timestamp,
    ) -> Result<Option<Removal>, MetaError> {
        loop {
            let source = RenameSource {
                ino: self.existing_name(from_dir, from_name).await?.ino,
                uncommitted: None,
            };
            let (from, to) = ((from_dir, from_name), (to_dir, to_name));
            match self.rename_source(source, from, to, mode, now).await {
                Err(MetaError::NameChanged) => {}
                renamed => return renamed,
            }
        }
    }

    /// Renames in one batch. Returns the removal of a replaced target.
    ///
    /// `NameChanged` if the name is not the source's any more. `Uncommitted` names a file whose
    /// contents must be committed first: a name that has a fallback is not moved, and the number of
    /// such names is bounded.
    pub async fn rename_source(
        &self,
        source: RenameSource,
        (from_dir, from_name): (Ino, &[u8]),
        (to_dir, to_name): (Ino, &[u8]),
        mode: RenameMode,
        now: Timestamp,
    ) -> Result<Option<Removal>, MetaError> {
        check_name(to_name)?;
        let (held, names) = self
            .lock_names((from_dir, from_name), (to_dir, to_name))
            .await?;
        let (from, to) = (names.from.2, names.to.2);
        if from.ino != source.ino {
            return Err(MetaError::NameChanged);
        }
        if mode == RenameMode::NoReplace && to.is_some() {
            return Err(MetaError::Exists);
        }
        if mode == RenameMode::Exchange && to.is_none() {
            return Err(MetaError::NotFound);
        }
        // Two names of one file, or the same name twice: POSIX says that nothing happens.
        if to.is_some_and(|to| to.ino == from.ino) {
            return Ok(None);
        }
        let exchanged = to.filter(|_| mode == RenameMode::Exchange);
        for moved in [Some(from), exchanged].into_iter().flatten() {
            if self.inner.replacements.of(&moved).is_some() {
                return Err(MetaError::Uncommitted(moved.ino));
            }
        }
        self.live_directory(from_dir).await?;
        self.live_directory(to_dir).await?;
        if from_dir != to_dir {
            if from.kind == FileKind::Directory {
                self.refuse_loop(from.ino, to_dir).await?;
            }
            if mode == RenameMode::Exchange
                && let Some(to) = to.filter(|to| to.kind == FileKind::Directory)
            {
                self.refuse_loop(to.ino, from_dir).await?;
            }
        }
        match (mode, to) {
            (RenameMode::Exchange, Some(to)) => {
                self.exchange(held, names, to, now).await.map(|()| None)
            }
            (_, to) => self.replace(held, names, to, source.uncommitted, now).await,
        }
    }

    async fn replace(
        &self,
        held: Held,
        names: Names<'_>,
        to: Option<Dentry>,
        uncommitted: Option<u64>,
        now: Timestamp,
    ) -> Result<Option<Removal>, MetaError> {
        let Names {
            from: (from_dir, from_name, from),
            to: (to_dir, to_name, _),
        } = names;
        let moves_directory = i64::from(from.kind == FileKind::Directory);
        let mut touched = Touched::default();
        let mut change = Change::default();
        let mut removal = None;
        if let Some(to) = to {
            match (
                from.kind == FileKind::Directory,
                to.kind == FileKind::Directory,
            ) {
                (true, false) => return Err(MetaError::NotADirectory),
                (false, true) => return Err(MetaError::IsADirectory),
                (true, true) if self.existing_inode(to.ino).await?.entries > 0 => {
                    return Err(MetaError::NotEmpty);
                }
                _ => {}
            }
            removal = Some(self.drop_link(to.ino, now, &mut change).await?);
        }
        touched
            .parent(self, from_dir, -1, -moves_directory, now)
            .await?;
        let (entries, subdirectories) = if to.is_some() {
            (0, 0)
        } else {
            (1, moves_directory)
        };
        touched
            .parent(self, to_dir, entries, subdirectories, now)
            .await?;
        let inode = touched.get(self, from.ino).await?;
        inode.ctime = now;
        if from.kind == FileKind::Directory {
            inode.parent = to_dir;
        }
        change.delete_name(from_dir, from_name, from.cookie);
        // A name that was there keeps its place in a listing that is going on, and so does an entry
        // that only changed its name.
        let cookie = to.map_or(from.cookie, |to| to.cookie);
        let moved = Dentry { cookie, ..from };
        match self.fallback(moved, to, uncommitted)? {
            Some(Replaced {
                old,
                superseded,
                last_change,
            }) => {
                let replacement = Replacement {
                    dir: to_dir,
                    name: to_name.into(),
                    old,
                    superseded,
                    last_change,
                };
                change.put_replacing_name(moved, replacement);
            }
            None => change.put_name(to_dir, to_name, moved),
        }
        if let Some(to) = to.filter(|to| self.inner.replacements.of(to).is_some()) {
            change.end_replacement(to.ino, to.cookie);
        }
        self.finish(change, touched, held).await?;
        Ok(removal)
    }

    /// The inode that a name falls back to until the contents of `moved` are committed. `None` if
    /// nothing was replaced, or if they are committed.
    fn fallback(
        &self,
        moved: Dentry,
        replaced: Option<Dentry>,
        uncommitted: Option<u64>,
    ) -> Result<Option<Replaced>, MetaError> {
        let (Some(replaced), Some(last_change)) = (replaced, uncommitted) else {
            return Ok(None);
        };
        // The replaced file may not be committed either. Then the name falls back to the file
        // before it.
        let old = self.inner.replacements.of(&replaced).unwrap_or(Fallback {
            ino: replaced.ino,
            kind: replaced.kind,
        });
        // A file that falls back to itself needs no other inode to be kept.
        if old.ino == moved.ino {
            return Ok(None);
        }
        let superseded = self.inner.replacements.superseded_with(&replaced);
        if !self.inner.replacements.has_room(moved.ino, &superseded) {
            return Err(MetaError::Uncommitted(moved.ino));
        }
        Ok(Some(Replaced {
            old,
            superseded,
            last_change,
        }))
    }

    async fn exchange(
        &self,
        held: Held,
        names: Names<'_>,
        to: Dentry,
        now: Timestamp,
    ) -> Result<(), MetaError> {
        let Names {
            from: (from_dir, from_name, from),
            to: (to_dir, to_name, _),
        } = names;
        let directory = |dentry: Dentry| i64::from(dentry.kind == FileKind::Directory);
        let gained = directory(to) - directory(from);
        let mut touched = Touched::default();
        touched.parent(self, from_dir, 0, gained, now).await?;
        touched.parent(self, to_dir, 0, -gained, now).await?;
        for (moved, dir) in [(from, to_dir), (to, from_dir)] {
            let inode = touched.get(self, moved.ino).await?;
            inode.ctime = now;
            if moved.kind == FileKind::Directory {
                inode.parent = dir;
            }
        }
        let mut change = Change::default();
        change.put_name(
            from_dir,
            from_name,
            Dentry {
                cookie: from.cookie,
                ..to
            },
        );
        change.put_name(
            to_dir,
            to_name,
            Dentry {
                cookie: to.cookie,
                ..from
            },
        );
        self.finish(change, touched, held).await
    }

    async fn finish(
        &self,
        mut change: Change,
        touched: Touched,
        held: Held,
    ) -> Result<(), MetaError> {
        for inode in touched.0.into_values() {
            change.put_inode(&Arc::new(inode));
        }
        self.commit(change, held).await
    }

    /// Locks both directories and the inodes that the names point to; for a move between
    /// directories the tree too.
    async fn lock_names<'a>(
        &self,
        (from_dir, from_name): (Ino, &'a [u8]),
        (to_dir, to_name): (Ino, &'a [u8]),
    ) -> Result<(Held, Names<'a>), MetaError> {
        let tree = if from_dir == to_dir {
            Held::default()
        } else {
            self.inner.locks.rename().await
        };
        loop {
            let from = self.existing_name(from_dir, from_name).await?;
            let to = self.lookup(to_dir, to_name).await?;
            let inos = [from_dir, to_dir, from.ino]
                .into_iter()
                .chain(to.map(|to| to.ino));
            let held = self.inner.locks.inodes(inos).await;
            let from_now = self.existing_name(from_dir, from_name).await?;
            let to_now = self.lookup(to_dir, to_name).await?;
            if from_now.ino == from.ino && to_now.map(|to| to.ino) == to.map(|to| to.ino) {
                let names = Names {
                    from: (from_dir, from_name, from_now),
                    to: (to_dir, to_name, to_now),
                };
                return Ok((tree.and(held), names));
            }
        }
    }

    /// Fails if `dir` is `moved` or below it. Call under the rename lock.
    async fn refuse_loop(&self, moved: Ino, dir: Ino) -> Result<(), MetaError> {
        let mut at = dir;
        for _ in 0..DEPTH_MAX {
            if at == moved {
                return Err(MetaError::Loop);
            }
            if at == Ino::ROOT {
                return Ok(());
            }
            at = self.existing_inode(at).await?.parent;
        }
        Err(MetaError::Store("a directory is its own ancestor".into()))
    }
}
