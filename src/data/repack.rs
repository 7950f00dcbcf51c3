//! Repacking: what is left of objects that are mostly dead is written again, so that they can go.
//!
//! An object that cannot be read (it was damaged, or its file's metadata was) is passed over. It is
//! tried again after a pause that doubles each time, and each round says in one line what failed.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use tracing::warn;

use super::{DataError, Inner, WriteBuffer};
use crate::{
    budget::Owner,
    meta::{ExtentSource, Ino, ObjectId},
};

/// Objects repacked in one round: bounds the traffic that reclaim causes.
const REPACK_BATCH: usize = 8;

/// Objects that were passed over, in one round: bounds what is read of the metadata.
const PASSED_OVER_MAX: usize = 1024;

/// Extents moved in one step of repacking.
const MOVE_BATCH: usize = 64;

/// Objects whose failures are remembered, some 100 bytes each. Beyond that the one that is due
/// first is forgotten, and tried in its turn.
const FAILURES_MAX: usize = 1024;

/// A damaged object is read about once a day: it may have been restored.
const PAUSE_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// Where repacking is in the list of candidates, and which of them failed lately.
pub(super) struct Repacking {
    /// The pause after a first failure.
    pause_min: Duration,
    /// The candidate that was looked at last; `None`: none since the list's beginning.
    after: Option<ObjectId>,
    failures: BTreeMap<ObjectId, Failures>,
}

struct Failures {
    again_at: Instant,
    pause: Duration,
}

impl Repacking {
    pub(super) fn new(pause_min: Duration) -> Repacking {
        Repacking {
            pause_min,
            after: None,
            failures: BTreeMap::new(),
        }
    }

    fn is_due(&self, object: ObjectId, now: Instant) -> bool {
        self.failures
            .get(&object)
            .is_none_or(|failures| failures.again_at <= now)
    }

    fn failed(&mut self, object: ObjectId, now: Instant) {
        let pause = match self.failures.get(&object) {
            Some(failures) => (failures.pause * 2).min(PAUSE_MAX),
            None => self.pause_min * 2,
        };
        let again_at = now + pause;
        self.failures.insert(object, Failures { again_at, pause });
        if self.failures.len() > FAILURES_MAX {
            let first = self.failures.iter().min_by_key(|(_, next)| next.again_at);
            if let Some(object) = first.map(|(object, _)| *object) {
                self.failures.remove(&object);
            }
        }
    }

    fn succeeded(&mut self, object: ObjectId) {
        self.failures.remove(&object);
    }
}

impl Inner {
    /// Repacks some of the objects that are worth it, going on where the last round ended.
    pub(super) async fn repack_round(
        self: &Arc<Self>,
        repacking: &mut Repacking,
    ) -> Result<(), DataError> {
        let (mut tried, mut passed_over) = (0, 0);
        let mut failed: Vec<(ObjectId, DataError)> = Vec::new();
        while tried < REPACK_BATCH && passed_over < PASSED_OVER_MAX {
            let candidates = self
                .meta
                .repack_candidates(repacking.after, REPACK_BATCH)
                .await?;
            if candidates.is_empty() {
                // The next round begins anew.
                repacking.after = None;
                break;
            }
            for (object, inos) in candidates {
                if tried == REPACK_BATCH {
                    break;
                }
                repacking.after = Some(object);
                if !repacking.is_due(object, Instant::now()) {
                    passed_over += 1;
                    continue;
                }
                tried += 1;
                match self.repack(object, &inos).await {
                    Ok(()) => repacking.succeeded(object),
                    // Nothing else would go better.
                    Err(error @ DataError::Meta(_)) => return Err(error),
                    Err(error) => {
                        repacking.failed(object, Instant::now());
                        failed.push((object, error));
                    }
                }
            }
        }
        if let Some((object, error)) = failed.first() {
            warn!(
                "{} objects cannot be repacked and are passed over; the first is {}: {error}",
                failed.len(),
                super::object::object_key(*object)
            );
        }
        Ok(())
    }

    /// Makes the live bytes of `object` dirty again: write-back moves them into a new pack, and the
    /// object dies by itself.
    async fn repack(self: &Arc<Self>, object: ObjectId, inos: &[Ino]) -> Result<(), DataError> {
        for ino in inos {
            let file = match self.loaded(*ino).await {
                Ok(file) => file,
                Err(DataError::NotFound) => continue,
                Err(error) => return Err(error),
            };
            let mut at = 0;
            loop {
                let extents = self.meta.extents(*ino, at..u64::MAX, MOVE_BATCH).await?;
                let Some(last) = extents.last() else { break };
                at = last.offset + last.len;
                for extent in &extents {
                    if matches!(extent.source, ExtentSource::Object { object: there, .. } if there == object)
                    {
                        self.move_extent(&file, extent.offset, extent.len).await?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Reads a committed run and puts it into the overlay as if it had been written, unless
    /// something newer is there.
    pub(super) async fn move_extent(
        self: &Arc<Self>,
        file: &Arc<super::FileState>,
        offset: u64,
        len: u64,
    ) -> Result<(), DataError> {
        const STEP: u64 = 1 << 20;
        let open = super::Data {
            inner: self.clone(),
        }
        .open(file.ino);
        let mut at = offset;
        while at < offset + len {
            let step = STEP.min(offset + len - at);
            let version = file.content.lock().extents_version;
            let bytes = self.read(&open, at, step as u32).await?.bytes;
            let cost = super::buffer_cost(&bytes);
            let Some(reservation) = self.governor.try_acquire(Owner::Dirty, cost) else {
                // What was read is let go before its turn is waited for, and read again.
                drop(bytes);
                drop(self.governor.acquire(Owner::Dirty, cost).await);
                continue;
            };
            let buffer = WriteBuffer::copy_of(&bytes, reservation);
            drop(bytes);
            let mut state = Some(buffer.state);
            let _no_commit = file.commit.lock().await;
            let moved = {
                let mut content = file.content.lock();
                let untouched = content
                    .overlay
                    .view(at..at + step)
                    .iter()
                    .all(|view| view.piece.is_none());
                let still_there = content.extents_version == version && !content.discarded;
                if untouched && still_there {
                    content.overlay.write(at, buffer.bytes);
                    content.change += 1;
                    content.pay_for_state(&mut state);
                    content
                        .dirty_since
                        .get_or_insert_with(std::time::Instant::now);
                }
                untouched && still_there
            };
            drop(state);
            if moved {
                self.mark_dirty(file);
            }
            at += step;
        }
        Ok(())
    }
}
