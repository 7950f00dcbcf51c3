//! The figures that `status` shows of the contents.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{Data, file::FileState};
use crate::{
    disk::{DiskCache, DiskStatus},
    meta::Ino,
};

/// The figures that `status` shows of this module.
#[derive(Clone, Copy, Debug)]
pub struct DataStatus {
    /// Bytes written and not yet committed.
    pub uncommitted_bytes: u64,
    /// Files that are open or have uncommitted contents.
    pub files: usize,
    /// Files with uncommitted contents.
    pub uncommitted_files: usize,
    /// Objects being written.
    pub objects_in_flight: usize,
    /// Frames in the cache.
    pub cached_frames: usize,
    /// Handles that read ahead now.
    pub readahead_handles: usize,
    /// How long an answer of the store takes to begin, once one has.
    pub latency: Option<Duration>,
    /// Bytes a second that a body brings, once a long one has come.
    pub bandwidth_bytes: Option<u64>,
}

/// How far the store is behind the contents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Uncommitted {
    /// Age of the oldest change that is not committed.
    pub lag: Duration,
    /// Files with bytes that can never be stored.
    pub lost_files: u64,
    /// Nothing can be made durable any more: another mount has taken over.
    pub has_failed: bool,
}

impl Data {
    /// For `status`.
    pub fn uncommitted(&self) -> Uncommitted {
        let mut found = Uncommitted {
            has_failed: self.rooms.write_back.failure().is_some(),
            ..Uncommitted::default()
        };
        let now = Instant::now();
        for file in self.rooms.write_back.dirty_files() {
            let content = file.content.lock();
            found.lost_files += u64::from(content.has_lost());
            if let Some(since) = content.uncommitted_since() {
                found.lag = found.lag.max(now.saturating_duration_since(since));
            }
        }
        found
    }

    /// Bytes written and not yet committed.
    pub fn dirty_bytes(&self) -> u64 {
        let files = self.rooms.write_back.dirty_files();
        files
            .iter()
            .map(|file| file.content.lock().overlay.total_bytes())
            .sum()
    }

    /// Why something cannot be made durable at present, if so, and the file if it is one file's.
    pub fn trouble(&self) -> Option<(Option<Ino>, String)> {
        let store = &self.rooms.shared.store;
        if let Some(why) = self.rooms.write_back.failure() {
            return Some((None, why.to_owned()));
        }
        if let Some(refusal) = store.log_health().refusal() {
            return Some((None, refusal.to_string()));
        }
        let standing = |file: &Arc<FileState>| {
            let content = file.content.lock();
            let error = content.errors.standing()?.to_string();
            Some((Some(file.ino), error))
        };
        let files = self.rooms.write_back.dirty_files();
        files
            .iter()
            .find_map(standing)
            .or_else(|| store.trouble().map(|why| (None, why)))
            .or_else(|| {
                self.rooms
                    .shared
                    .meta
                    .upkeep_trouble()
                    .map(|why| (None, why))
            })
    }

    /// Bytes that bounded tables beside the budget take now, and at most.
    pub fn remembered_bytes(&self) -> (u64, u64) {
        let (handles, handles_max) = self.rooms.frames.objects.handles_bytes();
        let (density, density_max) = self.rooms.readahead.density.lock().held_bytes();
        let (stretches, stretches_max) = self.rooms.readahead.stretches.held_bytes();
        (
            handles + density + stretches,
            handles_max + density_max + stretches_max,
        )
    }

    /// For `status`: the cache on the local disk, if there is one.
    pub fn disk_status(&self) -> Option<DiskStatus> {
        self.rooms.frames.disk.as_ref().map(DiskCache::status)
    }

    /// For `status`.
    pub fn status(&self) -> DataStatus {
        let frames = &self.rooms.frames;
        DataStatus {
            uncommitted_bytes: self.dirty_bytes(),
            files: self.rooms.reading.files.len(),
            uncommitted_files: self.rooms.write_back.dirty.lock().len(),
            objects_in_flight: frames.objects.pending_count(),
            cached_frames: frames.cache.len(),
            readahead_handles: self.rooms.readahead.registry.active(),
            latency: frames.link.latency(),
            bandwidth_bytes: frames.link.bandwidth(),
        }
    }
}
