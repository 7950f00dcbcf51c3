//! Inode records: reading, changing, the cache above the database.

use super::{Ino, Inode, Meta, MetaError};

impl Meta {
    /// The committed record, from the cache or the database.
    pub async fn inode(&self, ino: Ino) -> Result<Option<Inode>, MetaError> {
        todo!()
    }

    /// Several at once, in order: neighbours are read with range scans, so that listing a cold directory takes few requests.
    pub async fn inodes(&self, inos: &[Ino]) -> Result<Vec<Option<Inode>>, MetaError> {
        todo!()
    }

    /// Changes a record under its lock: `change` sees the present record and edits it. Returns the new one. `NotFound` if it is gone.
    pub async fn update_inode<F>(&self, ino: Ino, change: F) -> Result<Inode, MetaError>
    where
        F: FnOnce(&mut Inode) -> Result<(), MetaError> + Send,
    {
        todo!()
    }
}
