//! The session table: which writable mounts there were, and the small numbers that stand for them
//! in extents.
//!
//! It is held whole in memory. It stays short: an ended session is forgotten when the last object
//! that it wrote is.

use std::collections::BTreeMap;

use parking_lot::Mutex;

use super::{
    DeadSession, Meta, MetaError, ObjectId, SessionId,
    backing::{Backing, Scan},
    change::Change,
    locks::Held,
    schema::{self, ObjectKey, SessionRow, Table},
};

/// The table. Changed under the reclaim lock only (reading needs none).
pub(super) struct Sessions {
    rows: Mutex<BTreeMap<u32, SessionRow>>,
}

impl Sessions {
    pub async fn read(backing: &Backing) -> Result<Sessions, MetaError> {
        let sessions = Sessions {
            rows: Mutex::default(),
        };
        sessions.refresh(backing).await?;
        Ok(sessions)
    }

    async fn refresh(&self, backing: &Backing) -> Result<(), MetaError> {
        let mut read = BTreeMap::new();
        let mut rows = backing.scan(Table::Session.all(), Scan::Forward).await?;
        while let Some((key, value)) = rows.next().await? {
            read.insert(
                schema::session_of_key(&key)?,
                schema::decode_session(&value)?,
            );
        }
        *self.rows.lock() = read;
        Ok(())
    }

    pub fn insert(&self, number: u32, row: SessionRow) {
        self.rows.lock().insert(number, row);
    }

    /// All rows, by their numbers.
    pub fn rows(&self) -> Vec<(u32, SessionRow)> {
        let rows = self.rows.lock();
        rows.iter().map(|(number, row)| (*number, *row)).collect()
    }

    pub fn row(&self, number: u32) -> Option<SessionRow> {
        self.rows.lock().get(&number).copied()
    }

    /// Sets the count of object records. The same rules as for [`Sessions::count_objects`].
    pub fn set_objects(&self, number: u32, objects: u64, change: &mut Change) {
        if let Some(row) = self.rows.lock().get_mut(&number) {
            row.objects = objects;
        }
        self.count_objects(number, 0, change);
    }

    fn number(&self, session: SessionId) -> Option<u32> {
        self.rows
            .lock()
            .iter()
            .rev()
            .find(|(_, row)| row.session == session)
            .map(|(number, _)| *number)
    }

    fn session(&self, number: u32) -> Option<SessionId> {
        self.rows.lock().get(&number).map(|row| row.session)
    }

    /// Counts object records that came or went. Call under the reclaim lock; the new row goes into
    /// `change`.
    pub fn count_objects(&self, number: u32, objects: i64, change: &mut Change) {
        let mut rows = self.rows.lock();
        let Some(row) = rows.get_mut(&number) else {
            return;
        };
        row.objects = row.objects.saturating_add_signed(objects);
        if row.ended && row.objects == 0 {
            rows.remove(&number);
            change.delete(schema::session_key(number));
        } else {
            change.put_session(number, row);
        }
    }
}

impl Meta {
    /// The key of an object, if its session is known (if not, nothing in the database names it).
    pub(super) async fn object_key(
        &self,
        object: ObjectId,
    ) -> Result<Option<ObjectKey>, MetaError> {
        let mut session = self.inner.sessions.number(object.session);
        if session.is_none() && self.is_follower() {
            self.inner.sessions.refresh(&self.inner.backing).await?;
            session = self.inner.sessions.number(object.session);
        }
        Ok(session.map(|session| ObjectKey {
            session,
            number: object.number,
        }))
    }

    /// The object of a key.
    pub(super) async fn object_id(&self, key: ObjectKey) -> Result<ObjectId, MetaError> {
        let mut session = self.inner.sessions.session(key.session);
        if session.is_none() && self.is_follower() {
            self.inner.sessions.refresh(&self.inner.backing).await?;
            session = self.inner.sessions.session(key.session);
        }
        let session = session.ok_or_else(|| {
            MetaError::Store(format!("session {} is named but not recorded", key.session))
        })?;
        Ok(ObjectId {
            session,
            number: key.number,
        })
    }

    /// Sessions other than this one whose objects were not checked since they ended without
    /// `end_session`.
    pub async fn dead_sessions(&self) -> Result<Vec<DeadSession>, MetaError> {
        self.inner.check()?;
        let rows = self.inner.sessions.rows.lock();
        let dead = rows
            .iter()
            .filter(|(number, row)| !row.ended && **number != self.inner.session_number);
        Ok(dead
            .map(|(_, row)| DeadSession {
                session: row.session,
            })
            .collect())
    }

    /// Forgets a session whose leftovers are gone (or this one, at a clean unmount).
    pub async fn end_session(&self, session: SessionId) -> Result<(), MetaError> {
        self.inner.check()?;
        let held = self.inner.locks.reclaim().await;
        let Some(number) = self.inner.sessions.number(session) else {
            return Ok(());
        };
        let mut change = Change::default();
        if let Some(row) = self.inner.sessions.rows.lock().get_mut(&number) {
            row.ended = true;
        }
        self.inner.sessions.count_objects(number, 0, &mut change);
        self.commit(change, Held::default().and(held)).await
    }
}
