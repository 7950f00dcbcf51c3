//! Packs: objects that hold pieces of many files.

use std::sync::{Arc, atomic::Ordering};

use super::WriteBack;
use crate::{
    budget::Owner,
    data::{
        file::FileState,
        upload::{PART_SLACK, sealed_bound},
    },
};

/// Packs being uploaded at once.
pub(crate) const PACKS_IN_FLIGHT_MAX: usize = 4;

impl WriteBack {
    /// Packs what is dirty in `files` into one object, if a place for a pack is free.
    pub(super) fn spawn_pack(self: &Arc<Self>, files: Vec<Arc<FileState>>) -> bool {
        let Ok(place) = self.packs.clone().try_acquire_owned() else {
            return false;
        };
        let files: Vec<_> = files
            .into_iter()
            .filter(|file| !file.queued.swap(true, Ordering::AcqRel))
            .collect();
        let write_back = self.clone();
        self.shared.tasks.spawn(async move {
            write_back.pack(&files).await;
            drop(place);
            write_back.wake.notify_one();
        });
        true
    }

    async fn pack(self: &Arc<Self>, files: &[Arc<FileState>]) {
        let dirty_bytes: u64 = files
            .iter()
            .map(|file| file.content.lock().overlay.dirty_bytes())
            .sum();
        let mut writer = None;
        if dirty_bytes > 0 {
            let room = sealed_bound(dirty_bytes).min(self.shared.config.part_bytes) + PART_SLACK;
            let reservation = self.shared.governor.acquire(Owner::Upload, room).await;
            writer.insert(self.begin_object(None)).provide(reservation);
        }
        let mut taken = Vec::with_capacity(files.len());
        for file in files {
            let stream = file.stream.lock().await;
            let is_left = {
                let content = file.content.lock();
                // Bytes of a file that are in flight come first: the rest waits for their commit.
                !content.may_be_packed() || self.leaves_as_it_was(&content)
            };
            if stream.is_none() && !is_left {
                match &mut writer {
                    Some(writer) => {
                        writer.serves(file.ino);
                        self.seal_dirty(file, writer);
                    }
                    None => file.content.lock().begin_attributes(),
                }
                taken.push(file.clone());
            }
            file.queued.store(false, Ordering::Release);
        }
        match writer {
            Some(writer) if taken.is_empty() => writer.abandon(),
            Some(writer) => self.complete(writer).await,
            None => self.commit(taken).await,
        }
    }
}
