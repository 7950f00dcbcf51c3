//! Write-back: writes are admitted, lie in the overlay of their file, leave in uploads or in the
//! metadata, and are committed.

mod commit;
#[cfg(test)]
mod model_tests;
mod replace;
mod rounds;
mod slice;
mod sweep;
mod unread;

pub use replace::HeldCommits;

pub(crate) use rounds::PACKS_IN_FLIGHT_MAX;
pub(crate) use unread::Unread;
