//! The memory governor: one budget over the whole process.
//!
//! Promises: the sum of all live [`Reservation`]s never exceeds the capacity; a reservation is
//! released exactly once, when it is dropped; demand requests are served first in, first out
//! within their class; each class keeps a guaranteed minimum that no other class can take, so
//! that writers cannot starve readers, nor dirty data the uploads that would clean it.
//! Never: blocks a thread, waits while holding a lock, grants part of what was asked.


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
    pub const ALL: [Owner; 5] = [Owner::Dirty, Owner::Upload, Owner::Read, Owner::Cache, Owner::Table];

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

/// The governor. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Governor {}

/// Bytes of the budget, held until dropped.
#[derive(Debug)]
pub struct Reservation {}

/// One owner's present and peak bytes, for `status`.
#[derive(Clone, Copy, Debug)]
pub struct OwnerUsage {
    /// Who.
    pub owner: Owner,
    /// Bytes held now.
    pub current_bytes: u64,
    /// The most that was ever held.
    pub peak_bytes: u64,
}

impl Governor {
    /// A budget of `capacity_bytes` for everything that reserves.
    pub fn new(capacity_bytes: u64) -> Governor {
        todo!()
    }
    /// The capacity.
    pub fn capacity_bytes(&self) -> u64 {
        todo!()
    }
    /// Waits in line for `bytes`.
    pub async fn acquire(&self, owner: Owner, bytes: u64) -> Reservation {
        todo!()
    }
    /// Takes `bytes` if they are there now.
    pub fn try_acquire(&self, owner: Owner, bytes: u64) -> Option<Reservation> {
        todo!()
    }
    /// Present and peak use by owner.
    pub fn usage(&self) -> Vec<OwnerUsage> {
        todo!()
    }
}
