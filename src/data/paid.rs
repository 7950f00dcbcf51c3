//! Buffers that carry the reservation which pays for them.

use bytes::Bytes;

use crate::budget::Reservation;

/// Bytes kept per buffer for the structures around it (map entry, shared counter, allocator).
pub(super) const BUFFER_OVERHEAD: u64 = 256;

struct Paid {
    bytes: Vec<u8>,
    _reservation: Reservation,
}

impl AsRef<[u8]> for Paid {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Ties `bytes` to `reservation`: the reservation is given back when the last view of the bytes is dropped.
pub(super) fn paid_bytes(bytes: Vec<u8>, reservation: Reservation) -> Bytes {
    Bytes::from_owner(Paid {
        bytes,
        _reservation: reservation,
    })
}
