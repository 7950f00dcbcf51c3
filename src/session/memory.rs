//! The parts of the process's memory: reservations by owner, the shares that are fixed once, and
//! the unexplained rest.
//!
//! The sum of all parts stands beside the resident memory, so that a part that grows unseen shows
//! as a number. Reservations are made before their buffers are filled, so the sum may also be the
//! larger of the two.

use std::{collections::BTreeMap, os::fd::RawFd};

use nix::sys::socket::{AddressFamily, SockaddrLike, SockaddrStorage, getpeername};
use serde::{Deserialize, Serialize};

use crate::{
    budget::{Governor, Owner},
    meta::{MetaMemory, MetaPart},
    proc,
};

/// An open connection to the store with nothing under way: the pool's entry, TLS state, buffers of
/// 8 to 16 KiB. Measured over TLS.
const CONNECTION_BYTES: u64 = 64 << 10;

/// The memory of a body on its way from the store, beside the frames that it fills: the HTTP
/// stack's read buffer, which grows to 408 KiB on a fast connection, once more while the last piece
/// of it is being opened, and the frame that is being put together from pieces.
const RECEIVING_BYTES: u64 = (2 * 408 + 64) << 10;

/// Memory of the process, bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryStatus {
    /// `--memory`.
    pub limit_bytes: u64,
    /// Resident now.
    pub rss_bytes: u64,
    /// The most that was ever resident.
    pub rss_peak_bytes: u64,
    /// Bytes that the allocator has handed out.
    pub allocated_bytes: u64,
    /// Bytes that the allocator keeps resident.
    pub allocator_resident_bytes: u64,
    /// The part of the limit that reservations are made from.
    pub budget_bytes: u64,
    /// The part of the limit that the metadata store may use.
    pub metadata_bytes: u64,
    /// Reservations by [`Owner`].
    pub owners: BTreeMap<String, OwnerStatus>,
    /// Memory that is not reserved but has a share of its own.
    #[serde(default)]
    pub shares: BTreeMap<String, ShareStatus>,
    /// All owners and shares together.
    #[serde(default)]
    pub explained_bytes: u64,
    /// Resident bytes beyond them; negative where more is reserved than resident.
    #[serde(default)]
    pub unexplained_bytes: i64,
}

/// One owner's reservations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnerStatus {
    /// Reserved now.
    pub current_bytes: u64,
    /// The most that was ever reserved.
    pub peak_bytes: u64,
    /// Requests waiting for room.
    pub waiting: u64,
}

/// A fixed share.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShareStatus {
    /// Held now.
    pub current_bytes: u64,
    /// The bound; `None` for a share that is only measured.
    pub bound_bytes: Option<u64>,
}

impl ShareStatus {
    fn measured(current_bytes: u64) -> ShareStatus {
        ShareStatus {
            current_bytes,
            bound_bytes: None,
        }
    }

    fn bounded(current_bytes: u64, bound_bytes: u64) -> ShareStatus {
        ShareStatus {
            current_bytes,
            bound_bytes: Some(bound_bytes),
        }
    }
}

impl From<MetaPart> for ShareStatus {
    fn from(part: MetaPart) -> ShareStatus {
        ShareStatus::bounded(part.current_bytes, part.bound_bytes)
    }
}

/// The figures that the fixed shares are computed from.
#[derive(Clone, Copy, Debug)]
pub struct Fixed {
    /// Allocated before the volume was opened: runtime, certificates, the SDK's tables.
    pub runtime_bytes: u64,
    /// The buffers that the FUSE threads read requests into.
    pub request_buffers_bytes: u64,
    /// Bounded tables of the data path: (now, at most).
    pub remembered: (u64, u64),
    /// Index, queue and buffers of the cache on the local disk: (now, at most).
    pub disk_cache: (u64, u64),
    /// The metadata store and the caches above it.
    pub metadata: MetaMemory,
    /// Opened pieces of the metadata store's objects: (now, at most).
    pub metadata_objects: (u64, u64),
    /// The queue and the buffers of a recording, if there is one.
    pub recording: Option<u64>,
    /// Bodies being downloaded.
    pub downloads: u64,
    /// Connections to the store, at most.
    pub connections_max: u64,
}

impl Fixed {
    fn shares(&self, memory: &MemoryStatus, file_bytes: u64) -> BTreeMap<String, ShareStatus> {
        let pair = |(current, bound)| ShareStatus::bounded(current, bound);
        let connections = store_connections() * CONNECTION_BYTES + self.downloads * RECEIVING_BYTES;
        let connections_max = self.connections_max * (CONNECTION_BYTES + RECEIVING_BYTES);
        let kept_free = memory
            .allocator_resident_bytes
            .saturating_sub(memory.allocated_bytes);
        [
            ("code", ShareStatus::measured(file_bytes)),
            ("runtime", ShareStatus::measured(self.runtime_bytes)),
            ("allocator", ShareStatus::measured(kept_free)),
            (
                "fuse_buffers",
                pair((self.request_buffers_bytes, self.request_buffers_bytes)),
            ),
            ("connections", pair((connections, connections_max))),
            ("remembered", pair(self.remembered)),
            ("disk_cache", pair(self.disk_cache)),
            ("metadata_memtables", self.metadata.memtables.into()),
            ("metadata_blocks", self.metadata.blocks.into()),
            ("metadata_records", self.metadata.records.into()),
            ("metadata_objects", pair(self.metadata_objects)),
            ("metadata_compaction", self.metadata.compaction.into()),
        ]
        .into_iter()
        .chain(
            self.recording
                .map(|bytes| ("recording", pair((bytes, bytes)))),
        )
        .map(|(name, share)| (name.to_owned(), share))
        .collect()
    }
}

/// All of it, measured now. `limit_bytes` and `metadata_bytes` are as configured.
pub fn measure(
    governor: &Governor,
    limit_bytes: u64,
    metadata_bytes: u64,
    fixed: &Fixed,
) -> MemoryStatus {
    let resident = Resident::now();
    // The allocator's figures stand still until its epoch is advanced.
    let _ = tikv_jemalloc_ctl::epoch::advance();
    let owners: BTreeMap<String, OwnerStatus> = governor
        .usage()
        .into_iter()
        .map(|usage| {
            let status = OwnerStatus {
                current_bytes: usage.current_bytes,
                peak_bytes: usage.peak_bytes,
                waiting: usage.waiting as u64,
            };
            (Owner::name(usage.owner).to_owned(), status)
        })
        .collect();
    let mut memory = MemoryStatus {
        limit_bytes,
        rss_bytes: resident.now_bytes,
        rss_peak_bytes: resident.peak_bytes,
        allocated_bytes: figure(tikv_jemalloc_ctl::stats::allocated::read()),
        allocator_resident_bytes: figure(tikv_jemalloc_ctl::stats::resident::read()),
        budget_bytes: governor.capacity_bytes(),
        metadata_bytes,
        owners,
        ..MemoryStatus::default()
    };
    memory.shares = fixed.shares(&memory, resident.file_bytes);
    let reserved: u64 = memory
        .owners
        .values()
        .map(|owner| owner.current_bytes)
        .sum();
    let shares: u64 = memory
        .shares
        .values()
        .map(|share| share.current_bytes)
        .sum();
    memory.explained_bytes = reserved + shares;
    memory.unexplained_bytes =
        memory.rss_bytes.cast_signed() - memory.explained_bytes.cast_signed();
    memory
}

/// Bytes that the allocator has handed out at this moment.
pub fn allocated_bytes() -> u64 {
    let _ = tikv_jemalloc_ctl::epoch::advance();
    figure(tikv_jemalloc_ctl::stats::allocated::read())
}

fn figure(read: Result<usize, tikv_jemalloc_ctl::Error>) -> u64 {
    read.map_or(0, |bytes| bytes as u64)
}

/// Resident memory of this process in bytes; 0 where the system does not say.
struct Resident {
    now_bytes: u64,
    peak_bytes: u64,
    /// The part of it that is pages of files: the program and its libraries.
    file_bytes: u64,
}

impl Resident {
    fn now() -> Resident {
        let status = proc::Status::of_self();
        Resident {
            now_bytes: status.memory_bytes("VmRSS"),
            peak_bytes: status.memory_bytes("VmHWM"),
            file_bytes: status.memory_bytes("RssFile"),
        }
    }
}

/// Open connections over a network: only the store's client has any, and the few clients of
/// `--metrics-listen`. The pool does not tell how many there are.
fn store_connections() -> u64 {
    let Ok(descriptors) = proc::open_descriptors() else {
        return 0;
    };
    let is_connection = |descriptor: RawFd| {
        getpeername::<SockaddrStorage>(descriptor).is_ok_and(|peer| {
            matches!(
                peer.family(),
                Some(AddressFamily::Inet | AddressFamily::Inet6)
            )
        })
    };
    descriptors
        .into_iter()
        .filter(|descriptor| is_connection(*descriptor))
        .count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resident_memory_is_measured() {
        let resident = Resident::now();
        assert!(resident.now_bytes > 0 && resident.peak_bytes >= resident.now_bytes);
        assert!((1..resident.now_bytes).contains(&resident.file_bytes));
    }

    #[test]
    fn connections_over_a_network_are_counted_and_others_are_not() {
        let before = store_connections();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let _local = std::os::unix::net::UnixStream::pair().unwrap();
        let _client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert!(store_connections() > before);
    }
}
