//! Contents as the namespace knows them: extents of files, and the objects that they name with
//! their live bytes, garbage and leftovers.

mod batches;
mod commit;
mod ledger;
mod read;
mod reclaim;
mod sessions;
mod truncate;
mod window;

pub use commit::ContentCommit;
pub(super) use ledger::Ledger;
pub use reclaim::{DeadSession, Garbage};
