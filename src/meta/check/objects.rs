//! Objects: the bytes that files name of them, and the lists that they are on.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{CheckMemory, Collector, Counted, Fault, Halt, cursor::Cursor};
use crate::{
    meta::{
        Ino, Meta, MetaError, ObjectId, ObjectRecord, SessionId,
        schema::{self, ObjectKey, RowSource, StoredObject, Table},
    },
    seal::codec::Layout,
};

/// Memory of one object while its bytes are counted, and of each file in it.
const OBJECT_BYTES: u64 = size_of::<Entry>() as u64;
const MEMBER_BYTES: u64 = size_of::<Ino>() as u64;

/// An object, and the bytes that were counted for it.
struct Entry {
    key: ObjectKey,
    stored: StoredObject,
    found_bytes: u64,
    /// Where its files are in [`Part::members`].
    members: (usize, usize),
}

/// A run of objects, in the order of their keys: from `first` up to but without `end`.
struct Part {
    first: Option<ObjectKey>,
    end: Option<ObjectKey>,
    entries: Vec<Entry>,
    members: Vec<Ino>,
    /// Those whose records do not decode.
    unreadable: Vec<ObjectKey>,
    /// Set if extents that do not decode were passed over. They may name any object, so no object
    /// counts as less alive than its record says then.
    is_short: bool,
}

impl Part {
    fn covers(&self, key: ObjectKey) -> bool {
        self.first.is_none_or(|first| first <= key) && self.end.is_none_or(|end| key < end)
    }

    fn get(&mut self, key: ObjectKey) -> Option<&mut Entry> {
        let at = self.entries.binary_search_by_key(&key, |entry| entry.key);
        self.entries.get_mut(at.ok()?)
    }
}

/// An object that the metadata names.
#[derive(Clone, Debug)]
pub struct ObjectRow {
    /// Its id.
    pub object: ObjectId,
    /// Seal, length and live bytes.
    pub record: ObjectRecord,
    /// When its last live byte was freed; it may be deleted already.
    pub died_unix_seconds: Option<i64>,
}

/// A row of the table of sessions.
#[derive(Clone, Copy, Debug)]
pub struct SessionInfo {
    /// The number that stands for it.
    pub number: u32,
    /// Its id.
    pub session: SessionId,
    /// It ended cleanly, or its leftovers were cleared away.
    pub ended: bool,
}

impl Meta {
    pub(super) async fn check_objects(
        &self,
        memory: CheckMemory,
        found: &mut Collector<'_>,
    ) -> Result<Counted, Halt> {
        let mut counted = Counted::default();
        let mut of_session: BTreeMap<u32, u64> = BTreeMap::new();
        let mut first = None;
        loop {
            let mut part = self
                .part_of_objects(first, memory.counters_bytes, &mut of_session, found)
                .await?;
            self.count_extents(&mut part, found).await?;
            for entry in &part.entries {
                self.check_object(entry, part.is_short, &mut counted, found)
                    .await?;
            }
            first = part.end;
            if first.is_none() {
                break;
            }
        }
        self.check_garbage(found).await?;
        for (number, row) in self.inner.sessions.rows() {
            let objects = of_session.remove(&number).unwrap_or(0);
            if row.objects != objects {
                found.add(Fault::SessionObjects {
                    session: number,
                    recorded: row.objects,
                    found: objects,
                })?;
            }
        }
        Ok(counted)
    }

    /// The objects from `first` on, as many as there may be at a time, with their files. Rows of
    /// the other tables about objects that are not there are reported.
    async fn part_of_objects(
        &self,
        first: Option<ObjectKey>,
        bytes_max: u64,
        of_session: &mut BTreeMap<u32, u64>,
        found: &mut Collector<'_>,
    ) -> Result<Part, Halt> {
        let inner = &*self.inner;
        let from = |table: Table, key: fn(ObjectKey) -> Vec<u8>| {
            first.map_or(table.single(), key)..table.all().end
        };
        let mut objects = Cursor::open(inner, from(Table::Object, schema::object_key)).await?;
        let mut members = Cursor::open(inner, from(Table::Members, schema::members_key)).await?;
        let mut part = Part {
            first,
            end: None,
            entries: Vec::new(),
            members: Vec::new(),
            unreadable: Vec::new(),
            is_short: false,
        };
        let mut bytes = 0;
        while let Some((key, value)) = objects.next().await? {
            let object = schema::object_of_key(&key)?;
            if bytes >= bytes_max && !part.entries.is_empty() {
                part.end = Some(object);
                break;
            }
            *of_session.entry(object.session).or_default() += 1;
            let Ok(stored) = schema::decode_object(&value) else {
                part.unreadable.push(object);
                found.add(Fault::Undecodable {
                    what: "an object record",
                    key,
                    ino: None,
                })?;
                continue;
            };
            if inner.sessions.row(object.session).is_none() {
                found.add(Fault::StrayObject {
                    what: "the record",
                    key: key.clone(),
                })?;
            }
            let begin = part.members.len();
            for ino in take_members(&mut members, object, found).await? {
                part.members.push(ino);
            }
            bytes += OBJECT_BYTES + (part.members.len() - begin) as u64 * MEMBER_BYTES;
            part.entries.push(Entry {
                key: object,
                stored,
                found_bytes: 0,
                members: (begin, part.members.len()),
            });
        }
        if part.end.is_none() {
            while let Some((key, _)) = members.next().await? {
                found.add(stray("a list of files", key))?;
            }
        }
        Ok(part)
    }

    /// Counts the bytes of the objects in `part` that the extents of all files name.
    async fn count_extents(&self, part: &mut Part, found: &mut Collector<'_>) -> Result<(), Halt> {
        let mut rows = Cursor::open(&self.inner, Table::Extent.all()).await?;
        let mut last_member = None;
        while let Some((key, value)) = rows.next().await? {
            let Ok(end) = schema::second_of_key(&key) else {
                continue;
            };
            let Ok(row) = schema::decode_extent(end, &value) else {
                part.is_short = true;
                continue;
            };
            let RowSource::Object { object, at } = row.source else {
                continue;
            };
            if !part.covers(object) || part.unreadable.binary_search(&object).is_ok() {
                continue;
            }
            let ino = Ino(ino_of(&key));
            let range = row.start..end;
            let len = end - row.start;
            let Some(entry) = part.get(object) else {
                found.add(Fault::UnknownObject {
                    ino,
                    range,
                    session: object.session,
                    number: object.number,
                })?;
                continue;
            };
            entry.found_bytes = entry.found_bytes.saturating_add(len);
            let (begin, last) = entry.members;
            let is_within = at
                .checked_add(len)
                .is_some_and(|end| end <= entry.stored.record.plaintext_len);
            if !is_within {
                found.add(Fault::BeyondObject {
                    ino,
                    range,
                    session: object.session,
                    number: object.number,
                })?;
            }
            let files = part.members.get(begin..last).unwrap_or_default();
            if last_member != Some((object, ino)) && files.binary_search(&ino).is_err() {
                found.add(Fault::Member {
                    session: object.session,
                    number: object.number,
                    ino,
                })?;
            }
            last_member = Some((object, ino));
        }
        Ok(())
    }

    async fn check_object(
        &self,
        entry: &Entry,
        is_short: bool,
        counted: &mut Counted,
        found: &mut Collector<'_>,
    ) -> Result<(), Halt> {
        let (key, stored) = (entry.key, &entry.stored);
        let (session, number) = (key.session, key.number);
        if stored.record.live_bytes != entry.found_bytes && !is_short {
            found.add(Fault::LiveBytes {
                session,
                number,
                recorded: stored.record.live_bytes,
                found: entry.found_bytes,
            })?;
        }
        let is_dead = stored.died_unix_seconds.is_some();
        if !is_dead {
            counted.objects += 1;
            counted.stored_bytes = counted.stored_bytes.saturating_add(stored_len(stored));
        }
        let in_sparse = self.inner.get(&schema::sparse_key(key)).await?.is_some();
        let in_garbage = match stored.died_unix_seconds {
            Some(died) => {
                let row = self.inner.get(&schema::garbage_key(died, key)).await?;
                row.is_some()
            }
            None => false,
        };
        let should_be_dead = stored.record.live_bytes == 0;
        let should_be_sparse = stored.record.is_sparse() && !is_dead;
        if in_sparse != should_be_sparse || is_dead != should_be_dead || in_garbage != is_dead {
            found.add(Fault::ObjectLists { session, number })?;
        }
        Ok(())
    }

    /// Checks that the lists of objects to be deleted and to be repacked name no other objects.
    async fn check_garbage(&self, found: &mut Collector<'_>) -> Result<(), Halt> {
        let inner = &*self.inner;
        let mut garbage = Cursor::open(inner, Table::Garbage.all()).await?;
        while let Some((key, _)) = garbage.next().await? {
            let Ok((died, object)) = schema::garbage_of_key(&key) else {
                found.add(stray("a line of the garbage list", key))?;
                continue;
            };
            let stored = inner.get(&schema::object_key(object)).await?;
            let stored = stored.map(|value| schema::decode_object(&value));
            let fits = match &stored {
                Some(Ok(stored)) => stored.died_unix_seconds == Some(died),
                Some(Err(_)) => true,
                None => false,
            };
            if !fits {
                found.add(stray("a line of the garbage list", key))?;
            }
        }
        drop(garbage);
        let mut sparse = Cursor::open(inner, Table::Sparse.all()).await?;
        while let Some((key, _)) = sparse.next().await? {
            let object = schema::object_of_key(&key);
            let is_there = match object {
                Ok(object) => inner.get(&schema::object_key(object)).await?.is_some(),
                Err(_) => false,
            };
            if !is_there {
                found.add(stray("a line of the list to be repacked", key))?;
            }
        }
        Ok(())
    }

    /// The first session number that is surely free.
    pub(super) fn check_sessions_end(&self) -> u32 {
        let rows = self.inner.sessions.rows();
        rows.last().map_or(0, |(number, _)| number + 1)
    }

    /// All sessions that the metadata knows.
    pub fn sessions(&self) -> Vec<SessionInfo> {
        let rows = self.inner.sessions.rows().into_iter();
        rows.map(|(number, row)| SessionInfo {
            number,
            session: row.session,
            ended: row.ended,
        })
        .collect()
    }

    /// The objects of one session, in the order of their numbers, from `first` on; at most `limit`.
    /// Records that do not decode are passed over.
    ///
    /// # Errors
    /// The metadata cannot be read.
    pub async fn objects_of(
        &self,
        session: SessionInfo,
        first: u64,
        limit: usize,
    ) -> Result<Vec<ObjectRow>, MetaError> {
        let key = |number| {
            schema::object_key(ObjectKey {
                session: session.number,
                number,
            })
        };
        let mut end = key(u64::MAX);
        end.push(0);
        let mut rows = Cursor::open(&self.inner, key(first)..end).await?;
        let mut objects = Vec::new();
        while objects.len() < limit {
            let Some((key, value)) = rows.next().await? else {
                break;
            };
            let number = schema::object_of_key(&key)?.number;
            if let Ok(stored) = schema::decode_object(&value) {
                objects.push(ObjectRow {
                    object: ObjectId {
                        session: session.session,
                        number,
                    },
                    died_unix_seconds: stored.died_unix_seconds,
                    record: stored.record,
                });
            }
        }
        Ok(objects)
    }
}

fn stray(what: &'static str, key: Bytes) -> Fault {
    Fault::StrayObject { what, key }
}

fn stored_len(stored: &StoredObject) -> u64 {
    let layout = Layout {
        frame_log2: stored.record.params.frame_log2,
        plaintext_len: stored.record.plaintext_len,
    };
    layout.stored_len()
}

/// The number that a key begins with.
pub(super) fn ino_of(key: &[u8]) -> u64 {
    let number = key.get(1..9).and_then(|bytes| bytes.try_into().ok());
    number.map_or(0, u64::from_be_bytes)
}

/// The files of `object`; lists before it belong to none.
async fn take_members(
    members: &mut Cursor<'_>,
    object: ObjectKey,
    found: &mut Collector<'_>,
) -> Result<Vec<Ino>, Halt> {
    let own = schema::members_key(object);
    loop {
        match members.key() {
            Some(key) if key < own.as_slice() => {
                if let Some((key, _)) = members.next().await? {
                    found.add(stray("a list of files", key))?;
                }
            }
            Some(key) if key == own.as_slice() => {
                let Some((key, value)) = members.next().await? else {
                    return Ok(Vec::new());
                };
                return match schema::decode_members(&value) {
                    Ok(inos) => Ok(inos),
                    Err(_) => {
                        found.add(Fault::Undecodable {
                            what: "an object's members",
                            key,
                            ino: None,
                        })?;
                        Ok(Vec::new())
                    }
                };
            }
            _ => return Ok(Vec::new()),
        }
    }
}
