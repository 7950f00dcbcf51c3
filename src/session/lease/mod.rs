//! The lease: the right to write to a volume.
//!
//! The lease is one sealed control object, `<prefix>/lease`, changed only by conditional PUT. It
//! names host, process and time. The metadata store fences an old writer by itself; the lease is
//! what lets a second mount know that there is a first one *before* it fences it off, wait for its
//! drain, or tell the user whom to ask.
//!
//! 1. The holder writes it again every [`RENEW_EVERY`], so the object changes as long as it lives.
//! 2. A waiting mount takes the lease over after the object has not changed for [`EXPIRES_AFTER`]
//!    of its own clock; at once when the holder was a process of this very system and is gone; or
//!    when told to. Clocks of two machines are compared only to choose between waiting that long
//!    and refusing at once: a wrong clock makes a mount wait in vain or give up early, and never
//!    take a living mount's lease.
//! 3. A holder that drains says so; others wait. A holder that is done says `released`.
//! 4. A holder whose conditional PUT fails because another mount's lease stands there has lost it.
//!    While it writes it also looks every [`LOOK_EVERY`]: a mount that takes over writes to the end
//!    of the same log, and a holder that is busy enough is always there first.
//!
//! Promises: at most one holder believes in its lease longer than [`RENEW_EVERY`] plus one request
//! after another took it, and none that writes longer than twice [`LOOK_EVERY`] while the store
//! answers. Never: deletes the object (that could not be made conditional).

mod acquire;
mod keeper;
mod record;

use std::time::Duration;

pub use acquire::{Found, LeaseRequest, acquire, look};
pub use keeper::Lease;
pub use record::{LeaseRecord, LeaseState, Machine, Process};

/// The object's volume-relative key.
pub const LEASE_KEY: &str = "lease";

/// How often the holder writes the lease again.
pub const RENEW_EVERY: Duration = Duration::from_secs(30);

/// How often a holder that writes looks whether the lease is still its own: one HEAD.
pub const LOOK_EVERY: Duration = Duration::from_secs(3);

/// A lease that has not changed for this long, three renewals, belongs to nobody.
pub const EXPIRES_AFTER: Duration = Duration::from_secs(90);
