//! The answers to the kernel, and how long it may keep them.

use std::time::{Duration, UNIX_EPOCH};

use fuser::{Errno, FileAttr, FileType, Generation, INodeNo, ReplyAttr, ReplyEntry, ReplyXattr};

use super::convert::file_attr;
use crate::fs::Attributes;

/// How long the kernel may answer for the only writer by itself. Nothing changes without this
/// mount, so only the kernel's memory limits it.
pub const CACHED_FOR: Duration = Duration::from_secs(24 * 3600);
/// The same for the blocks of a file that is not committed yet.
pub const CACHED_BRIEFLY: Duration = Duration::from_secs(1);

/// Inode numbers are never used again.
pub const GENERATION: Generation = Generation(0);

/// How long the kernel may keep answers.
#[derive(Clone, Copy)]
pub struct CacheTimes {
    /// On a follower's mount, how long nothing will change yet.
    pub unchanged_for: Option<Duration>,
}

impl CacheTimes {
    /// For a name.
    pub fn entry(self) -> Duration {
        self.unchanged_for.unwrap_or(CACHED_FOR)
    }

    /// For an inode's attributes.
    pub fn attributes(self, attributes: &Attributes) -> Duration {
        match self.unchanged_for {
            Some(unchanged_for) => unchanged_for,
            None if attributes.settled => CACHED_FOR,
            None => CACHED_BRIEFLY,
        }
    }

    /// Answers with a name and its inode.
    pub fn send_entry(self, reply: ReplyEntry, found: &Attributes) {
        reply.entry_with_ttls(
            &self.attributes(found),
            &self.entry(),
            &file_attr(found),
            GENERATION,
        );
    }

    /// Answers with attributes.
    pub fn send_attributes(self, reply: ReplyAttr, found: &Attributes) {
        reply.attr(&self.attributes(found), &file_attr(found));
    }
}

/// The answer "there is no such name", which the kernel may keep: inode 0.
pub fn no_attributes() -> FileAttr {
    FileAttr {
        ino: INodeNo(0),
        size: 0,
        blocks: 0,
        atime: UNIX_EPOCH,
        mtime: UNIX_EPOCH,
        ctime: UNIX_EPOCH,
        crtime: UNIX_EPOCH,
        kind: FileType::RegularFile,
        perm: 0,
        nlink: 0,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 0,
        flags: 0,
    }
}

/// Answers with a value, or its length where the caller asked with no room, or ERANGE where it has
/// too little.
pub fn send_xattr(reply: ReplyXattr, room: u32, value: &[u8]) {
    match value.len() {
        // Values are at most 64 KiB.
        len if room == 0 => reply.size(u32::try_from(len).unwrap_or(u32::MAX)),
        len if len > room as usize => reply.error(Errno::ERANGE),
        _ => reply.data(value),
    }
}
