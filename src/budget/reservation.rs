//! Bytes of the budget, held until dropped.

use std::fmt;

use super::{Governor, Owner};

/// A share of the budget. It moves with the buffer that it pays for and is given back when it is
/// dropped, exactly once, whatever ended the buffer's life.
pub struct Reservation {
    governor: Governor,
    owner: Owner,
    bytes: u64,
}

impl Reservation {
    /// Only the governor makes reservations, after it has counted them.
    pub(super) fn new(governor: Governor, owner: Owner, bytes: u64) -> Reservation {
        Reservation {
            governor,
            owner,
            bytes,
        }
    }

    /// Bytes held.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The owner that it is counted for.
    pub fn owner(&self) -> Owner {
        self.owner
    }

    /// The governor whose budget it is a share of.
    pub fn governor(&self) -> &Governor {
        &self.governor
    }

    /// Takes `bytes` (at most what is held) out into a reservation of its own.
    #[must_use]
    pub fn split(&mut self, bytes: u64) -> Reservation {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        self.governor.count_split();
        Reservation::new(self.governor.clone(), self.owner, bytes)
    }

    /// Takes in another one of the same owner.
    pub fn join(&mut self, mut other: Reservation) {
        debug_assert!(self.owner == other.owner, "joined across owners");
        self.bytes += std::mem::take(&mut other.bytes);
    }

    /// Gives back everything beyond `bytes`.
    pub fn shrink_to(&mut self, bytes: u64) {
        if bytes < self.bytes {
            drop(self.split(self.bytes - bytes));
        }
    }

    /// Counts it for another owner from now on; the total does not change.
    #[must_use]
    pub fn reassign(mut self, owner: Owner) -> Reservation {
        self.governor.reassign(self.owner, owner, self.bytes);
        self.owner = owner;
        self
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.governor.release(self.owner, self.bytes);
    }
}

impl fmt::Debug for Reservation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reservation({} {} bytes)", self.owner.name(), self.bytes)
    }
}
