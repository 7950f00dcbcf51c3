//! The parts of a volume, read in streams: how many inodes there are, and what each object holds.

use crate::meta::{
    FileKind, Ino, Meta, MetaError, ObjectId, ObjectRow, SessionInfo,
    database::backing::Scan,
    schema::{self, ObjectKey, Table},
};

use super::cursor::Cursor;

/// The inodes of a volume, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// Regular files with a name.
    pub files: u64,
    /// Directories with a name, the root among them.
    pub directories: u64,
    /// Symbolic links, devices, sockets and the like.
    pub others: u64,
    /// Inodes of any kind without a name, which are still open or wait to be deleted.
    pub nameless: u64,
    /// Records that do not decode.
    pub unreadable: u64,
    /// Sizes of the regular files, holes included; a file with several names counts once.
    pub logical_bytes: u64,
    /// Bytes of all committed extents: holes do not count, files without a name do.
    pub allocated_bytes: u64,
}

/// An object that the metadata names, and how many files had bytes in it when it was committed.
#[derive(Clone, Debug)]
pub struct HeldObject {
    /// Its record.
    pub row: ObjectRow,
    /// Files that it was committed for.
    pub files: u64,
}

/// The objects that the database itself needs.
#[derive(Clone, Debug, Default)]
pub struct DatabaseObjects {
    /// The names of the tables, without their folder and their extension.
    pub tables: Vec<String>,
    /// Log objects up to this number are superfluous.
    pub log_until: u64,
}

impl Meta {
    /// Counts the inodes, going through all of them once.
    ///
    /// # Errors
    /// The metadata cannot be read.
    pub async fn census(&self) -> Result<Census, MetaError> {
        let mut census = Census::default();
        let mut rows = self.inner.scan(Table::Inode.all(), Scan::Forward).await?;
        while let Some((key, value)) = rows.next().await? {
            let inode = schema::ino_of_key(&key).and_then(|ino| schema::decode_inode(ino, &value));
            let Ok(inode) = inode else {
                census.unreadable += 1;
                continue;
            };
            census.allocated_bytes += inode.allocated;
            match inode.kind {
                _ if inode.nlink == 0 => census.nameless += 1,
                FileKind::File => {
                    census.files += 1;
                    census.logical_bytes += inode.size;
                }
                FileKind::Directory => census.directories += 1,
                _ => census.others += 1,
            }
        }
        Ok(census)
    }

    /// As [`Meta::objects_of`], with the number of files of each object.
    ///
    /// # Errors
    /// The metadata cannot be read.
    pub async fn held_objects(
        &self,
        session: SessionInfo,
        first: u64,
        limit: usize,
    ) -> Result<Vec<HeldObject>, MetaError> {
        let rows = self.objects_of(session, first, limit).await?;
        let key = |number| {
            schema::members_key(ObjectKey {
                session: session.number,
                number,
            })
        };
        let Some(last) = rows.last() else {
            return Ok(Vec::new());
        };
        let mut end = key(last.object.number);
        end.push(0);
        let mut members = Cursor::open(&self.inner, key(first)..end).await?;
        let mut held = Vec::with_capacity(rows.len());
        for row in rows {
            let own = key(row.object.number);
            let mut files = 0;
            while members.key().is_some_and(|key| key <= own.as_slice()) {
                if let Some((key, value)) = members.next().await?
                    && *key == *own
                {
                    files = schema::decode_members(&value).map_or(0, |inos| inos.len() as u64);
                }
            }
            held.push(HeldObject { row, files });
        }
        Ok(held)
    }

    /// The record of one object, live or dead.
    ///
    /// # Errors
    /// The metadata cannot be read.
    pub async fn object_row(&self, object: ObjectId) -> Result<Option<ObjectRow>, MetaError> {
        let Some(key) = self.object_key(object).await? else {
            return Ok(None);
        };
        let stored = self.stored_object(key).await?;
        Ok(stored.map(|stored| ObjectRow {
            object,
            record: stored.record,
            died_unix_seconds: stored.died_unix_seconds,
        }))
    }

    /// The files that may have bytes in an object, ascending: those that it was committed for.
    ///
    /// # Errors
    /// The metadata cannot be read.
    pub async fn files_of(&self, object: ObjectId) -> Result<Vec<Ino>, MetaError> {
        let Some(key) = self.object_key(object).await? else {
            return Ok(Vec::new());
        };
        match self.inner.get(&schema::members_key(key)).await? {
            Some(value) => schema::decode_members(&value),
            None => Ok(Vec::new()),
        }
    }

    /// The objects that the database needs in the state that is open here.
    pub fn database_objects(&self) -> DatabaseObjects {
        let manifest = self.manifest();
        let tables = manifest.all_sst_views();
        DatabaseObjects {
            tables: tables.map(|view| view.sst.id.value().to_string()).collect(),
            log_until: manifest.replay_after_wal_id(),
        }
    }
}
