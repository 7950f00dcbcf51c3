//! The namespace of a volume: inodes, dentries, extents, xattrs, object records; typed operations over SlateDB.
//!
//! Promises: each operation is one atomic batch, seen by every later read at once, durable after the next
//! [`Meta::flush`]; flushes coalesce (one in flight, followers share the next); inode numbers are never reused; nothing durable ever
//! names data that is not in the store, because callers commit content only after its object is there.
//! Never: touches file contents, talks to the kernel, knows about handles. The only writer: its own keyed locks make
//! operations atomic against each other.

mod content;
mod error;
mod inode;
mod namespace;
mod reclaim;
mod schema;
mod types;
mod volume;
mod xattr;

pub use content::{ContentCommit, NewObject};
pub use error::MetaError;
pub use namespace::{NewInode, Removal, RenameMode};
pub use reclaim::{DeadSession, Garbage};
pub use types::{
    DirEntry, Extent, ExtentSource, FileKind, Inode, Ino, ObjectId, ObjectRecord, SessionId, Timestamp, Totals, Dentry,
};
pub use volume::{Meta, MetaConfig};
pub use xattr::XattrMode;
