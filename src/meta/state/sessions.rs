//! The session table: the writable mounts that there were, and the small numbers that stand for
//! them in extents.
//!
//! The table is held whole in memory. It stays short, because an ended session is forgotten with
//! the last object that it wrote.

use std::collections::BTreeMap;

use parking_lot::Mutex;

use super::change::Change;
use crate::meta::{
    MetaError, SessionId,
    database::backing::{Backing, Scan},
    schema::{self, SessionRow, Table},
};

/// The table. It changes only under the reclaim lock; reading needs no lock.
pub(in crate::meta) struct Sessions {
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

    /// Reads the table again, when a follower has met a session that it does not know.
    pub async fn refresh(&self, backing: &Backing) -> Result<(), MetaError> {
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

    pub fn number(&self, session: SessionId) -> Option<u32> {
        self.rows
            .lock()
            .iter()
            .rev()
            .find(|(_, row)| row.session == session)
            .map(|(number, _)| *number)
    }

    pub fn session(&self, number: u32) -> Option<SessionId> {
        self.rows.lock().get(&number).map(|row| row.session)
    }

    /// Sessions that have not ended, except the one with this number.
    pub fn unended_but(&self, own: u32) -> Vec<SessionId> {
        let rows = self.rows.lock();
        let unended = rows
            .iter()
            .filter(|(number, row)| !row.ended && **number != own);
        unended.map(|(_, row)| row.session).collect()
    }

    /// Marks a session as ended. The same rules as for [`Sessions::count_objects`].
    pub fn end(&self, number: u32, change: &mut Change) {
        if let Some(row) = self.rows.lock().get_mut(&number) {
            row.ended = true;
        }
        self.count_objects(number, 0, change);
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
