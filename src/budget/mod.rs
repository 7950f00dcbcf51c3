//! The memory governor: one budget over the whole process.
//!
//! Promises: the sum of all live [`Reservation`]s never exceeds the capacity; a reservation is
//! released exactly once, when it is dropped; demand requests are served first in, first out
//! within their class; each class keeps a guaranteed minimum that no other class can take, so
//! that writers cannot starve readers, nor dirty data the uploads that would clean it.
//! Never: blocks a thread, waits while holding a lock, grants part of what was asked.

mod governor;
mod reservation;

pub use governor::{Governor, OwnerUsage, Reclaim, Shares};
pub use reservation::Reservation;

/// Who a reservation is for; each owner is one line in `strongroom status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Owner {
    /// Bytes that applications wrote and that are not yet sealed.
    Dirty,
    /// Sealed bytes on their way to the store.
    Upload,
    /// Replies and in-flight bodies of reads that somebody waits for.
    Read,
    /// Frames kept because they may be wanted again, and frames fetched ahead. Gives way to the others.
    Cache,
    /// Directory listings, inode and handle tables.
    Table,
}

impl Owner {
    /// All owners, in the order of the status table.
    pub const ALL: [Owner; 5] = [
        Owner::Dirty,
        Owner::Upload,
        Owner::Read,
        Owner::Cache,
        Owner::Table,
    ];

    /// Position in tables indexed by owner.
    pub(crate) fn index(self) -> usize {
        self as usize
    }

    /// The stable name in `status --json`.
    pub fn name(self) -> &'static str {
        match self {
            Owner::Dirty => "dirty",
            Owner::Upload => "upload",
            Owner::Read => "read",
            Owner::Cache => "cache",
            Owner::Table => "table",
        }
    }
}
