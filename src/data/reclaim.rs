//! Space reclaim: deleting dead objects, clearing what crashed sessions left, repacking what is mostly dead.
//!
//! Deletes fail closed: an object goes only if the metadata says, durably, that nothing names it, and only after the grace that read-only
//! mounts need, and not while one of these says that it may still read it (`readers.rs`).

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use tracing::{info, warn};

use super::{
    DataError, Inner, WriteBuffer,
    object::{object_key, object_number},
};
use crate::{
    budget::Owner,
    meta::{ExtentSource, Ino, ObjectId, SessionId},
};

/// Objects deleted in one request.
const DELETE_BATCH: usize = 1000;

/// Objects repacked in one round: bounds the traffic that reclaim causes.
const REPACK_BATCH: usize = 8;

/// Extents moved in one step of repacking.
const MOVE_BATCH: usize = 64;

impl Inner {
    pub(super) async fn reclaim_loop(self: Arc<Self>) {
        let work = async {
            if let Err(error) = self.clear_dead_sessions().await {
                warn!("what earlier mounts left behind stays for now: {error}");
            }
            loop {
                self.mark_generation().await;
                tokio::time::sleep(self.config.reclaim_every).await;
                if let Err(error) = self.reclaim_round().await {
                    warn!("space reclaim will be tried again: {error}");
                }
            }
        };
        tokio::select! {
            () = self.stop.cancelled() => {}
            () = work => {}
        }
    }

    /// Deletes the objects that crashed sessions wrote and never committed, and aborts their uploads.
    async fn clear_dead_sessions(&self) -> Result<(), DataError> {
        for dead in self.meta.dead_sessions().await? {
            let prefix = session_prefix(dead.session);
            for pending in self.store.list_multipart(&prefix).await? {
                self.store
                    .abort_multipart(&pending.key, &pending.upload)
                    .await?;
            }
            let mut after: Option<String> = None;
            let mut deleted = 0;
            loop {
                let page = self.store.list_page(&prefix, after.as_deref()).await?;
                let Some(last) = page.last() else { break };
                after = Some(last.key.clone());
                let mut orphaned = Vec::new();
                for entry in &page {
                    let Some(number) = object_number(&entry.key) else {
                        continue;
                    };
                    let object = ObjectId {
                        session: dead.session,
                        number,
                    };
                    if !self.meta.knows_object(object).await? {
                        orphaned.push(entry.key.clone());
                    }
                }
                deleted += orphaned.len();
                if !orphaned.is_empty() {
                    self.store.delete(&orphaned).await?;
                }
            }
            self.meta.end_session(dead.session).await?;
            info!(
                "cleared a session that did not end cleanly: {deleted} uncommitted objects deleted"
            );
        }
        Ok(())
    }

    async fn reclaim_round(self: &Arc<Self>) -> Result<(), DataError> {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let mut before = now.saturating_sub(self.config.garbage_grace).as_secs() as i64;
        if !self.meta.garbage(before, 1).await?.is_empty()
            && let Some(needed_from) = self.needed_from().await?
        {
            before = before.min(needed_from.saturating_sub(1));
        }
        loop {
            let garbage = self.meta.garbage(before, DELETE_BATCH).await?;
            if garbage.is_empty() {
                break;
            }
            let objects: Vec<ObjectId> = garbage.iter().map(|garbage| garbage.object).collect();
            let keys: Vec<String> = objects.iter().map(|object| object_key(*object)).collect();
            self.store.delete(&keys).await?;
            self.meta.forget_garbage(&objects).await?;
        }
        for (object, inos) in self.meta.repack_candidates(REPACK_BATCH).await? {
            self.repack(object, &inos).await?;
        }
        Ok(())
    }

    /// Makes the live bytes of `object` dirty again: write-back moves them into a new pack, and the object dies by itself.
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

    /// Reads a committed run and puts it into the overlay as if it had been written, unless something newer is there.
    async fn move_extent(
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

fn session_prefix(session: SessionId) -> String {
    format!("data/{}/", data_encoding::HEXLOWER.encode(&session.0))
}
