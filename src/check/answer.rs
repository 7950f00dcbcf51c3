//! The answers of `usage` and `which`, part by part.

use serde::{Deserialize, Serialize};

use super::Usage;

/// A part of an answer. The names of the variants and their fields are those of the lines of
/// `which --json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Answer {
    /// The answer of `usage`.
    Usage(Box<Usage>),
    /// A file, or whatever a path or an inode number names.
    File {
        /// Its inode number.
        ino: u64,
        /// `file`, `directory`, `symlink`, `fifo`, `socket` or `device`.
        is: String,
        /// Its size in bytes.
        size: u64,
        /// Bytes of contents; holes do not count.
        allocated_bytes: u64,
        /// The part of these that is in the metadata itself.
        inline_bytes: u64,
        /// Its paths.
        paths: Vec<String>,
    },
    /// An object with bytes of the file named before.
    Object {
        /// Its key in the bucket.
        object: String,
        /// Bytes of the file that it holds.
        bytes: u64,
        /// Runs of bytes that these are.
        extents: u64,
    },
    /// An object in the bucket.
    Key {
        /// Its key in the bucket.
        object: String,
        /// Its kind: as of `usage`, or `missing`.
        is: String,
        /// A sentence about it.
        what: String,
        /// Its stored bytes, if it is there.
        stored_bytes: Option<u64>,
        /// Bytes of files in it.
        live_bytes: u64,
        /// Bytes of contents in it that no file has any more.
        dead_bytes: u64,
    },
    /// A file that has bytes in the object named before.
    Holder {
        /// Its inode number.
        ino: u64,
        /// Bytes of the file that are in the object.
        bytes: u64,
        /// Runs of bytes that these are.
        extents: u64,
        /// Its paths; none if it was removed and is still open.
        paths: Vec<String>,
    },
    /// More paths of the file named before.
    Paths {
        /// Its inode number.
        ino: u64,
        /// The paths.
        paths: Vec<String>,
    },
}
