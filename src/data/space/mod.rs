//! Space: which committed bytes are cut off, moved or put in order, and which objects are deleted.

mod defragment;
mod leftovers;
mod mend;
mod moving;
mod readers;
mod reclaim;
mod repack;
mod survey;
mod truncate;

pub use leftovers::{Sweep, Swept};

pub(crate) use leftovers::{SESSION_PAGES_MAX, session_prefix};
pub(crate) use moving::Moves;
pub(crate) use readers::Readers;
#[cfg(any(fuzzing, test))]
pub(crate) use readers::{RECORD_LEN, ReaderRecord};
