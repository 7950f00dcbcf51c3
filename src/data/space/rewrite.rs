//! Rewriting: all contents that are sealed under an older key epoch are moved into new objects,
//! which are sealed under the newest.
//!
//! It moves as repacking does (`repack.rs`), but all of an object, and several files at a time. The
//! records of objects tell their epochs, so nothing is noted about how far it is: each call takes
//! the objects that are left. It may be stopped anywhere, and what was committed until then counts.
//!
//! The old objects die by themselves. Those that died long enough ago are deleted as it goes, so
//! that a volume does not take twice its space.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use futures::StreamExt;
use tracing::warn;

use super::{Space, repack::Batch};
use crate::{
    data::{DataError, object_key},
    meta::{Ino, ObjectId, ObjectRow, SessionInfo},
    seal::codec::Layout,
};

/// Records that are read at a time, some 150 bytes each.
const RECORDS_AT_ONCE: usize = 1000;

/// Files that are moved at once. Each waits for the store most of the time, and holds a step in
/// memory, which the governor has granted.
const FILES_AT_ONCE: usize = 8;

/// Bytes of files in a batch, from which on no more objects are added.
const BATCH_BYTES: u64 = 32 << 20;

/// So often everything that was moved is committed, whatever write-back would wait for: a process
/// that is killed loses no more than this. Each time costs some round trips.
const COMMIT_BYTES: u64 = 64 << 20;
const COMMIT_AFTER: Duration = Duration::from_secs(10);

/// The contents that are sealed under an older epoch than the newest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OlderContents {
    /// Objects that files have bytes in.
    pub objects: u64,
    /// These bytes.
    pub live_bytes: u64,
    /// Objects that no file has a byte in, and that are not deleted yet.
    pub dead_objects: u64,
    /// Their stored bytes.
    pub dead_bytes: u64,
}

/// How far a rewriting is.
#[derive(Debug, Default)]
pub struct Rewriting {
    total_bytes: AtomicU64,
    moved_bytes: AtomicU64,
}

impl Rewriting {
    /// Bytes of files that were read and are on their way or stored, and those that there were to
    /// be moved.
    pub fn bytes(&self) -> (u64, u64) {
        let total = self.total_bytes.load(Ordering::Relaxed);
        let moved = self.moved_bytes.load(Ordering::Relaxed);
        (moved.min(total), total)
    }
}

/// The outcome of a rewriting.
#[derive(Debug, Default)]
pub struct Rewritten {
    /// Objects of which all was moved.
    pub objects: u64,
    /// Bytes of files that were in them.
    pub bytes: u64,
    /// Why an object could not be read, and its key; of several, the first.
    pub unreadable: Option<(String, DataError)>,
}

/// A pass over the records of all objects.
struct Pass<'a> {
    progress: &'a Rewriting,
    unreadable: Option<(String, DataError)>,
    batch: Batch,
    batch_bytes: u64,
    deleted_at: Instant,
    /// When all that was moved was committed last, and how much that was.
    committed_at: Instant,
    committed_bytes: u64,
}

impl Space {
    /// See [`crate::data::Data::rewrite`].
    pub(crate) async fn rewrite(
        self: &Arc<Self>,
        progress: &Rewriting,
    ) -> Result<Rewritten, DataError> {
        self.mark_generation().await;
        if let Err(error) = self.clear_dead_sessions(false).await {
            warn!("what earlier mounts left behind stays for now: {error}");
        }
        let before = self.older_contents().await?;
        progress
            .total_bytes
            .store(before.live_bytes, Ordering::Relaxed);
        let (mut left, mut unreadable) = (before, None);
        // A move gives way to a commit of the same file, so one pass may leave something.
        while left.objects > 0 {
            unreadable = self.rewrite_pass(progress).await?;
            self.write_back.drain().await?;
            let now = self.older_contents().await?;
            let gets_on = now.live_bytes < left.live_bytes;
            left = now;
            if !gets_on {
                break;
            }
        }
        self.delete_dead().await?;
        Ok(Rewritten {
            objects: before.objects.saturating_sub(left.objects),
            bytes: before.live_bytes.saturating_sub(left.live_bytes),
            unreadable,
        })
    }

    /// See [`crate::data::Data::older_contents`].
    pub(crate) async fn older_contents(&self) -> Result<OlderContents, DataError> {
        let mut older = OlderContents::default();
        for session in self.shared.meta.sessions() {
            let mut first = 0;
            while let Some((rows, next)) = self.rows_from(session, first).await? {
                first = next;
                for row in rows.iter().filter(|row| self.is_older(row)) {
                    if row.died_unix_seconds.is_some() {
                        older.dead_objects += 1;
                        older.dead_bytes += stored_len(row);
                    } else {
                        older.objects += 1;
                        older.live_bytes += row.record.live_bytes;
                    }
                }
            }
        }
        Ok(older)
    }

    /// Moves what can be moved. Returns why some object could not be read.
    async fn rewrite_pass(
        self: &Arc<Self>,
        progress: &Rewriting,
    ) -> Result<Option<(String, DataError)>, DataError> {
        let mut pass = Pass {
            progress,
            unreadable: None,
            batch: Batch::default(),
            batch_bytes: 0,
            deleted_at: Instant::now(),
            committed_at: Instant::now(),
            committed_bytes: progress.bytes().0,
        };
        for session in self.shared.meta.sessions() {
            let mut first = 0;
            while let Some((rows, next)) = self.rows_from(session, first).await? {
                first = next;
                for row in rows.iter().filter(|row| self.is_older(row)) {
                    if row.died_unix_seconds.is_some() {
                        continue;
                    }
                    let inos = self.shared.meta.members_of(row.object).await?;
                    pass.batch.add(row.object, &inos);
                    pass.batch_bytes += row.record.live_bytes;
                    if pass.batch.is_full() || pass.batch_bytes >= BATCH_BYTES {
                        self.rewrite_batch(&mut pass).await?;
                    }
                }
            }
        }
        self.rewrite_batch(&mut pass).await?;
        Ok(pass.unreadable)
    }

    async fn rewrite_batch(self: &Arc<Self>, pass: &mut Pass<'_>) -> Result<(), DataError> {
        let mut members = std::mem::take(&mut pass.batch).members;
        pass.batch_bytes = 0;
        members.sort_unstable();
        members.dedup();
        let files = members.chunk_by(|(one, _), (next, _)| one == next);
        let files = files.filter_map(|file| {
            let objects: BTreeSet<ObjectId> = file.iter().map(|(_, object)| *object).collect();
            file.first().map(|(ino, _)| (*ino, objects))
        });
        let files: Vec<(Ino, BTreeSet<ObjectId>)> = files.collect();
        let moved = Some(&pass.progress.moved_bytes);
        let moves = files
            .into_iter()
            .map(|(ino, objects)| self.move_file(ino, objects, moved));
        let mut moves = futures::stream::iter(moves).buffer_unordered(FILES_AT_ONCE);
        while let Some(failed) = moves.next().await {
            for (object, error) in failed? {
                let unreadable = &mut pass.unreadable;
                unreadable.get_or_insert_with(|| (object_key(object), error));
            }
        }
        let moved_bytes = pass.progress.bytes().0;
        if moved_bytes >= pass.committed_bytes + COMMIT_BYTES
            || pass.committed_at.elapsed() >= COMMIT_AFTER
        {
            self.write_back.drain().await?;
            (pass.committed_at, pass.committed_bytes) = (Instant::now(), moved_bytes);
        }
        if pass.deleted_at.elapsed() >= self.shared.config.reclaim_every {
            pass.deleted_at = Instant::now();
            self.mark_generation().await;
            self.delete_dead().await?;
        }
        Ok(())
    }

    /// Records of a session from this number on, and the number behind the last of them.
    async fn rows_from(
        &self,
        session: SessionInfo,
        first: u64,
    ) -> Result<Option<(Vec<ObjectRow>, u64)>, DataError> {
        let meta = &self.shared.meta;
        let rows = meta.objects_of(session, first, RECORDS_AT_ONCE).await?;
        let last = rows.last().map(|row| row.object.number);
        Ok(last.map(|last| (rows, last.saturating_add(1))))
    }

    fn is_older(&self, row: &ObjectRow) -> bool {
        row.record.params.epoch < self.shared.keys.current_epoch()
    }
}

fn stored_len(row: &ObjectRow) -> u64 {
    let layout = Layout {
        frame_log2: row.record.params.frame_log2,
        plaintext_len: row.record.plaintext_len,
    };
    layout.stored_len()
}
