//! The words of `usage`: kinds of objects, and their counts.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{meta::HeldObject, seal::codec::Layout};

/// The kind of an object. The names are the keys of `usage --json`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Contents of several files.
    Packs,
    /// Contents of one file.
    Single,
    /// Contents that no file has any more, and that wait to be deleted.
    Waiting,
    /// Contents that a mount has stored and not committed yet.
    Uncommitted,
    /// Contents that nothing names and nobody will commit.
    Leftovers,
    /// The metadata's log.
    Log,
    /// The metadata's tables.
    Tables,
    /// The metadata's manifests.
    Manifests,
    /// The metadata's notes about compaction and collection.
    Upkeep,
    /// The volume header and its copy.
    Header,
    /// The lease.
    Lease,
    /// Notes of read-only mounts.
    Notes,
    /// Objects that this program has not made.
    Foreign,
}

/// The objects of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Objects.
    pub objects: u64,
    /// Their stored bytes, as the bucket lists them.
    pub bytes: u64,
    /// Bytes of files in them ([`Kind::Packs`] and [`Kind::Single`]).
    pub live_bytes: u64,
    /// Bytes of contents in them that no file has any more.
    pub dead_bytes: u64,
}

impl Tally {
    fn add(&mut self, other: Tally) {
        self.objects += other.objects;
        self.bytes += other.bytes;
        self.live_bytes += other.live_bytes;
        self.dead_bytes += other.dead_bytes;
    }
}

/// The objects with contents under one key epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EpochTally {
    /// The epoch.
    pub epoch: u32,
    /// Its objects.
    #[serde(flatten)]
    pub tally: Tally,
}

/// Uploads that were begun and not ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Uploads {
    /// Uploads.
    pub uploads: u64,
    /// Bytes of their parts, which the store bills too.
    pub bytes: u64,
    /// So many of them were not asked for their parts.
    pub unmeasured: u64,
}

/// The volume and its bucket in numbers. The names of the fields are the keys of `usage --json`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// The volume.
    pub url: String,
    /// The endpoint is AWS.
    pub is_aws: bool,
    /// Objects by kind; kinds of which there are none are left out.
    pub kinds: BTreeMap<Kind, Tally>,
    /// All of them.
    pub total: Tally,
    /// Those with contents, by the key epoch that they are sealed under, ascending.
    #[serde(default)]
    pub epochs: Vec<EpochTally>,
    /// Unfinished uploads; `None` if the store does not list them.
    pub uploads: Option<Uploads>,
    /// Objects that files need and that are not in the bucket.
    pub missing_objects: u64,
    /// Objects that have another length than their record says.
    pub odd_objects: u64,
    /// Regular files.
    pub files: u64,
    /// Directories.
    pub directories: u64,
    /// Symbolic links and other kinds.
    pub others: u64,
    /// Removed files that are still open, or wait to be deleted.
    pub nameless: u64,
    /// Sizes of the files, holes included.
    pub logical_bytes: u64,
    /// Bytes of contents that files have; holes do not count.
    pub allocated_bytes: u64,
    /// The part of these that is in the metadata itself.
    pub inline_bytes: u64,
    /// Requests that this took, besides those that read the metadata.
    pub requests: u64,
}

impl Usage {
    /// Stored bytes for each byte of contents; `None` where there are no contents.
    pub fn ratio(&self) -> Option<f64> {
        (self.allocated_bytes > 0).then(|| self.total.bytes as f64 / self.allocated_bytes as f64)
    }

    pub(super) fn add(&mut self, kind: Kind, tally: Tally) {
        self.kinds.entry(kind).or_default().add(tally);
        self.total.add(tally);
    }

    pub(super) fn add_held(&mut self, held: &HeldObject, bytes: u64) {
        let record = &held.row.record;
        let layout = Layout {
            frame_log2: record.params.frame_log2,
            plaintext_len: record.plaintext_len,
        };
        if layout.stored_len() != bytes {
            self.odd_objects += 1;
        }
        let is_dead = held.row.died_unix_seconds.is_some();
        let kind = match held.files {
            _ if is_dead => Kind::Waiting,
            0 | 1 => Kind::Single,
            _ => Kind::Packs,
        };
        let live_bytes = if is_dead { 0 } else { record.live_bytes };
        let tally = Tally {
            objects: 1,
            bytes,
            live_bytes,
            dead_bytes: record.plaintext_len.saturating_sub(live_bytes),
        };
        self.add(kind, tally);
        let epoch = record.params.epoch.0;
        match self.epochs.binary_search_by_key(&epoch, |of| of.epoch) {
            Ok(at) => {
                if let Some(of) = self.epochs.get_mut(at) {
                    of.tally.add(tally);
                }
            }
            Err(at) => self.epochs.insert(at, EpochTally { epoch, tally }),
        }
    }
}
