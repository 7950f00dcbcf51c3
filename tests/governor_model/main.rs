//! The governor under a scheduler that decides who runs next: the same sources as in the crate,
//! with `sync.rs` here in place of the crate's, so that every lock, atomic and wake-up is a point
//! at which another thread may go first.
//!
//! Each scenario runs some thousand times, under a scheduler that picks at random and under one
//! (PCT) that finds what needs few but unlikely switches. A scenario in which nobody can go on is
//! a failure: whoever is left in line although there is room, or although room could be made,
//! shows as a deadlock. The schedule that failed is printed; `shuttle::replay(scenario, schedule)`
//! runs it again.

#[path = "../../src/budget/accounts.rs"]
#[allow(dead_code, reason = "the scenarios use a part of it")]
mod accounts;
#[path = "../../src/budget/governor.rs"]
#[allow(dead_code, reason = "the scenarios use a part of it")]
mod governor;
#[path = "../../src/budget/owner.rs"]
#[allow(dead_code, reason = "the scenarios use a part of it")]
mod owner;
#[path = "../../src/budget/reservation.rs"]
#[allow(dead_code, reason = "the scenarios use a part of it")]
mod reservation;
mod scenarios;
mod sync;
mod world;

use governor::Governor;
use owner::Owner;
use reservation::Reservation;
