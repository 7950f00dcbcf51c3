//! The memory governor: one budget over the whole process.
//!
//! Promises: the sum of all live [`Reservation`]s never exceeds the capacity; a reservation is
//! released exactly once, when it is dropped; demand requests are served first in, first out
//! within their class; each class keeps a guaranteed minimum that no other class can take, so
//! that writers cannot starve readers, nor dirty data the uploads that would clean it.
//! Never: blocks a thread (a request that waits is a future), waits while holding a lock, grants
//! part of what was asked.

mod accounts;
#[cfg(test)]
mod accounts_tests;
mod governor;
mod owner;
mod reservation;
mod sync;
#[cfg(test)]
mod tests;

pub use accounts::{OwnerUsage, Shares};
pub use governor::{Governor, Reclaim};
pub use owner::Owner;
pub use reservation::Reservation;
