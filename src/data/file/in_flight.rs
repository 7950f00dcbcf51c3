//! Write-back in flight: bytes of one file that left its dirty memory together and are not
//! committed yet.

use std::time::Instant;

use super::overlay::Overlay;
use crate::{
    data::upload::Placed,
    meta::{NewObject, ObjectId},
};

/// Where the bytes of a write-back in flight are.
#[derive(Clone, Debug)]
pub(super) enum Place {
    /// In the write-back itself: a commit may bring them at once.
    Here,
    /// In an object that is on its way.
    OnItsWay(ObjectId),
    /// In an object that is in the store, whole.
    Stored(NewObject),
    /// In an object that can never be stored.
    Lost(ObjectId),
}

impl Place {
    pub(super) fn object(&self) -> Option<ObjectId> {
        match self {
            Place::Here => None,
            Place::OnItsWay(object) | Place::Lost(object) => Some(*object),
            Place::Stored(new) => Some(new.object),
        }
    }
}

pub(super) struct InFlight {
    pub(super) number: u64,
    pub(super) place: Place,
    /// When the oldest change was made that may be in it.
    pub(super) since: Instant,
    /// The bytes that left dirty memory.
    pub(super) runs: Overlay,
    /// It covers all changes up to this one; `None` if dirty bytes were left behind.
    pub(super) covers: Option<u64>,
    /// The size of the file when it began.
    pub(super) size: u64,
    /// Bytes from here on were left behind, and nothing committed lies there.
    pub(super) gap: Option<u64>,
    /// Committed extents from here on were truncated away before it began.
    pub(super) cut: Option<u64>,
}

impl InFlight {
    /// The size that it makes durable.
    pub(super) fn end(&self) -> u64 {
        self.size.min(self.gap.unwrap_or(u64::MAX))
    }

    pub(super) fn lay(&mut self, object: ObjectId, placed: &[Placed]) {
        for run in placed {
            let len = run.bytes.len() as u64;
            self.runs.put_sealed(run.offset, len, object, run.at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::InFlight;

    /// `STATE_BYTES` has 192 bytes for it.
    #[test]
    fn a_write_back_in_flight_is_no_larger_than_what_is_reserved_for_it() {
        assert!(size_of::<InFlight>() <= 192, "{}", size_of::<InFlight>());
    }
}
