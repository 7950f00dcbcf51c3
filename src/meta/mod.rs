//! The namespace of a volume: inodes, dentries, extents, xattrs, object records; typed operations
//! over SlateDB.
//!
//! Promises: each operation is one atomic batch, seen by every later read at once, and durable
//! after the next [`Meta::flush`]. Concurrent flushes share requests. Inode numbers are never
//! reused. Nothing durable ever names data that is not in the store, because callers commit
//! contents only after their object is there. One mount writes at a time, and its keyed locks make
//! operations atomic against each other. Never: touches file contents, talks to the kernel, knows
//! about handles.
//!
//! An operation locks the inodes that it touches (`state/locks`), reads rows through the caches
//! (`state/cache`), builds its batch (`state/change`), settles what it gave to objects and took
//! from them (`contents/ledger`), and commits (`apply`). The commit is a task of its own, so a
//! caller that is cancelled in the middle leaves nothing half done.
//!
//! | file or folder | what it holds |
//! |---|---|
//! | `open`, `look` | making, opening and closing; reading what is stored before the first write |
//! | `volume` | the handle, and the reads that every operation is made of |
//! | `names/`, `contents/` | the operations: on names and inodes, on extents and objects |
//! | `apply`, `numbers`, `flush` | committing a batch, giving out inode numbers, making batches durable |
//! | `upkeep`, `follow`, `memory` | compaction and collection, the follower's side, figures for `status` |
//! | `state/` | what one mount holds in memory: caches, locks, numbers, tables |
//! | `database/` | SlateDB: settings, jobs, and the stores that stand between it and the sealed one |
//! | `schema/` | keys and values of rows |
//! | `check/` | whether all rows agree, and mending them |

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
    Census, CheckMemory, Counted, Damaged, DatabaseObjects, Fault, Found, HeldObject, Hurt,
    LOST_AND_FOUND, Located, Mended, ObjectRow, Pass, SessionInfo,
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
