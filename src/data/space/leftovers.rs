//! Objects in the bucket below our prefixes that nothing names: finding them, and deleting them.
//!
//! The rules are those of the reclaim of a mount (`reclaim.rs`, which uses [`clear_session`] from
//! here), but the look is wider: a mount knows only of sessions in its table, and a sweep lists all
//! prefixes that sessions may have written below.
//!
//! Promises: in doubt it keeps. A key that no session could have made is left alone. Beside a
//! living writer (a sweep that only looks) nothing of a session that has not ended is counted, nor
//! of one that the metadata does not know: it may just have begun. Garbage stays for its grace, and
//! for as long as a read-only mount may read it. Keys that are deleted are made here, never taken
//! from a listing.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use super::readers::{NOTE_STORED_LEN_MAX, READERS_PREFIX, SILENT_MAX};
use crate::{
    data::{DataError, object_key, object_number},
    meta::{Meta, ObjectId, SessionId},
    seal::{
        codec::{Layout, open_whole},
        keys::VolumeKeys,
    },
    store::{ListEntry, Store, StoreErrorKind},
};

/// Pages of 1,000 objects that the listing of one session may have: a hundred million objects, one
/// for each of a thousand syncs a second for a day.
pub(crate) const SESSION_PAGES_MAX: u32 = 100_000;
/// Objects deleted in one request.
pub(crate) const DELETE_BATCH: usize = 1000;

/// Dead sessions that stay known until their late requests were looked for: each costs every mount
/// two listings at its beginning. Mounts that are too short to look again would else collect them.
pub(crate) const DEAD_SESSIONS_KEPT: usize = 8;

/// Pages of the metadata's own objects; there are some thousand at most.
const META_PAGES_MAX: u32 = 1000;
/// Inodes without a name that are asked for at a time.
const ORPHANS_AT_ONCE: usize = 256;

/// The objects that a sweep found, and deleted if it was to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Objects that the metadata does not name.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Multipart uploads that nobody goes on with. Their bytes are not known.
    pub uploads: u64,
    /// Objects of which no file has a byte any more, past their grace.
    pub garbage: u64,
    /// Their bytes.
    pub garbage_bytes: u64,
    /// Such objects that stay: they died a moment ago, or a read-only mount may still read them.
    pub garbage_kept: u64,
    /// Their bytes.
    pub garbage_kept_bytes: u64,
    /// Notes of read-only mounts that ended without removing them.
    pub notes: u64,
    /// Removed files that were still held when their mount ended. Their bytes are garbage now, and
    /// go after the grace.
    pub orphans: u64,
    /// Objects of the metadata store that it does not name.
    pub meta_objects: u64,
    /// Their bytes.
    pub meta_bytes: u64,
    /// Prefixes of sessions that were passed over, because they may still be written to, or may be
    /// those of a newer state.
    pub living_sessions: u64,
    /// Keys below our prefixes that nothing of ours has made. They stay.
    pub foreign: u64,
}

impl Swept {
    /// Bytes in all.
    pub fn freed_bytes(&self) -> u64 {
        self.bytes + self.garbage_bytes + self.meta_bytes
    }
}

/// A sweep of one volume.
pub struct Sweep {
    /// The store.
    pub store: Store,
    /// The volume's keys.
    pub keys: Arc<VolumeKeys>,
    /// Open for writing if anything is to be deleted.
    pub meta: Meta,
    /// Delete what is found. Needs the lease.
    pub delete: bool,
    /// Another mount may be writing: never with `delete`.
    pub has_living_writer: bool,
    /// The volume may be older than what is in the bucket (somebody accepted that it went back in
    /// time): objects of sessions that it does not know stay.
    pub keep_unknown_sessions: bool,
    /// How long garbage stays.
    pub garbage_grace: Duration,
}

/// The counts of [`clear_session`].
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cleared {
    pub objects: u64,
    pub bytes: u64,
    pub uploads: u64,
    pub foreign: u64,
}

/// Deletes the objects that died at or before `before_unix_seconds` and whose death is durable,
/// then their rows. After a failure between the two they are deleted again.
pub(crate) async fn delete_garbage(
    store: &Store,
    meta: &Meta,
    before_unix_seconds: i64,
) -> Result<(), DataError> {
    loop {
        let garbage = meta.garbage(before_unix_seconds, DELETE_BATCH).await?;
        if garbage.is_empty() {
            return Ok(());
        }
        let objects: Vec<ObjectId> = garbage.iter().map(|garbage| garbage.object).collect();
        let keys: Vec<String> = objects.iter().map(|object| object_key(*object)).collect();
        store.delete(&keys).await?;
        meta.forget_garbage(&objects).await?;
    }
}

/// Finds the objects that a session wrote and never committed, and its uploads; with `delete`,
/// deletes and aborts them.
pub(crate) async fn clear_session(
    store: &Store,
    meta: &Meta,
    session: SessionId,
    delete: bool,
) -> Result<Cleared, DataError> {
    let prefix = session_prefix(session);
    let mut cleared = Cleared::default();
    for pending in store.list_multipart(&prefix).await? {
        if object_of(session, &pending.key).is_some() {
            if delete {
                store.abort_multipart(&pending.key, &pending.upload).await?;
            }
            cleared.uploads += 1;
        }
    }
    let mut pages = store.pages(&prefix, None, SESSION_PAGES_MAX);
    while let Some(page) = pages.next().await? {
        let mut orphaned = Vec::new();
        for entry in page {
            let Some(object) = object_of(session, &entry.key) else {
                cleared.foreign += 1;
                continue;
            };
            if !meta.knows_object(object).await? {
                orphaned.push(object_key(object));
                cleared.bytes += entry.size;
            }
        }
        cleared.objects += orphaned.len() as u64;
        if delete && !orphaned.is_empty() {
            store.delete(&orphaned).await?;
        }
    }
    Ok(cleared)
}

pub(crate) fn session_prefix(session: SessionId) -> String {
    format!("data/{}/", data_encoding::HEXLOWER.encode(&session.0))
}

/// The object of this session whose key this is; `None` if the session did not make this key.
pub(crate) fn object_of(session: SessionId, key: &str) -> Option<ObjectId> {
    let number = object_number(key)?;
    let object = ObjectId { session, number };
    (object_key(object) == key).then_some(object)
}

/// The session that writes below this prefix.
pub(crate) fn session_of(prefix: &str) -> Option<SessionId> {
    let id = prefix.strip_prefix("data/")?;
    let bytes = data_encoding::HEXLOWER.decode(id.as_bytes()).ok()?;
    Some(SessionId(bytes.try_into().ok()?))
}

impl Sweep {
    /// Sweeps.
    ///
    /// # Errors
    /// The store or the metadata fails. All that was deleted until then was rightly deleted.
    pub async fn run(&self) -> Result<Swept, DataError> {
        let mut swept = Swept::default();
        if self.delete {
            self.delete_orphans(&mut swept).await?;
        }
        self.sweep_sessions(&mut swept).await?;
        let readers = self.sweep_notes(&mut swept).await?;
        self.sweep_garbage(readers > 0, &mut swept).await?;
        if self.delete {
            self.end_dead_sessions().await?;
            self.collect_metadata(&mut swept).await?;
        }
        Ok(swept)
    }

    /// Deletes orphans: files that were removed while they were open in a mount that died. A mount
    /// that begins does the same.
    async fn delete_orphans(&self, swept: &mut Swept) -> Result<(), DataError> {
        loop {
            let orphans = self.meta.orphans(ORPHANS_AT_ONCE).await?;
            if orphans.is_empty() {
                break;
            }
            for ino in orphans {
                self.meta.reap(ino).await?;
                swept.orphans += 1;
            }
        }
        self.meta.flush().await?;
        Ok(())
    }

    async fn sweep_sessions(&self, swept: &mut Swept) -> Result<(), DataError> {
        let known: HashMap<SessionId, bool> = self
            .meta
            .sessions()
            .into_iter()
            .map(|session| (session.session, session.ended))
            .collect();
        let may_be_written = |session: SessionId| match known.get(&session) {
            Some(ended) => self.has_living_writer && !ended,
            None => self.has_living_writer || self.keep_unknown_sessions,
        };
        let (prefixes, beside) = self.store.list_level("data/").await?;
        swept.foreign += beside.len() as u64;
        for prefix in prefixes {
            let Some(session) = session_of(&prefix) else {
                swept.foreign += 1;
                continue;
            };
            if session == self.meta.session() {
                continue;
            }
            if may_be_written(session) {
                swept.living_sessions += 1;
                continue;
            }
            let cleared = clear_session(&self.store, &self.meta, session, self.delete).await?;
            swept.objects += cleared.objects;
            swept.bytes += cleared.bytes;
            if self.delete {
                // Uploads that were only looked at are counted below.
                swept.uploads += cleared.uploads;
            }
            swept.foreign += cleared.foreign;
        }
        // A listing shows no prefix for a session that has nothing but an upload.
        for pending in self.store.list_multipart("data/").await? {
            let prefix = pending
                .key
                .rsplit_once('/')
                .map_or("", |(prefix, _)| prefix);
            let Some(session) = session_of(prefix) else {
                continue;
            };
            let is_ours = object_of(session, &pending.key).is_some();
            if !is_ours || session == self.meta.session() || may_be_written(session) {
                continue;
            }
            if self.delete {
                self.store
                    .abort_multipart(&pending.key, &pending.upload)
                    .await?;
            }
            swept.uploads += 1;
        }
        Ok(())
    }

    /// Notes of readers that have not renewed them for long, by the store's clock alone: it stamps
    /// the notes, and the newest of all objects that are changed all the time. Returns how many
    /// readers may be living.
    async fn sweep_notes(&self, swept: &mut Swept) -> Result<usize, DataError> {
        let notes = self.store.list_page(READERS_PREFIX, None).await?;
        let lease = self.store.list_page(LEASE, None).await?;
        let stamp = |entry: &ListEntry| entry.modified_unix_seconds;
        let now = notes.iter().chain(&lease).map(stamp).max().unwrap_or(0);
        let silent_max = i64::try_from(SILENT_MAX.as_secs()).unwrap_or(i64::MAX);
        let (mut living, mut dead) = (0, Vec::new());
        for note in &notes {
            let is_silent = now.saturating_sub(note.modified_unix_seconds) >= silent_max;
            if !is_silent {
                living += 1;
            } else if self.is_note(&note.key).await? {
                dead.push(note.key.clone());
            } else {
                swept.foreign += 1;
            }
        }
        swept.notes = dead.len() as u64;
        if self.delete && !dead.is_empty() {
            self.store.delete(&dead).await?;
        }
        Ok(living)
    }

    /// Whether it is a reader's note of this volume.
    async fn is_note(&self, key: &str) -> Result<bool, DataError> {
        let max = NOTE_STORED_LEN_MAX;
        match self.store.get_bytes(key, None, max).await {
            Ok((_, stored)) => Ok(open_whole(&self.keys, key, &stored).is_ok()),
            Err(error) if error.kind == StoreErrorKind::NotFound => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    async fn sweep_garbage(&self, has_readers: bool, swept: &mut Swept) -> Result<(), DataError> {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let due = now.saturating_sub(self.garbage_grace).as_secs() as i64;
        for session in self.meta.sessions() {
            let mut first = 0;
            loop {
                let rows = self.meta.objects_of(session, first, DELETE_BATCH).await?;
                let Some(last) = rows.last() else { break };
                first = last.object.number + 1;
                for row in rows {
                    let Some(died) = row.died_unix_seconds else {
                        continue;
                    };
                    let layout = Layout {
                        frame_log2: row.record.params.frame_log2,
                        plaintext_len: row.record.plaintext_len,
                    };
                    let bytes = layout.stored_len();
                    if died > due || has_readers {
                        swept.garbage_kept += 1;
                        swept.garbage_kept_bytes += bytes;
                    } else {
                        swept.garbage += 1;
                        swept.garbage_bytes += bytes;
                    }
                }
            }
        }
        if !self.delete || has_readers {
            return Ok(());
        }
        delete_garbage(&self.store, &self.meta, due).await
    }

    /// As a mount does at its beginning: the latest dead sessions stay known, because a request
    /// that they sent may be carried out late.
    async fn end_dead_sessions(&self) -> Result<(), DataError> {
        let dead = self.meta.dead_sessions().await?;
        let forgotten = dead.len().saturating_sub(DEAD_SESSIONS_KEPT);
        for dead in dead.into_iter().take(forgotten) {
            self.meta.end_session(dead.session).await?;
        }
        Ok(())
    }

    async fn collect_metadata(&self, swept: &mut Swept) -> Result<(), DataError> {
        let before = self.metadata_objects().await?;
        self.meta.collect().await;
        let after = self.metadata_objects().await?;
        for (key, bytes) in before {
            if !after.contains_key(&key) {
                swept.meta_objects += 1;
                swept.meta_bytes += bytes;
            }
        }
        Ok(())
    }

    async fn metadata_objects(&self) -> Result<HashMap<String, u64>, DataError> {
        let mut objects = HashMap::new();
        let mut pages = self.store.pages("meta/", None, META_PAGES_MAX);
        while let Some(page) = pages.next().await? {
            objects.extend(page.into_iter().map(|entry| (entry.key, entry.size)));
        }
        Ok(objects)
    }
}

/// The lease's key. Its holder writes it anew every half minute.
pub(crate) const LEASE: &str = "lease";
