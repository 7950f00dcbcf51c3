//! Inode numbers and cookies: one counter for both, handed out in reservations.
//!
//! Promises: a number is given out once in the life of a volume, because a reservation is durable
//! before the first number of it is used; what a mount did not use is lost with it (numbers are
//! plenty: 2^63).

use parking_lot::Mutex;

use super::{
    Ino, MetaError,
    change::Change,
    schema::{self, Counters, Table},
    volume::Inner,
};

/// Numbers in a reservation. The next one is made when half of one is left, so making 5,000 files
/// in three seconds waits for none.
const RESERVATION: u64 = 16 * 1024;
/// The first number that is given out; 1 is the root, and cookies 1 and 2 are `.` and `..`.
pub(super) const FIRST_ID: u64 = 16;

struct State {
    next: u64,
    /// Numbers below this are reserved durably.
    end: u64,
    /// A background reservation is on its way.
    reserving: bool,
}

/// Gives out numbers.
pub(super) struct Ids {
    state: Mutex<State>,
    next_session: u32,
    /// Held by the reservation in flight.
    lane: tokio::sync::Mutex<()>,
}

impl Ids {
    /// After the reservation that opening made durable.
    pub fn new(reserved: std::ops::Range<u64>, next_session: u32) -> Ids {
        let state = State {
            next: reserved.start,
            end: reserved.end,
            reserving: false,
        };
        Ids {
            state: Mutex::new(state),
            next_session,
            lane: tokio::sync::Mutex::new(()),
        }
    }

    /// Gives out no number below `first_free` from now on. Returns up to where numbers are
    /// reserved, which the caller makes durable.
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

    fn take(&self) -> (Option<u64>, bool) {
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
}

/// The counters row with a further reservation.
pub(super) fn reserve(from: u64, next_session: u32) -> Counters {
    Counters {
        ids_end: from + RESERVATION,
        next_session,
    }
}

impl Inner {
    async fn reserve_ids(&self, even_if_some_are_left: bool) -> Result<(), MetaError> {
        let _lane = self.ids.lane.lock().await;
        let end = {
            let state = self.ids.state.lock();
            if state.next < state.end && !even_if_some_are_left {
                return Ok(());
            }
            state.end
        };
        let counters = reserve(end, self.ids.next_session);
        let mut batch = slatedb::WriteBatch::new();
        batch.put(Table::Counters.single(), schema::encode_counters(&counters));
        let sequence = self
            .backing
            .write(batch)
            .await
            .map_err(|error| self.noted(error))?;
        self.durability.changed(sequence);
        self.flush().await?;
        let mut state = self.ids.state.lock();
        state.end = counters.ids_end;
        state.reserving = false;
        Ok(())
    }
}

impl super::Meta {
    /// A number that was never given out before.
    pub(super) async fn new_id(&self) -> Result<Ino, MetaError> {
        loop {
            let (id, low) = self.inner.ids.take();
            if low {
                let inner = self.inner.clone();
                tokio::spawn(async move {
                    // If it fails the volume is closed or fenced, and whoever needs the numbers is
                    // told.
                    if inner.reserve_ids(true).await.is_err() {
                        inner.ids.state.lock().reserving = false;
                    }
                });
            }
            match id {
                Some(id) => return Ok(Ino(id)),
                None => self.inner.reserve_ids(false).await?,
            }
        }
    }
}

/// The batch that opens a session: its row, its first reservation, and the version of what it
/// writes.
pub(super) fn opening_change(
    counters: Counters,
    session_row: &schema::SessionRow,
) -> (Change, Counters) {
    let next = reserve(counters.ids_end, counters.next_session + 1);
    let mut change = Change::default();
    change.put(Table::Counters.single(), schema::encode_counters(&next));
    change.put(Table::Schema.single(), schema::encode_schema());
    change.put_session(counters.next_session, session_row);
    (change, next)
}
