//! The namespace of a volume: inodes, dentries, extents, xattrs, object records; typed operations
//! over SlateDB.
//!
//! Promises: each operation is one atomic batch, seen by every later read at once, durable after
//! the next [`Meta::flush`]; flushes coalesce (one in flight, followers share the next); inode
//! numbers are never reused; nothing durable ever names data that is not in the store, because
//! callers commit content only after its object is there. Never: touches file contents, talks to
//! the kernel, knows about handles. The only writer: its own keyed locks make operations atomic
//! against each other.
//!
//! How an operation goes: it locks the inodes it touches (`locks`), reads what it needs through the
//! caches (`cache`), builds its batch (`change`), settles what it did to objects (`ledger`), and
//! commits; the commit is a task of its own, so a caller that is cancelled in the middle leaves
//! nothing half done. `durability` decides when batches go to the store, `upkeep` when the database
//! is compacted and swept, `follower` when a read-only mount looks for what the writer did.

mod apply;
mod check;
mod contents;
mod database;
mod error;
mod flush;
mod follow;
mod look;
mod memory;
mod names;
mod numbers;
mod open;
mod schema;
mod state;
mod types;
mod upkeep;
mod volume;

pub use crate::clock::Timestamp;
pub use check::{
    CheckMemory, Counted, Damaged, Fault, Found, Hurt, LOST_AND_FOUND, Located, Mended, ObjectRow,
    Pass, SessionInfo,
};
pub use contents::{ContentCommit, DeadSession, Garbage};
pub use error::MetaError;
pub use follow::FileSnapshot;
pub use look::Recovered;
pub use memory::{MetaMemory, MetaPart};
pub use names::{NewInode, Removal, RenameMode, RenameSource, XattrMode};
pub use open::MetaConfig;
#[cfg(any(fuzzing, test))]
pub(crate) use schema::fuzz;
pub use state::crowding::REGION_LEN;
pub use types::{
    Dentry, DirEntry, Extent, ExtentSource, FileKind, Ino, Inode, NewObject, ObjectId,
    ObjectRecord, SessionId, Totals,
};
pub use volume::Meta;
