//! Inode numbers and cookies: one counter for both, handed out in reservations.
//!
//! Promises: a number is given out once in the life of a volume, because a reservation is durable
//! before its first number is used. Numbers that a mount did not use are lost with it; there are
//! 2^63.

use parking_lot::Mutex;

use crate::meta::schema::Counters;

/// Numbers in a reservation. The next one is made when half of this one is left, so making 5,000
/// files in three seconds never waits for a reservation.
const RESERVATION: u64 = 16 * 1024;
/// The first number that is given out; 1 is the root, and cookies 1 and 2 are `.` and `..`.
pub(in crate::meta) const FIRST_ID: u64 = 16;

struct State {
    next: u64,
    /// Numbers below this are reserved durably.
    end: u64,
    /// A background reservation is on its way.
    reserving: bool,
}

/// Gives out numbers.
pub(in crate::meta) struct Ids {
    state: Mutex<State>,
    next_session: u32,
    /// Held by the reservation in flight.
    reservation: tokio::sync::Mutex<()>,
}

impl Ids {
    /// The counter after the reservation that opening made durable.
    pub fn new(reserved: std::ops::Range<u64>, next_session: u32) -> Ids {
        let state = State {
            next: reserved.start,
            end: reserved.end,
            reserving: false,
        };
        Ids {
            state: Mutex::new(state),
            next_session,
            reservation: tokio::sync::Mutex::new(()),
        }
    }

    /// Gives out no number below `first_free` from now on. Returns the end of the reserved numbers,
    /// which the caller makes durable.
    pub fn raise(&self, first_free: u64) -> u64 {
        let mut state = self.state.lock();
        if state.next < first_free {
            state.next = first_free;
            state.end = state.end.max(first_free + RESERVATION);
        }
        state.end
    }

    pub fn next_session(&self) -> u32 {
        self.next_session
    }

    /// The next number, if one is reserved, and whether it is time to reserve more.
    pub fn take(&self) -> (Option<u64>, bool) {
        let mut state = self.state.lock();
        if state.next >= state.end {
            return (None, false);
        }
        let id = state.next;
        state.next += 1;
        let low = !state.reserving && state.end - state.next < RESERVATION / 2;
        state.reserving |= low;
        (Some(id), low)
    }

    /// Held by the reservation in flight.
    pub async fn reservation_lock(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.reservation.lock().await
    }

    /// The end of the reserved numbers, and whether some are left.
    pub fn reserved(&self) -> (u64, bool) {
        let state = self.state.lock();
        (state.end, state.next < state.end)
    }

    /// Notes that a reservation up to `end` is durable.
    pub fn extend_to(&self, end: u64) {
        let mut state = self.state.lock();
        state.end = end;
        state.reserving = false;
    }

    /// Notes that a reservation in the background failed; the next number that is taken may begin
    /// another.
    pub fn reservation_failed(&self) {
        self.state.lock().reserving = false;
    }
}

/// The counters row with a further reservation.
pub(in crate::meta) fn reserve(from: u64, next_session: u32) -> Counters {
    Counters {
        ids_end: from + RESERVATION,
        next_session,
    }
}
