//! Contents as the namespace knows them: extents of files, the objects that they name, and what is
//! live, dead or left over of those.

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
