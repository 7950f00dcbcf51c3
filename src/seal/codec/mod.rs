//! The sealed object, formats 1 and 2: header, frames, lengths (`docs/format.md`).
//!
//! Promises: an object's key derives from its epoch key, its own random salt, its whole header and
//! the path that it is asked for by; every nonce is used once; a frame opens only in its own place
//! in its own object, and as the last one only if it was sealed as the last one. Never: does I/O,
//! returns a byte of a frame that did not authenticate.

mod cipher;
#[cfg(any(fuzzing, test))]
pub(crate) mod fuzz;
mod header;
mod layout;
mod nonce;
mod opener;
mod sealer;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod vector_tests;

pub use layout::Layout;
pub use opener::{Opener, open_whole};
pub use sealer::{Sealer, seal_whole};

use super::keys::Epoch;

/// Length of the header before frame 0.
pub const HEADER_LEN: u64 = 128;
/// Length of the commitment to an object's key.
pub const COMMITMENT_LEN: usize = 32;
/// Length of a link.
pub const LINK_LEN: usize = 12;
/// The first bytes of another object's commitment, in the header of an object of format 2. No two
/// objects that a holder of the key ever wrote share them by chance (96 bits), and nobody else can
/// make an object that opens.
pub type Link = [u8; LINK_LEN];
/// Length of the tag behind each frame's ciphertext.
pub const TAG_LEN: u64 = 16;
/// Frame size exponent of data objects (64 KiB).
pub const DATA_FRAME_LOG2: u8 = 16;
/// Frame size exponent of metadata objects (16 KiB).
pub const META_FRAME_LOG2: u8 = 14;
/// The smallest frame that is accepted: 1 KiB.
pub const FRAME_LOG2_MIN: u8 = 10;
/// The largest frame that is accepted: 1 MiB, so that a forged header cannot ask for more memory.
pub const FRAME_LOG2_MAX: u8 = 20;

/// The kind of an object (header byte 12).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObjectKind {
    /// File contents.
    Data = 1,
    /// SlateDB's objects.
    Metadata = 2,
    /// Lease and the like.
    Control = 3,
}

/// The fields that open an object without reading its header. The metadata stores them for data
/// objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SealParams {
    /// The object's salt.
    pub salt: [u8; 32],
    /// The epoch its key derives from.
    pub epoch: Epoch,
    /// log2 of the frame size.
    pub frame_log2: u8,
    /// Kind.
    pub kind: ObjectKind,
}
