//! The properties that a new inode inherits from its directory: group, set-group-id, access control
//! lists; and where the umask applies.

use bytes::Bytes;
use nix::errno::Errno;

use super::{
    Acl, Caller, Fs, FsError,
    acl::{ACCESS_XATTR, DEFAULT_XATTR},
    now,
};
use crate::meta::{FileKind, Ino, Inode, NewInode};

const S_ISGID: u32 = 0o2000;

impl Fs {
    /// The record of an inode that `caller` creates in `dir` with `mode`.
    pub(super) async fn new_inode(
        &self,
        caller: Caller,
        dir: Ino,
        kind: FileKind,
        mode: u32,
    ) -> Result<NewInode, FsError> {
        let parent = self.record(dir).await?;
        let (mode, xattrs) = if kind == FileKind::Symlink {
            (0o777, Vec::new())
        } else {
            self.inherited_mode(&parent, caller, kind, mode & 0o7777)
                .await?
        };
        let inherits_group = parent.mode & S_ISGID != 0;
        Ok(NewInode {
            kind,
            mode: if inherits_group && kind == FileKind::Directory {
                mode | S_ISGID
            } else {
                mode
            },
            uid: caller.uid,
            gid: if inherits_group {
                parent.gid
            } else {
                caller.gid
            },
            rdev: 0,
            target: Bytes::new(),
            now: now(),
            xattrs,
        })
    }

    /// The permission bits and access control lists: the directory's default list takes the umask's
    /// place.
    async fn inherited_mode(
        &self,
        parent: &Inode,
        caller: Caller,
        kind: FileKind,
        mode: u32,
    ) -> Result<(u32, Vec<(Bytes, Bytes)>), FsError> {
        let default = if parent.has_xattrs {
            self.meta().xattr(parent.ino, DEFAULT_XATTR).await?
        } else {
            None
        };
        let Some(default) = default else {
            return Ok((mode & !caller.umask, Vec::new()));
        };
        let Some(mut acl) = parse_stored(&default)? else {
            return Ok((mode & !caller.umask, Vec::new()));
        };
        let (mode, exact) = acl.inherit(mode);
        let mut xattrs = Vec::new();
        if !exact {
            xattrs.push((Bytes::from_static(ACCESS_XATTR), Bytes::from(acl.encode())));
        }
        if kind == FileKind::Directory {
            xattrs.push((Bytes::from_static(DEFAULT_XATTR), default));
        }
        Ok((mode, xattrs))
    }
}

/// A list that was valid when it was stored.
pub(super) fn parse_stored(bytes: &[u8]) -> Result<Option<Acl>, FsError> {
    Acl::parse(bytes).map_err(|error| FsError {
        source: Some(Box::new(error)),
        ..FsError::new(Errno::EIO, "reading a stored access control list")
    })
}
