//! Buffers that carry the reservation which pays for them.

use bytes::Bytes;

use crate::budget::Reservation;

/// Bytes kept per buffer for the structures around it (map entry, shared counter, allocator).
pub(crate) const BUFFER_OVERHEAD: u64 = 256;

/// Memory of an open file: its state (768 bytes), its readahead window, a few committed extents,
/// entries in tables. Measured with 10,000 of them, which took 1,160 bytes each, and 170 more once
/// they were read.
pub const OPEN_FILE_BYTES: u64 = 1280;

/// Memory that a file with uncommitted contents takes beyond them: its state, the first node of its
/// overlay and that of its write-back in flight (768 bytes each as the allocator rounds up), the
/// write-back itself (192 bytes), entries in two tables and a lock.
pub(crate) const STATE_BYTES: u64 = 2752;

struct Paid {
    bytes: Vec<u8>,
    _reservation: Reservation,
}

impl AsRef<[u8]> for Paid {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Ties `bytes` to `reservation`: the reservation is given back when the last view of the bytes is
/// dropped.
pub(crate) fn paid_bytes(bytes: Vec<u8>, reservation: Reservation) -> Bytes {
    Bytes::from_owner(Paid {
        bytes,
        _reservation: reservation,
    })
}

#[cfg(test)]
mod tests {
    use super::super::file::FileState;

    #[test]
    fn the_state_of_a_file_is_no_larger_than_what_is_reserved_for_it_allows() {
        // With the two counts of its `Arc`.
        let state = size_of::<FileState>() + 2 * size_of::<usize>();
        assert!(state <= 768, "{state}");
    }
}
