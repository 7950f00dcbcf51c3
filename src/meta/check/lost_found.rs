//! `/lost+found`, which takes inodes without a name, and files that have lost bytes.
//!
//! A file that lost bytes is not left under its name. A hole in it would read as zeros, which
//! nobody could tell from written ones. So it is moved here, where nobody who looks for it by its
//! name takes it for whole. A report beside it says where it was and which bytes are lost. The rest
//! of it stays readable.

use std::{ops::Range, sync::Arc};

use bytes::Bytes;

use super::{cursor::Cursor, mend::Mended, paths::Located};
use crate::meta::{
    ContentCommit, Dentry, Extent, ExtentSource, FileKind, Ino, Inode, Meta, MetaError, NewInode,
    RenameMode, Timestamp,
    contents::Ledger,
    names::rules::{add_link, touched_parent},
    schema,
    state::change::Change,
};

/// The name of the directory.
pub const LOST_AND_FOUND: &[u8] = b"lost+found";
/// Bytes of a report; beyond that lines are left out. They are kept in the metadata.
const REPORT_BYTES_MAX: u64 = 60 * 1024;
/// Bytes of a line: with its escapes a path may have several times its own length.
const LINE_BYTES_MAX: usize = 4096;

/// The name of an inode here.
pub(super) fn name_of(ino: Ino) -> Bytes {
    format!("#{}", ino.0).into()
}

fn new_inode(kind: FileKind, mode: u32) -> NewInode {
    NewInode {
        kind,
        mode,
        uid: 0,
        gid: 0,
        rdev: 0,
        target: Bytes::new(),
        now: Timestamp::now(),
        xattrs: Vec::new(),
    }
}

impl Meta {
    /// The directory. It is made, accessible to root alone, if it is not there.
    async fn lost_and_found(&self) -> Result<Ino, MetaError> {
        match self.lookup(Ino::ROOT, LOST_AND_FOUND).await? {
            Some(entry) if entry.kind == FileKind::Directory => Ok(entry.ino),
            Some(_) => Err(MetaError::NotADirectory),
            None => {
                let new = new_inode(FileKind::Directory, 0o700);
                Ok(self.create(Ino::ROOT, LOST_AND_FOUND, new).await?.ino)
            }
        }
    }

    /// Gives an inode that has no name one here.
    pub(super) async fn adopt(&self, ino: Ino) -> Result<Mended, MetaError> {
        let home = self.lost_and_found().await?;
        let held = self.inner.locks.inodes([home, ino]).await;
        let mut inode = self.existing_inode(ino).await?.as_ref().clone();
        let parent = self.existing_inode(home).await?;
        let name = name_of(ino);
        if self.lookup(home, &name).await?.is_some() {
            return Ok(Mended::Left("its name in lost+found is taken".to_owned()));
        }
        let is_directory = inode.kind == FileKind::Directory;
        match is_directory {
            true => {
                inode.parent = home;
                inode.nlink = inode.nlink.max(2);
            }
            false => inode.nlink = 1,
        }
        let mut change = Change::default();
        change.put_name(
            home,
            &name,
            Dentry {
                ino,
                kind: inode.kind,
                cookie: ino.0,
            },
        );
        change.delete(schema::orphan_key(ino));
        change.put_inode(&Arc::new(inode));
        let touched = touched_parent(&parent, 1, i64::from(is_directory), Timestamp::now())?;
        change.put_inode(&Arc::new(touched));
        self.commit(change, held).await?;
        Ok(Mended::Done(format!("it is lost+found/#{}", ino.0)))
    }

    /// Takes `ranges` out of a file, moves it here from under all its names, and writes a report.
    ///
    /// # Errors
    /// The metadata cannot be read or written.
    pub async fn set_aside(
        &self,
        ino: Ino,
        ranges: &[Range<u64>],
        located: &Located,
        why: &str,
    ) -> Result<Mended, MetaError> {
        if self.existing_inode(ino).await?.nlink == 0 {
            // It was removed and is not deleted yet, so nobody will ask for it.
            self.cut_out(ino, ranges).await?;
            return Ok(Mended::Done(
                "they are cut out of the removed file".to_owned(),
            ));
        }
        let home = self.lost_and_found().await?;
        let name = name_of(ino);
        let here = self.lookup(home, &name).await?;
        let mut is_here = here.is_some_and(|entry| entry.ino == ino);
        if !is_here {
            self.report(home, ino, &located.paths, &[]).await?;
        }
        for (dir, old) in &located.names {
            // It may have been moved since it was located.
            let entry = self.lookup(*dir, old).await?;
            let is_its_own = entry.is_some_and(|entry| entry.ino == ino);
            if !is_its_own || (*dir == home && *old == name) {
                continue;
            }
            let now = Timestamp::now();
            if is_here {
                self.unlink(*dir, old, now).await?;
            } else {
                let mode = RenameMode::NoReplace;
                self.rename(*dir, old, home, &name, mode, now).await?;
                is_here = true;
            }
        }
        let lines: Vec<String> = ranges
            .iter()
            .map(|range| format!("bytes {} to {} are lost: {why}", range.start, range.end))
            .collect();
        self.report(home, ino, &[], &lines).await?;
        self.cut_out(ino, ranges).await?;
        Ok(Mended::Done(format!(
            "the rest of it is lost+found/#{0}, and lost+found/#{0}.report says what is lost",
            ino.0
        )))
    }

    /// Adds to the report of a file.
    async fn report(
        &self,
        home: Ino,
        ino: Ino,
        paths: &[Bytes],
        lines: &[String],
    ) -> Result<(), MetaError> {
        let name = format!("#{}.report", ino.0);
        let mut text = Vec::new();
        for path in paths {
            let path = path.get(..path.len().min(LINE_BYTES_MAX)).unwrap_or(path);
            text.extend_from_slice(b"this file was ");
            text.extend_from_slice(path);
            text.push(b'\n');
        }
        for line in lines {
            text.extend_from_slice(line.as_bytes());
            text.push(b'\n');
        }
        let file = match self.lookup(home, name.as_bytes()).await? {
            Some(entry) => self.existing_inode(entry.ino).await?.as_ref().clone(),
            None => {
                let new = new_inode(FileKind::File, 0o600);
                self.create(home, name.as_bytes(), new).await?
            }
        };
        if file.kind != FileKind::File {
            return Ok(());
        }
        let room = REPORT_BYTES_MAX.saturating_sub(file.size) as usize;
        text.truncate(room);
        if text.is_empty() {
            return Ok(());
        }
        let (bytes, now) = (Bytes::from(text), Timestamp::now());
        let end = file.size + bytes.len() as u64;
        let commit = ContentCommit::new(
            file.ino,
            vec![Extent {
                offset: file.size,
                len: bytes.len() as u64,
                source: ExtentSource::Inline(bytes),
            }],
            end,
        )
        .with_times(now, now);
        self.commit_content(&[], &[commit]).await
    }

    /// Makes holes of these ranges, even where extents overlap. Sizes and times stay.
    pub(super) async fn cut_out(&self, ino: Ino, ranges: &[Range<u64>]) -> Result<(), MetaError> {
        let held = self.inner.locks.inodes([ino]).await;
        let held = held.and(self.inner.locks.reclaim().await);
        let mut inode: Inode = self.existing_inode(ino).await?.as_ref().clone();
        let mut rows = Cursor::open(&self.inner, schema::extent_range(ino, 0)).await?;
        loop {
            let (mut change, mut ledger, mut freed) = (Change::default(), Ledger::default(), 0u64);
            let mut is_last = true;
            while let Some((key, value)) = rows.next().await? {
                let end = schema::second_of_key(&key)?;
                let Ok(row) = schema::decode_extent(end, &value) else {
                    continue;
                };
                let kept = without(row.start..end, ranges);
                let kept_len: u64 = kept.iter().map(|part| part.end - part.start).sum();
                let lost = end - row.start - kept_len;
                if lost == 0 {
                    continue;
                }
                change.delete(key.to_vec());
                for part in kept {
                    change.put_extent(ino, part.end, &row.part(end, part.start, part.end));
                }
                ledger.free(&row.source, lost);
                freed += lost;
                if change.is_full() {
                    is_last = false;
                    break;
                }
            }
            inode.allocated = inode.allocated.saturating_sub(freed);
            change.count_allocated(-(freed as i64));
            change.put_inode(&Arc::new(inode.clone()));
            self.settle(ledger, &mut Default::default(), true, &mut change)
                .await?;
            self.commit(change, held.clone()).await?;
            if is_last {
                return Ok(());
            }
        }
    }

    /// Removes an entry; the inode that it names stays.
    pub(super) async fn remove_entry(&self, dir: Ino, name: &[u8]) -> Result<(), MetaError> {
        let held = self.inner.locks.inodes([dir]).await;
        let entry = self.existing_name(dir, name).await?;
        let parent = self.existing_inode(dir).await?;
        let subdirectories = match entry.kind {
            FileKind::Directory => -1,
            _ => 0,
        };
        let mut change = Change::default();
        change.delete_name(dir, name, entry.cookie);
        let touched = touched_parent(&parent, -1, subdirectories, Timestamp::now())?;
        change.put_inode(&Arc::new(touched));
        self.commit(change, held).await
    }

    /// Takes a directory out of a circle, and gives it a name here.
    pub(super) async fn attach(&self, dir: Ino) -> Result<Mended, MetaError> {
        if let Some((parent, name)) = self.name_in_parent(dir).await? {
            self.remove_entry(parent, &name).await?;
        }
        self.adopt(dir).await
    }

    /// Adds a link to an inode that a name falls back to.
    pub(super) async fn restore_fallback(
        &self,
        dir: Ino,
        name: &[u8],
    ) -> Result<Mended, MetaError> {
        let stored = self.inner.get(&schema::dentry_key(dir, name)).await?;
        let Some(value) = stored else {
            return Ok(Mended::Done("it is gone already".to_owned()));
        };
        let (entry, fallback) = schema::decode_dentry_row(&value)?;
        let old = match fallback {
            Some(fallback) => self.find_inode(fallback.ino).await?,
            None => return Ok(Mended::Done("it is mended already".to_owned())),
        };
        let mut change = Change::default();
        change.delete(schema::replacement_key(entry.ino, entry.cookie));
        let (ino, kind) = match old {
            // The file that replaced it has lost its name, and goes to lost+found in a later round.
            Some(old) => {
                let mut old = old.as_ref().clone();
                change.delete(schema::orphan_key(old.ino));
                add_link(&mut old)?;
                let named = (old.ino, old.kind);
                change.put_inode(&Arc::new(old));
                named
            }
            None => (entry.ino, entry.kind),
        };
        change.put_name(
            dir,
            name,
            Dentry {
                ino,
                kind,
                cookie: entry.cookie,
            },
        );
        let held = self.inner.locks.inodes([dir, ino, entry.ino]).await;
        self.commit(change, held).await?;
        Ok(Mended::Done("it names what it fell back to".to_owned()))
    }
}

/// The parts of `whole` that no range covers, in order.
fn without(whole: Range<u64>, ranges: &[Range<u64>]) -> Vec<Range<u64>> {
    let mut left = vec![whole];
    for cut in ranges {
        left = left
            .into_iter()
            .flat_map(|part| {
                let before = part.start..part.end.min(cut.start);
                let after = part.start.max(cut.end)..part.end;
                [before, after]
            })
            .filter(|part| part.start < part.end)
            .collect();
    }
    left
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_what_no_range_covers() {
        let left = |whole, ranges: &[(u64, u64)]| {
            let ranges: Vec<Range<u64>> = ranges.iter().map(|cut| cut.0..cut.1).collect();
            let left = without(whole, &ranges).into_iter();
            left.map(|part| (part.start, part.end)).collect::<Vec<_>>()
        };
        assert_eq!(left(0..10, &[]), [(0, 10)]);
        assert_eq!(left(0..10, &[(2, 4), (6, 20)]), [(0, 2), (4, 6)]);
        assert_eq!(left(5..10, &[(0, 7)]), [(7, 10)]);
        assert_eq!(left(5..10, &[(0, 10)]), []);
    }
}
