//! The owners that share the budget.

/// The purpose of a reservation. Each owner is one line in `strongroom status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Owner {
    /// Bytes that applications wrote and that are not yet sealed.
    Dirty,
    /// Writes that came while there was no room for dirty data, and wait for it.
    Parked,
    /// Sealed bytes on their way to the store.
    Upload,
    /// Replies and in-flight bodies of reads that somebody waits for.
    Read,
    /// Frames kept because they may be wanted again, and prefetched frames. They give way to the
    /// others.
    Cache,
    /// Open handles and what is known of their files.
    Table,
    /// Directory listings under way.
    Listing,
}

impl Owner {
    /// All owners, in the order of the status table.
    pub const ALL: [Owner; 7] = [
        Owner::Dirty,
        Owner::Parked,
        Owner::Upload,
        Owner::Read,
        Owner::Cache,
        Owner::Table,
        Owner::Listing,
    ];

    /// Position in tables indexed by owner.
    pub(crate) fn index(self) -> usize {
        self as usize
    }

    /// The stable name in `status --json`.
    pub fn name(self) -> &'static str {
        match self {
            Owner::Dirty => "dirty",
            Owner::Parked => "parked",
            Owner::Upload => "upload",
            Owner::Read => "read",
            Owner::Cache => "cache",
            Owner::Table => "table",
            Owner::Listing => "listing",
        }
    }
}
