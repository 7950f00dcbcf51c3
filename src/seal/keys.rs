//! The keys of an unlocked volume.

use std::sync::Arc;

/// Identifies a volume; public.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct VolumeId(pub [u8; 16]);

/// Number of a key epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Epoch(pub u32);

/// The epoch keys of an unlocked volume, shared by `Arc`; zeroized when the last holder goes.
pub struct VolumeKeys {
    // private fields
}

impl VolumeKeys {
    /// Random keys for tests and for `init`: epoch 1 only.
    pub fn generate(volume: VolumeId) -> Arc<VolumeKeys> {
        todo!()
    }

    /// The volume that these keys open.
    pub fn volume(&self) -> VolumeId {
        todo!()
    }

    /// The epoch that new objects are sealed under.
    pub fn current_epoch(&self) -> Epoch {
        todo!()
    }
}
