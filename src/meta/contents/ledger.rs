//! The account of live bytes: how many an operation adds to objects and takes from them, settled in
//! its own batch.
//!
//! Promises: an object's record counts exactly the bytes that extents name; an object becomes
//! garbage in the batch that takes its last live byte; in doubt an object is kept. To be settled
//! under the reclaim lock, because records are read, changed and written back.

use std::collections::BTreeMap;

use crate::clock;
use crate::meta::{
    Ino, Meta, MetaError, NewObject, ObjectRecord,
    schema::{self, ObjectKey, RowSource, StoredObject},
    state::change::Change,
};

#[derive(Default)]
struct Entry {
    /// Live bytes, gained minus lost.
    live: i64,
    /// Inodes that came to name it.
    named_by: Vec<Ino>,
}

/// Changes of one operation to the live bytes of objects, until they are settled.
#[derive(Default)]
pub(in crate::meta) struct Ledger {
    entries: BTreeMap<ObjectKey, Entry>,
}

impl Ledger {
    /// Counts bytes that lost their extent.
    pub fn free(&mut self, source: &RowSource, bytes: u64) {
        if let RowSource::Object { object, .. } = source {
            self.entries.entry(*object).or_default().live -= bytes as i64;
        }
    }

    /// Counts bytes that an extent of `ino` now names.
    pub fn name(&mut self, ino: Ino, source: &RowSource, bytes: u64) {
        if let RowSource::Object { object, .. } = source {
            let entry = self.entries.entry(*object).or_default();
            entry.live += bytes as i64;
            if entry.named_by.last() != Some(&ino) {
                entry.named_by.push(ino);
            }
        }
    }
}

impl Meta {
    /// An object's record, from the cache or the database.
    pub(in crate::meta) async fn stored_object(
        &self,
        object: ObjectKey,
    ) -> Result<Option<StoredObject>, MetaError> {
        self.inner.check()?;
        let stamp = match self.inner.caches.object(object) {
            Ok(stored) => return Ok(Some(stored)),
            Err(stamp) => stamp,
        };
        let Some(value) = self.inner.get(&schema::object_key(object)).await? else {
            return Ok(None);
        };
        let stored = schema::decode_object(&value)?;
        self.inner.caches.fill_object(stamp, object, &stored);
        Ok(Some(stored))
    }

    /// Enters the ledger into object records. Objects in `new` may not have one yet. With `last`,
    /// those of them that no extent names are recorded too, as garbage.
    pub(in crate::meta) async fn settle(
        &self,
        ledger: Ledger,
        new: &mut BTreeMap<ObjectKey, NewObject>,
        last: bool,
        change: &mut Change,
    ) -> Result<(), MetaError> {
        let mut entries = ledger.entries;
        if last {
            for object in new.keys() {
                entries.entry(*object).or_default();
            }
        }
        let mut begun: BTreeMap<u32, i64> = BTreeMap::new();
        for (object, entry) in entries {
            let stored = self.stored_object(object).await?;
            let is_new = stored.is_none();
            let stored = match (stored, new.remove(&object)) {
                (Some(stored), _) => stored,
                (None, Some(new)) => StoredObject {
                    record: ObjectRecord {
                        params: new.params,
                        plaintext_len: new.plaintext_len,
                        live_bytes: 0,
                    },
                    died_unix_seconds: None,
                },
                (None, None) if entry.live > 0 => {
                    return Err(MetaError::Store(format!(
                        "object {} of session {} is named but not recorded",
                        object.number, object.session
                    )));
                }
                (None, None) => {
                    tracing::error!(
                        number = object.number,
                        session = object.session,
                        "bytes are freed of an object that is not recorded"
                    );
                    continue;
                }
            };
            if is_new {
                *begun.entry(object.session).or_default() += 1;
            }
            self.settle_one(object, stored, is_new, entry, change)
                .await?;
        }
        for (session, objects) in begun {
            self.inner.sessions.count_objects(session, objects, change);
        }
        Ok(())
    }

    async fn settle_one(
        &self,
        object: ObjectKey,
        stored: StoredObject,
        is_new: bool,
        entry: Entry,
        change: &mut Change,
    ) -> Result<(), MetaError> {
        let was_sparse = !is_new && stored.record.is_sparse();
        let mut next = stored;
        if next.died_unix_seconds.is_some() {
            if entry.live > 0 {
                return Err(MetaError::Store(format!(
                    "object {} of session {} is named after it died",
                    object.number, object.session
                )));
            }
            return Ok(());
        }
        let live = i128::from(next.record.live_bytes) + i128::from(entry.live);
        next.record.live_bytes = match u64::try_from(live) {
            Ok(live) if live <= next.record.plaintext_len => live,
            _ => {
                // A wrong count must not lead to a deletion.
                tracing::error!(number = object.number, session = object.session, live = %live, "an object's live bytes do not add up; it is kept");
                next.record.live_bytes.max(1)
            }
        };
        if !entry.named_by.is_empty() {
            self.add_members(object, is_new, entry.named_by, change)
                .await?;
        }
        if next.record.live_bytes == 0 {
            let died = clock::unix_seconds();
            next.died_unix_seconds = Some(died);
            change.put(schema::garbage_key(died, object), Vec::new());
        }
        match (was_sparse, next.record.is_sparse()) {
            (false, true) => change.put(schema::sparse_key(object), Vec::new()),
            (true, false) => change.delete(schema::sparse_key(object)),
            _ => {}
        }
        change.put_object(object, next);
        Ok(())
    }

    pub(in crate::meta) async fn add_members(
        &self,
        object: ObjectKey,
        is_new: bool,
        mut named_by: Vec<Ino>,
        change: &mut Change,
    ) -> Result<(), MetaError> {
        let before = if is_new {
            Vec::new()
        } else {
            self.members(object).await?
        };
        let count = before.len();
        named_by.extend(before);
        named_by.sort_unstable();
        named_by.dedup();
        if is_new || named_by.len() != count {
            change.put(
                schema::members_key(object),
                schema::encode_members(&named_by),
            );
        }
        Ok(())
    }

    /// Inodes whose extents named an object when they were committed.
    pub(in crate::meta) async fn members(&self, object: ObjectKey) -> Result<Vec<Ino>, MetaError> {
        let value = self.inner.get(&schema::members_key(object)).await?;
        value
            .map(|value| schema::decode_members(&value))
            .transpose()
            .map(Option::unwrap_or_default)
    }
}
