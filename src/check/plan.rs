//! The plan of a check: its depth and its memory.

use crate::meta::CheckMemory;

/// Faults that are dealt with at a time; each takes some hundred bytes, with its paths perhaps a
/// thousand.
pub(super) const FAULTS_AT_ONCE: usize = 2048;

/// Memory for opening the frames of one range: the HTTP stack's receive buffers and a frame.
const STREAM_BYTES: u64 = 1_310_720;

/// The depth of a check, and the means for it.
#[derive(Clone, Copy, Debug)]
pub struct CheckPlan {
    /// Open every frame of every object.
    pub frames: bool,
    /// Mend. The metadata is open for writing then, and nobody else uses it.
    pub repair: bool,
    /// Memory for counters and for frames on their way.
    pub memory_bytes: u64,
    /// Connections to the store.
    pub connections_max: usize,
}

impl CheckPlan {
    pub(super) fn memory(&self) -> CheckMemory {
        CheckMemory {
            counters_bytes: self.memory_bytes / 4,
            faults_max: FAULTS_AT_ONCE,
        }
    }

    /// Ranges that are fetched at once.
    pub(super) fn streams(&self) -> usize {
        let fit = self.memory_bytes / 2 / STREAM_BYTES;
        usize::try_from(fit)
            .unwrap_or(usize::MAX)
            .clamp(1, self.connections_max.max(1))
    }
}
