//! Places in the log, and faults of it.

use std::fmt;

use crate::seal::codec::{COMMITMENT_LEN, LINK_LEN, Link};

/// One place in the log.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct LogPosition {
    /// The log object's number; 0 is before the first one.
    pub number: u64,
    /// Its commitment to its key; zero before the first one.
    pub commitment: [u8; COMMITMENT_LEN],
}

impl LogPosition {
    /// Before the first log object of a new volume.
    pub(super) const START: LogPosition = LogPosition {
        number: 0,
        commitment: [0; COMMITMENT_LEN],
    };

    /// The link that its successor holds.
    pub(super) fn link(&self) -> Link {
        let mut link = [0; LINK_LEN];
        for (byte, of) in link.iter_mut().zip(self.commitment) {
            *byte = of;
        }
        link
    }
}

impl fmt::Debug for LogPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, ..] = self.commitment;
        write!(f, "{}:{a:02x}{b:02x}{c:02x}{d:02x}", self.number)
    }
}

/// A fault of the log. Each names the log object to look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogFault {
    /// It holds another predecessor's commitment than the one that is there.
    #[error(
        "does not continue log object {}: one of the two belongs to another history of the volume",
        .number.saturating_sub(1)
    )]
    Diverges {
        /// The successor's number.
        number: u64,
    },
    /// It is another object than the one that was there, or than the one that a manifest or this
    /// machine remembers.
    #[error(
        "is not the log object that was written there before: it belongs to another history of the volume"
    )]
    Replaced {
        /// Its number.
        number: u64,
    },
    /// It names no predecessor, although older ones do.
    #[error("names no predecessor, although the log objects before it do")]
    Unlinked {
        /// Its number.
        number: u64,
    },
    /// It is not there, although it was once: a manifest or this machine knows it, or a later one
    /// is known.
    #[error("is missing, although the log went on to object {later}")]
    Missing {
        /// Its number.
        number: u64,
        /// The lowest known one from there on.
        later: u64,
    },
}

impl LogFault {
    /// The number of the log object that it is about.
    pub fn number(&self) -> u64 {
        match *self {
            LogFault::Diverges { number }
            | LogFault::Replaced { number }
            | LogFault::Unlinked { number }
            | LogFault::Missing { number, .. } => number,
        }
    }
}
