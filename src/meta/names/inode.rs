//! Inode records: reading, changing, the cache above the database.

use std::sync::Arc;

use crate::meta::{
    FileKind, Ino, Inode, Meta, MetaError,
    database::backing::Scan,
    schema,
    state::{cache::Found, change::Change},
};

/// Inode numbers that are read with one scan may lie this far apart. A row that is skipped costs
/// about 60 bytes of a read, a second scan costs a request.
const RUN_GAP_MAX: u64 = 64;
/// A run of this many inodes or more is scanned. Fewer are read one by one, which Bloom filters
/// make cheap.
const RUN_LEN_MIN: usize = 3;

impl Meta {
    /// The committed record, from the cache or the database.
    pub async fn inode(&self, ino: Ino) -> Result<Option<Inode>, MetaError> {
        Ok(self
            .find_inode(ino)
            .await?
            .map(|inode| inode.as_ref().clone()))
    }

    /// As [`Meta::inode`], shared with the cache.
    pub(in crate::meta) async fn find_inode(
        &self,
        ino: Ino,
    ) -> Result<Option<Arc<Inode>>, MetaError> {
        self.inner.check()?;
        let stamp = match self.inner.caches.inode(ino) {
            Ok(inode) => return Ok(Some(inode)),
            Err(stamp) => stamp,
        };
        let Some(value) = self.inner.get(&schema::inode_key(ino)).await? else {
            return Ok(None);
        };
        let inode = Arc::new(schema::decode_inode(ino, &value)?);
        self.inner.caches.fill_inode(stamp, &inode);
        Ok(Some(inode))
    }

    pub(in crate::meta) async fn existing_inode(&self, ino: Ino) -> Result<Arc<Inode>, MetaError> {
        self.find_inode(ino).await?.ok_or(MetaError::NotFound)
    }

    /// A directory that has a name.
    pub(in crate::meta) async fn live_directory(&self, dir: Ino) -> Result<Arc<Inode>, MetaError> {
        let inode = self.existing_inode(dir).await?;
        match inode.kind {
            FileKind::Directory if inode.nlink == 0 => Err(MetaError::NotFound),
            FileKind::Directory => Ok(inode),
            _ => Err(MetaError::NotADirectory),
        }
    }

    /// Reads several records, in order. Neighbours are read with range scans, so that listing a
    /// cold directory takes few requests.
    pub async fn inodes(&self, inos: &[Ino]) -> Result<Vec<Option<Inode>>, MetaError> {
        let found = self.find_inodes(inos.iter().copied()).await?;
        Ok(inos
            .iter()
            .map(|ino| found.get(ino).map(|inode| inode.as_ref().clone()))
            .collect())
    }

    pub(in crate::meta) async fn find_inodes(
        &self,
        inos: impl IntoIterator<Item = Ino>,
    ) -> Result<Found, MetaError> {
        self.inner.check()?;
        let mut found = Found::new();
        let mut missing = Vec::new();
        for ino in inos {
            match self.inner.caches.inode(ino) {
                Ok(inode) => {
                    found.insert(ino, inode);
                }
                Err(stamp) => missing.push((ino, stamp)),
            }
        }
        missing.sort_unstable_by_key(|(ino, _)| *ino);
        missing.dedup_by_key(|(ino, _)| *ino);
        for run in missing.chunk_by(|(one, _), (next, _)| next.0 - one.0 <= RUN_GAP_MAX) {
            match run {
                [(first, _), .., (last, _)] if run.len() >= RUN_LEN_MIN => {
                    let mut rows = self
                        .inner
                        .scan(schema::inode_range(*first, *last), Scan::Forward)
                        .await?;
                    let mut wanted = run.iter().peekable();
                    while let Some((key, value)) = rows.next().await? {
                        let ino = schema::ino_of_key(&key)?;
                        while wanted.next_if(|(wanted, _)| *wanted < ino).is_some() {}
                        if let Some((ino, stamp)) = wanted.next_if(|(wanted, _)| *wanted == ino) {
                            let inode = Arc::new(schema::decode_inode(*ino, &value)?);
                            self.inner.caches.fill_inode(*stamp, &inode);
                            found.insert(*ino, inode);
                        }
                    }
                }
                run => {
                    for (ino, _) in run {
                        if let Some(inode) = self.find_inode(*ino).await? {
                            found.insert(*ino, inode);
                        }
                    }
                }
            }
        }
        Ok(found)
    }

    /// Changes a record under its lock: `change` sees the present record and edits it. Returns the
    /// new one. `NotFound` if it is gone. `change` must not set the links; the number, the kind and
    /// the counts (`allocated`, `entries`) stay as they were.
    pub async fn update_inode<F>(&self, ino: Ino, change: F) -> Result<Inode, MetaError>
    where
        F: FnOnce(&mut Inode) -> Result<(), MetaError> + Send,
    {
        let held = self.inner.locks.inodes([ino]).await;
        let before = self.existing_inode(ino).await?;
        let mut after = before.as_ref().clone();
        change(&mut after)?;
        after.ino = before.ino;
        after.kind = before.kind;
        after.allocated = before.allocated;
        after.entries = before.entries;
        if after != *before {
            let mut batch = Change::default();
            batch.put_inode(&Arc::new(after.clone()));
            self.commit(batch, held).await?;
        }
        Ok(after)
    }
}
