//! The knowledge that this machine has of a volume.

use crate::seal::{keys::VolumeId, object_store::LogPosition, volume::VolumeHeader};

/// A state of the metadata.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StateSeen {
    /// Grows with every flush of the log that made something durable.
    pub generation: u64,
    /// The newest object of the log, where that is known.
    pub log: Option<LogPosition>,
}

impl StateSeen {
    /// Takes the newer fields from `other`, which is of the same volume.
    pub(super) fn merge(&mut self, other: &StateSeen) {
        self.generation = self.generation.max(other.generation);
        let number = |log: Option<LogPosition>| log.map(|head| head.number);
        if number(other.log) > number(self.log) {
            self.log = other.log;
        }
    }
}

/// The knowledge of a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// Its id.
    pub volume: VolumeId,
    /// Its header's revision; grows with every change of a key slot.
    pub header_revision: u64,
    /// The MAC of the header with that revision.
    pub header_mac: Option<[u8; 32]>,
    /// The newest state of its metadata.
    pub state: StateSeen,
}

impl Known {
    /// The knowledge that an authenticated header gives.
    pub fn of_header(header: &VolumeHeader) -> Known {
        Known {
            volume: header.volume(),
            header_revision: header.revision(),
            header_mac: Some(header.mac()),
            state: StateSeen::default(),
        }
    }

    /// Takes the newer fields from `other`, which is of the same volume.
    pub(super) fn merge(&mut self, other: &Known) {
        if other.header_revision > self.header_revision
            || (other.header_revision == self.header_revision && self.header_mac.is_none())
        {
            self.header_revision = other.header_revision;
            self.header_mac = other.header_mac;
        }
        self.state.merge(&other.state);
    }
}
