//! Attributes: reading them as they are now, and changing them.

use nix::errno::Errno;

use super::{Caller, Fs, FsError, acl::ACCESS_XATTR, create::parse_stored, now};
use crate::{
    data::LiveAttributes,
    meta::{FileKind, Ino, Inode, Timestamp, XattrMode},
};

const S_ISUID: u32 = 0o4000;
const S_ISGID: u32 = 0o2000;
const S_IXGRP: u32 = 0o0010;
/// The unit of `st_blocks`, bytes (POSIX leaves it open, every Linux tool takes it to be this).
const BLOCK_LEN: u64 = 512;

/// An inode as `stat` shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attributes {
    /// Number.
    pub ino: Ino,
    /// Kind.
    pub kind: FileKind,
    /// Permission bits, 0o7777.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Links.
    pub nlink: u32,
    /// Device number.
    pub rdev: u32,
    /// Bytes.
    pub size: u64,
    /// Allocated blocks of 512 bytes.
    pub blocks: u64,
    /// Access time: as it was last set explicitly (reading does not change it).
    pub atime: Timestamp,
    /// Modification time.
    pub mtime: Timestamp,
    /// Change time.
    pub ctime: Timestamp,
    /// Birth time.
    pub btime: Timestamp,
    /// Contents are committed: nothing here changes unless a program changes it. Otherwise `blocks`
    /// may.
    pub settled: bool,
}

impl Attributes {
    /// A record, overlaid by the changes that are not committed yet.
    pub fn overlay(inode: &Inode, live: Option<LiveAttributes>) -> Attributes {
        let dirty_bytes = live.map_or(0, |live| live.dirty_bytes);
        Attributes {
            ino: inode.ino,
            kind: inode.kind,
            mode: inode.mode,
            uid: inode.uid,
            gid: inode.gid,
            nlink: inode.nlink,
            rdev: inode.rdev,
            size: live.map_or(inode.size, |live| live.size),
            blocks: inode
                .allocated
                .saturating_add(dirty_bytes)
                .div_ceil(BLOCK_LEN),
            atime: inode.atime,
            mtime: live.and_then(|live| live.mtime).unwrap_or(inode.mtime),
            ctime: live.and_then(|live| live.ctime).unwrap_or(inode.ctime),
            btime: inode.btime,
            settled: live.is_none(),
        }
    }
}

/// A time to set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetTime {
    /// The present.
    Now,
    /// This one.
    To(Timestamp),
}

impl SetTime {
    fn resolve(self, now: Timestamp) -> Timestamp {
        match self {
            SetTime::Now => now,
            SetTime::To(time) => time,
        }
    }
}

/// Attributes to change; `None` leaves one as it is.
#[derive(Clone, Copy, Debug, Default)]
pub struct SetAttributes {
    /// Permission bits.
    pub mode: Option<u32>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Size in bytes.
    pub size: Option<u64>,
    /// Access time.
    pub atime: Option<SetTime>,
    /// Modification time.
    pub mtime: Option<SetTime>,
    /// Change time; otherwise it becomes the present.
    pub ctime: Option<Timestamp>,
}

/// The bits that are left once contents or owner change: set-user-id is cleared, and set-group-id
/// where it is not mandatory locking's mark.
pub(super) fn without_set_id(mode: u32) -> u32 {
    let mode = mode & !S_ISUID;
    if mode & S_IXGRP != 0 {
        mode & !S_ISGID
    } else {
        mode
    }
}

impl Fs {
    /// The committed record of an inode that is in use.
    pub(super) async fn record(&self, ino: Ino) -> Result<Inode, FsError> {
        if let Some(held) = self.data().held_record(ino).await? {
            return Ok(held);
        }
        self.meta()
            .inode(ino)
            .await?
            .ok_or_else(|| FsError::new(Errno::ESTALE, "finding the inode"))
    }

    /// Present attributes.
    ///
    /// # Errors
    /// ESTALE if the inode is gone.
    pub async fn getattr(&self, ino: Ino) -> Result<Attributes, FsError> {
        // In this order a commit between the two reads is seen in the record.
        let live = self.data().live(ino);
        let record = self.record(ino).await?;
        Ok(Attributes::overlay(&record, live))
    }

    /// Changes attributes. As Linux does, a change of owner or group, or of the size by anybody but
    /// root, clears set-id bits.
    ///
    /// # Errors
    /// EROFS; EISDIR or EINVAL for the size of an inode without contents; EFBIG; ESTALE.
    pub async fn setattr(
        &self,
        caller: Caller,
        ino: Ino,
        set: SetAttributes,
    ) -> Result<Attributes, FsError> {
        self.writable()?;
        let now = now();
        let ctime = set.ctime.unwrap_or(now);
        if let Some(size) = set.size {
            self.truncate(caller, ino, size, now).await?;
        }
        // A truncation has set the modification time already.
        let mtime = if set.size.is_some() && set.mtime == Some(SetTime::Now) {
            None
        } else {
            set.mtime
        };
        if let Some(mode) = set.mode {
            let _change = self.data().begin_attribute_change(ino, false).await;
            self.chmod(ino, mode & 0o7777, ctime).await?;
        }
        if set.uid.is_some()
            || set.gid.is_some()
            || set.atime.is_some()
            || mtime.is_some()
            || (set.ctime.is_some() && set.mode.is_none())
        {
            let _change = self
                .data()
                .begin_attribute_change(ino, mtime.is_some())
                .await;
            let changes_owner = set.uid.is_some() || set.gid.is_some();
            let keeps_mode = set.mode.is_some();
            self.meta()
                .update_inode(ino, move |inode| {
                    inode.uid = set.uid.unwrap_or(inode.uid);
                    inode.gid = set.gid.unwrap_or(inode.gid);
                    if changes_owner && !keeps_mode && inode.kind != FileKind::Directory {
                        inode.mode = without_set_id(inode.mode);
                    }
                    inode.atime = set.atime.map_or(inode.atime, |time| time.resolve(now));
                    inode.mtime = mtime.map_or(inode.mtime, |time| time.resolve(now));
                    inode.ctime = ctime;
                    Ok(())
                })
                .await?;
        }
        self.getattr(ino).await
    }

    async fn chmod(&self, ino: Ino, mode: u32, ctime: Timestamp) -> Result<(), FsError> {
        let record = self.record(ino).await?;
        let stored = if record.has_xattrs {
            self.meta().xattr(ino, ACCESS_XATTR).await?
        } else {
            None
        };
        if let Some(stored) = stored
            && let Some(mut acl) = parse_stored(&stored)?
        {
            acl.chmod(mode);
            self.meta()
                .set_xattr(
                    ino,
                    ACCESS_XATTR,
                    &acl.encode(),
                    XattrMode::Set,
                    Some(mode),
                    ctime,
                )
                .await?;
            return Ok(());
        }
        self.meta()
            .update_inode(ino, move |inode| {
                inode.mode = mode;
                inode.ctime = ctime;
                Ok(())
            })
            .await?;
        Ok(())
    }

    /// Sets the size, and clears set-id bits where `caller` does not keep them.
    pub(super) async fn truncate(
        &self,
        caller: Caller,
        ino: Ino,
        size: u64,
        now: Timestamp,
    ) -> Result<(), FsError> {
        match self.record(ino).await?.kind {
            FileKind::File => {}
            FileKind::Directory => {
                return Err(FsError::new(
                    Errno::EISDIR,
                    "setting the size of a directory",
                ));
            }
            _ => {
                return Err(FsError::new(
                    Errno::EINVAL,
                    "setting the size of an inode without contents",
                ));
            }
        }
        if !caller.keeps_set_id() {
            self.drop_set_id(ino).await?;
        }
        let _turn = self.inner.page_turns.write(ino).await;
        self.data().truncate(ino, size, now).await?;
        Ok(())
    }

    /// Clears set-id bits if there are any. To be called *before* contents change: then bytes that
    /// others wrote never stand in a file that still has the bits, and the kernel, which executes a
    /// program by the mode that it keeps, has been told by then.
    pub(super) async fn drop_set_id(&self, ino: Ino) -> Result<(), FsError> {
        let mode = self.record(ino).await?.mode;
        if without_set_id(mode) != mode {
            self.meta()
                .update_inode(ino, |inode| {
                    inode.mode = without_set_id(inode.mode);
                    Ok(())
                })
                .await?;
            self.forget_attributes(ino);
        }
        Ok(())
    }
}
