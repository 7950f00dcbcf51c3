//! The sealed object, format 1: header, frames, lengths (`docs/format.md`).

use std::{ops::Range, sync::Arc};

use super::{
    SealError,
    keys::{Epoch, VolumeKeys},
};

/// Length of the header before frame 0.
pub const HEADER_LEN: u64 = 128;
/// Length of the tag behind each frame's ciphertext.
pub const TAG_LEN: u64 = 16;
/// Frame size exponent of data objects (64 KiB).
pub const DATA_FRAME_LOG2: u8 = 16;
/// Frame size exponent of metadata objects (16 KiB).
pub const META_FRAME_LOG2: u8 = 14;

/// What kind of object it is (header byte 12).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObjectKind {
    /// File contents.
    Data = 1,
    /// SlateDB's objects.
    Metadata = 2,
    /// Lease and the like.
    Control = 3,
}

/// What must be known to open an object without reading its header. Stored in metadata for data objects.
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

/// Arithmetic between plaintext and stored bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// log2 of the frame size.
    pub frame_log2: u8,
    /// Plaintext length.
    pub plaintext_len: u64,
}

impl Layout {
    /// Bytes in a full frame of plaintext.
    pub fn frame_len(&self) -> u64 {
        todo!()
    }
    /// Number of frames (at least 1: an empty object has one empty final frame).
    pub fn frame_count(&self) -> u64 {
        todo!()
    }
    /// Bytes in the store, header included.
    pub fn stored_len(&self) -> u64 {
        todo!()
    }
    /// The layout of an object of `stored_len` bytes, if there is one.
    pub fn from_stored_len(frame_log2: u8, stored_len: u64) -> Option<Layout> {
        todo!()
    }
    /// Plaintext length of frame `index`.
    pub fn frame_plaintext_len(&self, index: u64) -> u64 {
        todo!()
    }
    /// The frames that cover a plaintext range.
    pub fn frames_of(&self, plaintext: Range<u64>) -> Range<u64> {
        todo!()
    }
    /// Where those frames are in the stored object.
    pub fn stored_range(&self, frames: Range<u64>) -> Range<u64> {
        todo!()
    }
}

/// Seals one object, once, front to back. Holds the last full frame back until it is known whether it is final.
pub struct Sealer {
    // private fields
}

impl Sealer {
    /// A new object at `path` (volume-relative key) with a fresh random salt under the current epoch.
    pub fn new(keys: &Arc<VolumeKeys>, kind: ObjectKind, frame_log2: u8, path: &str) -> Sealer {
        todo!()
    }
    /// What metadata keeps.
    pub fn params(&self) -> SealParams {
        todo!()
    }
    /// Appends plaintext; sealed bytes (the header first) are appended to `out`. `out` grows by at most
    /// `plaintext.len()` rounded up to frames plus tags plus the header. Frames that lie whole inside
    /// `plaintext` are sealed straight from it into `out` without another copy.
    pub fn push(&mut self, plaintext: &[u8], out: &mut Vec<u8>) {
        todo!()
    }
    /// Plaintext bytes taken so far.
    pub fn plaintext_len(&self) -> u64 {
        todo!()
    }
    /// Seals the final frame into `out`.
    pub fn finish(self, out: &mut Vec<u8>) -> Layout {
        todo!()
    }
}

/// Opens frames of one object in any order. Cheap to clone, shareable between tasks.
#[derive(Clone)]
pub struct Opener {
    // private fields
}

impl Opener {
    /// From authenticated metadata: salt, epoch and length are trusted. `path` is the key that is requested.
    pub fn from_params(keys: &Arc<VolumeKeys>, path: &str, params: SealParams, layout: Layout) -> Result<Opener, SealError> {
        todo!()
    }
    /// From a header read from the store: checks magic, version, volume, commitment. `stored_len` is what the store says; the
    /// caller must open the final frame before trusting it (or use [`Opener::open_object`]).
    pub fn from_header(keys: &Arc<VolumeKeys>, path: &str, header: &[u8], stored_len: u64) -> Result<Opener, SealError> {
        todo!()
    }
    /// The lengths.
    pub fn layout(&self) -> Layout {
        todo!()
    }
    /// Opens frame `index` in place: `frame` holds ciphertext and tag, and afterwards the plaintext only (truncated). On failure
    /// the buffer is wiped.
    pub fn open_in_place(&self, index: u64, frame: &mut Vec<u8>) -> Result<(), SealError> {
        todo!()
    }
    /// Opens a slice in place and returns the plaintext part of it.
    pub fn open_slice<'a>(&self, index: u64, frame: &'a mut [u8]) -> Result<&'a [u8], SealError> {
        todo!()
    }
}

/// Seals a whole small object in memory (control objects, tests).
pub fn seal_whole(keys: &Arc<VolumeKeys>, kind: ObjectKind, frame_log2: u8, path: &str, plaintext: &[u8]) -> Vec<u8> {
    todo!()
}

/// Opens a whole object in memory.
pub fn open_whole(keys: &Arc<VolumeKeys>, path: &str, stored: &[u8]) -> Result<Vec<u8>, SealError> {
    todo!()
}
