//! Whether the metadata is whole: every row decodes, and rows that say the same thing agree.
//!
//! First the objects of the database are read whole (`tables.rs`). Then three passes go over its
//! tables in the order of their keys, so that no table is ever whole in memory:
//!
//! - `inodes.rs` joins everything that is keyed by an inode number (records, entries and listing
//!   of a directory, extents, attributes) and adds up the totals;
//! - `names.rs` counts for each inode the entries that name it. Entries are not in the order of
//!   what they name, so it takes as many inodes at a time as memory allows, and reads all entries
//!   once for each such part;
//! - `objects.rs` adds up for each object the extents that name it, in the same way.
//!
//! `holdings.rs` reads the same tables for an overview, without comparing them.
//!
//! Promises: reads one state of the database if nothing is written meanwhile (a follower with
//! [`super::MetaConfig::frozen`], or a writer that only this check uses); a pass finds the same
//! faults in the same order when it is repeated on the same state. Never: keeps more than the
//! [`CheckMemory`] that it was given; changes anything ([`mend`] does, when told to).

mod cursor;
mod damage;
mod fault;
mod fault_text;
mod holdings;
mod inodes;
mod lost_found;
mod mend;
mod names;
mod objects;
mod paths;
mod tables;

use std::collections::HashSet;

pub use damage::{Damaged, Hurt};
pub use fault::Fault;
pub use holdings::{Census, DatabaseObjects, HeldObject};
pub use lost_found::LOST_AND_FOUND;
pub use mend::Mended;
pub use objects::{ObjectRow, SessionInfo};
pub use paths::Located;

use super::{Meta, MetaError};

/// The passes, by the rows that they look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    /// The objects that the database itself consists of.
    Tables,
    /// Records, directories, extents and attributes, inode by inode; totals.
    Inodes,
    /// Links: the entries that name each inode, and whether each directory hangs on the root.
    Names,
    /// Objects, their live bytes, garbage and sessions.
    Objects,
}

impl Pass {
    /// In the order in which they are run.
    pub const ALL: [Pass; 4] = [Pass::Tables, Pass::Inodes, Pass::Names, Pass::Objects];
}

/// The memory that a check may take.
#[derive(Clone, Copy, Debug)]
pub struct CheckMemory {
    /// Bytes of counters: the part of the inodes, or of the objects, that is counted at a time.
    pub counters_bytes: u64,
    /// Faults that one call returns.
    pub faults_max: usize,
}

/// The counts of a pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// Inodes ([`Pass::Inodes`]).
    pub inodes: u64,
    /// Extents ([`Pass::Inodes`]).
    pub extents: u64,
    /// Objects that are not dead ([`Pass::Objects`]).
    pub objects: u64,
    /// Their stored bytes.
    pub stored_bytes: u64,
}

/// The findings of a pass.
#[derive(Clone, Debug)]
pub struct Found {
    /// The faults, in the order in which they were met.
    pub faults: Vec<Fault>,
    /// The counts; `None` if the pass ended early because there were too many faults.
    pub counted: Option<Counted>,
}

/// Takes faults until there are enough.
struct Collector<'a> {
    faults: Vec<Fault>,
    max: usize,
    skip: usize,
    known: &'a HashSet<Fault>,
}

/// Why a pass does not go on.
enum Halt {
    Full,
    Failed(MetaError),
}

impl From<MetaError> for Halt {
    fn from(error: MetaError) -> Halt {
        Halt::Failed(error)
    }
}

impl Collector<'_> {
    fn add(&mut self, fault: Fault) -> Result<(), Halt> {
        if self.known.contains(&fault) {
            return Ok(());
        }
        if self.skip > 0 {
            self.skip -= 1;
            return Ok(());
        }
        if self.faults.len() >= self.max {
            return Err(Halt::Full);
        }
        self.faults.push(fault);
        Ok(())
    }
}

impl Meta {
    /// Runs one pass. The first `skip` faults, and those in `known`, are passed over. So a caller
    /// can get all faults of a volume that has more than it wants to hold at once.
    ///
    /// # Errors
    /// The metadata cannot be read, or does not authenticate.
    pub async fn check(
        &self,
        pass: Pass,
        memory: CheckMemory,
        skip: usize,
        known: &HashSet<Fault>,
    ) -> Result<Found, MetaError> {
        let mut collector = Collector {
            faults: Vec::new(),
            max: memory.faults_max,
            skip,
            known,
        };
        let counted = match pass {
            Pass::Tables => self.check_tables(&mut collector).await,
            Pass::Inodes => self.check_inodes(&mut collector).await,
            Pass::Names => self.check_names(memory, &mut collector).await,
            Pass::Objects => self.check_objects(memory, &mut collector).await,
        };
        let counted = match counted {
            Ok(counted) => Some(counted),
            Err(Halt::Full) => None,
            Err(Halt::Failed(error)) => return Err(error),
        };
        Ok(Found {
            faults: collector.faults,
            counted,
        })
    }
}
