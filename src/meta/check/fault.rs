//! The faults that metadata can have.

use std::ops::Range;

use bytes::Bytes;

use crate::meta::{Ino, schema::ObjectKey};

/// One fault.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Fault {
    /// An object of the database is missing, or does not authenticate.
    Table {
        /// Where it is, below the metadata's prefix.
        path: String,
        /// The reason.
        why: String,
    },
    /// A row that does not decode.
    Undecodable {
        /// The kind of row.
        what: &'static str,
        /// Its key.
        key: Bytes,
        /// The inode that it belongs to, if it belongs to one.
        ino: Option<Ino>,
    },
    /// Rows of a kind that this inode cannot have, or of an inode that is not there.
    Stray {
        /// The kind of rows.
        what: &'static str,
        /// The inode that they would belong to.
        ino: Ino,
        /// Whether there is such an inode.
        exists: bool,
    },
    /// An entry that names an inode which is not there.
    Dangling {
        /// The directory.
        dir: Ino,
        /// The name.
        name: Bytes,
        /// The inode that it names.
        ino: Ino,
    },
    /// A name that no entry may have.
    BadName {
        /// The directory.
        dir: Ino,
        /// The name.
        name: Bytes,
    },
    /// An entry by name whose line in the listing is missing or says something else.
    Unlisted {
        /// The directory.
        dir: Ino,
        /// The name.
        name: Bytes,
    },
    /// A line in the listing without an entry by that name.
    ListedOnly {
        /// The directory.
        dir: Ino,
        /// The line's cookie.
        cookie: u64,
        /// The name.
        name: Bytes,
    },
    /// An entry says another kind than the inode that it names.
    WrongKind {
        /// The directory.
        dir: Ino,
        /// The name.
        name: Bytes,
        /// The inode that it names.
        ino: Ino,
    },
    /// A second entry that names a directory.
    SecondName {
        /// The directory that the entry is in.
        dir: Ino,
        /// The name.
        name: Bytes,
        /// The directory that has another name already.
        ino: Ino,
    },
    /// An entry and the list of fallbacks do not agree.
    Fallback {
        /// The directory.
        dir: Ino,
        /// The name.
        name: Bytes,
    },
    /// A row of the list of fallbacks that no entry needs.
    StrayFallback {
        /// The row's key.
        key: Bytes,
    },
    /// The number of names in a directory is wrong.
    Entries {
        /// The directory.
        dir: Ino,
        /// As recorded.
        recorded: u64,
        /// As counted.
        found: u64,
    },
    /// The number of links is wrong.
    Links {
        /// The inode.
        ino: Ino,
        /// As recorded.
        recorded: u32,
        /// As counted.
        found: u32,
    },
    /// A directory's parent is wrong.
    Parent {
        /// The directory.
        dir: Ino,
        /// As recorded.
        recorded: Ino,
        /// The directory that names it.
        found: Ino,
    },
    /// An inode that no entry names, and that is not on the list of those to be deleted.
    UnrecordedOrphan {
        /// The inode.
        ino: Ino,
    },
    /// An inode on the list of those to be deleted that has a name.
    NotAnOrphan {
        /// The inode.
        ino: Ino,
    },
    /// A directory that cannot be reached from the root, because it is its own ancestor.
    Detached {
        /// The directory.
        dir: Ino,
    },
    /// The root directory is missing, or is none.
    NoRoot,
    /// An extent ends beyond the file's size.
    BeyondSize {
        /// The file.
        ino: Ino,
        /// Its size.
        size: u64,
        /// Where the last extent ends.
        end: u64,
    },
    /// Two extents for the same bytes.
    Overlap {
        /// The file.
        ino: Ino,
        /// The bytes.
        range: Range<u64>,
    },
    /// An extent names an object that has no record.
    UnknownObject {
        /// The file.
        ino: Ino,
        /// The bytes.
        range: Range<u64>,
        /// The session's number.
        session: u32,
        /// The object's number.
        number: u64,
    },
    /// An extent names bytes that its object does not have.
    BeyondObject {
        /// The file.
        ino: Ino,
        /// The bytes.
        range: Range<u64>,
        /// The session's number.
        session: u32,
        /// The object's number.
        number: u64,
    },
    /// The count of bytes in a file's extents is wrong.
    Allocated {
        /// The file.
        ino: Ino,
        /// As recorded.
        recorded: u64,
        /// As counted.
        found: u64,
    },
    /// The record is wrong about whether the inode has extended attributes.
    Attributes {
        /// The inode.
        ino: Ino,
        /// Whether it has.
        found: bool,
    },
    /// The live bytes of an object are wrong, or whether it is dead.
    LiveBytes {
        /// The session's number.
        session: u32,
        /// The object's number.
        number: u64,
        /// As recorded.
        recorded: u64,
        /// As counted.
        found: u64,
    },
    /// The list of the files in an object lacks one.
    Member {
        /// The session's number.
        session: u32,
        /// The object's number.
        number: u64,
        /// The file.
        ino: Ino,
    },
    /// An object and the lists of those to be repacked and to be deleted do not agree.
    ObjectLists {
        /// The session's number.
        session: u32,
        /// The object's number.
        number: u64,
    },
    /// A row about an object that has no record, or of a session that has none.
    StrayObject {
        /// The kind of row.
        what: &'static str,
        /// Its key.
        key: Bytes,
    },
    /// The number of a session's objects is wrong.
    SessionObjects {
        /// The session's number.
        session: u32,
        /// As recorded.
        recorded: u64,
        /// As counted.
        found: u64,
    },
    /// The totals of the volume are wrong: (inodes, bytes).
    Totals {
        /// As recorded.
        recorded: (u64, u64),
        /// As counted.
        found: (u64, u64),
    },
    /// The counters would give numbers out a second time.
    Counters {
        /// The first inode number or cookie that is free at the earliest.
        ids_end: u64,
        /// The same for the number of a session.
        next_session: u32,
    },
}

impl Fault {
    /// The inode whose paths tell the user which file is hurt.
    pub fn ino(&self) -> Option<Ino> {
        match self {
            Fault::Undecodable { ino, .. } => *ino,
            Fault::Stray {
                ino, exists: true, ..
            }
            | Fault::Links { ino, .. }
            | Fault::UnrecordedOrphan { ino }
            | Fault::NotAnOrphan { ino }
            | Fault::BeyondSize { ino, .. }
            | Fault::Overlap { ino, .. }
            | Fault::UnknownObject { ino, .. }
            | Fault::BeyondObject { ino, .. }
            | Fault::Allocated { ino, .. }
            | Fault::Attributes { ino, .. }
            | Fault::Member { ino, .. } => Some(*ino),
            Fault::Entries { dir, .. } | Fault::Parent { dir, .. } | Fault::Detached { dir } => {
                Some(*dir)
            }
            _ => None,
        }
    }

    /// The entry that it is about: the directory and the name in it.
    pub fn entry(&self) -> Option<(Ino, &Bytes)> {
        match self {
            Fault::Dangling { dir, name, .. }
            | Fault::BadName { dir, name }
            | Fault::Unlisted { dir, name }
            | Fault::ListedOnly { dir, name, .. }
            | Fault::WrongKind { dir, name, .. }
            | Fault::SecondName { dir, name, .. }
            | Fault::Fallback { dir, name } => Some((*dir, name)),
            _ => None,
        }
    }

    /// The object that it is about.
    pub(super) fn object(&self) -> Option<ObjectKey> {
        match self {
            Fault::UnknownObject {
                session, number, ..
            }
            | Fault::BeyondObject {
                session, number, ..
            }
            | Fault::LiveBytes {
                session, number, ..
            }
            | Fault::Member {
                session, number, ..
            }
            | Fault::ObjectLists { session, number } => Some(ObjectKey {
                session: *session,
                number: *number,
            }),
            _ => None,
        }
    }

    /// The bytes of the file that cannot be read.
    pub fn range(&self) -> Option<Range<u64>> {
        match self {
            Fault::Overlap { range, .. }
            | Fault::UnknownObject { range, .. }
            | Fault::BeyondObject { range, .. } => Some(range.clone()),
            _ => None,
        }
    }
}
