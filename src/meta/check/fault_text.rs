//! The words for each fault: a name for programs, and a sentence for people.

use std::fmt;

use bytes::Bytes;

use super::fault::Fault;

impl Fault {
    /// A name for programs that never changes.
    pub fn code(&self) -> &'static str {
        match self {
            Fault::Table { .. } => "metadata-object",
            Fault::Undecodable { .. } => "undecodable",
            Fault::Stray { .. } => "stray-rows",
            Fault::Dangling { .. } => "dangling-entry",
            Fault::BadName { .. } => "bad-name",
            Fault::Unlisted { .. } => "unlisted-entry",
            Fault::ListedOnly { .. } => "listed-only",
            Fault::WrongKind { .. } => "wrong-kind",
            Fault::SecondName { .. } => "second-name",
            Fault::Fallback { .. } => "fallback",
            Fault::StrayFallback { .. } => "stray-fallback",
            Fault::Entries { .. } => "entry-count",
            Fault::Links { .. } => "link-count",
            Fault::Parent { .. } => "parent",
            Fault::UnrecordedOrphan { .. } => "nameless",
            Fault::NotAnOrphan { .. } => "not-an-orphan",
            Fault::Detached { .. } => "detached",
            Fault::NoRoot => "no-root",
            Fault::BeyondSize { .. } => "extent-beyond-size",
            Fault::Overlap { .. } => "overlapping-extents",
            Fault::UnknownObject { .. } => "unknown-object",
            Fault::BeyondObject { .. } => "extent-beyond-object",
            Fault::Allocated { .. } => "allocated-bytes",
            Fault::Attributes { .. } => "attributes",
            Fault::LiveBytes { .. } => "live-bytes",
            Fault::Member { .. } => "object-members",
            Fault::ObjectLists { .. } => "object-lists",
            Fault::StrayObject { .. } => "stray-object-row",
            Fault::SessionObjects { .. } => "session-objects",
            Fault::Totals { .. } => "totals",
            Fault::Counters { .. } => "counters",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hex = |key: &Bytes| data_encoding::HEXLOWER.encode(key);
        match self {
            Fault::Table { path, why } => write!(f, "object meta/{path}: {why}"),
            Fault::Undecodable { what, key, .. } => {
                write!(f, "{what} does not decode (row {})", hex(key))
            }
            Fault::Stray {
                what,
                ino,
                exists: false,
            } => write!(f, "{what} of inode {}, which is not there", ino.0),
            Fault::Stray { what, ino, .. } => {
                write!(f, "{what} of inode {}, which cannot have any", ino.0)
            }
            Fault::Dangling { ino, .. } => {
                write!(f, "the entry names inode {}, which is not there", ino.0)
            }
            Fault::BadName { .. } => write!(f, "no entry may have this name"),
            Fault::Unlisted { .. } => write!(f, "the entry is missing in the listing"),
            Fault::ListedOnly { .. } => {
                write!(f, "the listing has a line for which there is no entry")
            }
            Fault::WrongKind { ino, .. } => {
                write!(f, "the entry says another kind than inode {}", ino.0)
            }
            Fault::SecondName { ino, .. } => {
                write!(f, "a second entry for directory {}", ino.0)
            }
            Fault::Fallback { .. } => {
                write!(f, "the entry and the list of fallbacks do not agree")
            }
            Fault::StrayFallback { key } => {
                write!(f, "a fallback that no entry needs (row {})", hex(key))
            }
            Fault::Entries {
                recorded, found, ..
            } => write!(f, "{recorded} names are recorded, there are {found}"),
            Fault::Links {
                ino,
                recorded,
                found,
            } => write!(
                f,
                "inode {} has {recorded} links recorded, there are {found}",
                ino.0
            ),
            Fault::Parent {
                recorded, found, ..
            } => write!(
                f,
                "its parent is recorded as inode {}, and is {}",
                recorded.0, found.0
            ),
            Fault::UnrecordedOrphan { ino } => write!(f, "inode {} has no name", ino.0),
            Fault::NotAnOrphan { ino } => {
                write!(
                    f,
                    "inode {} has a name and is to be deleted all the same",
                    ino.0
                )
            }
            Fault::Detached { .. } => write!(f, "the directory is its own ancestor"),
            Fault::NoRoot => write!(f, "the root directory is missing"),
            Fault::BeyondSize { size, end, .. } => {
                write!(
                    f,
                    "the size is {size} bytes, and there are contents up to {end}"
                )
            }
            Fault::Overlap { .. } => write!(f, "two extents for the same bytes"),
            Fault::UnknownObject {
                session, number, ..
            } => write!(
                f,
                "the bytes are in object {number} of session {session}, which has no record"
            ),
            Fault::BeyondObject {
                session, number, ..
            } => write!(
                f,
                "the bytes are beyond the end of object {number} of session {session}"
            ),
            Fault::Allocated {
                recorded, found, ..
            } => write!(
                f,
                "{recorded} bytes of contents are recorded, there are {found}"
            ),
            Fault::Attributes { found: true, .. } => {
                write!(f, "it has extended attributes that nobody sees")
            }
            Fault::Attributes { .. } => {
                write!(
                    f,
                    "it is said to have extended attributes, and there are none"
                )
            }
            Fault::LiveBytes {
                session,
                number,
                recorded,
                found,
            } => write!(
                f,
                "object {number} of session {session}: {recorded} live bytes are recorded, files name {found}"
            ),
            Fault::Member {
                session, number, ..
            } => write!(
                f,
                "object {number} of session {session} does not list it among its files"
            ),
            Fault::ObjectLists { session, number } => write!(
                f,
                "object {number} of session {session} is on the wrong list of objects to be repacked or deleted"
            ),
            Fault::StrayObject { what, key } => {
                write!(f, "{what} of an object without a record (row {})", hex(key))
            }
            Fault::SessionObjects {
                session,
                recorded,
                found,
            } => write!(
                f,
                "session {session}: {recorded} objects are recorded, there are {found}"
            ),
            Fault::Totals { recorded, found } => write!(
                f,
                "the totals say {} inodes and {} bytes, there are {} and {}",
                recorded.0, recorded.1, found.0, found.1
            ),
            Fault::Counters { .. } => write!(f, "numbers that are in use may be given out again"),
        }
    }
}
