//! Lookups and listings of names.

use crate::{
    limits::NAME_LEN_MAX,
    meta::{
        Dentry, DirEntry, FileKind, Ino, Meta, MetaError, database::backing::Scan, schema,
        state::cache::Name,
    },
};

impl Meta {
    /// The inode that a name points to.
    pub async fn lookup(&self, dir: Ino, name: &[u8]) -> Result<Option<Dentry>, MetaError> {
        self.inner.check()?;
        if name.len() > NAME_LEN_MAX {
            return Ok(None);
        }
        let stamp = match self.inner.caches.name(dir, name) {
            Name::Is(dentry) => return Ok(dentry),
            Name::Unknown(stamp) => stamp,
        };
        let value = self.inner.get(&schema::dentry_key(dir, name)).await?;
        let dentry = value
            .map(|value| schema::decode_dentry(&value, self.inner.backing.reader()))
            .transpose()?;
        self.inner.caches.fill_name(stamp, dir, name, dentry);
        if dentry.is_some() {
            self.follow_lookup(dir, name);
        }
        Ok(dentry)
    }

    pub(in crate::meta) async fn existing_name(
        &self,
        dir: Ino,
        name: &[u8],
    ) -> Result<Dentry, MetaError> {
        self.lookup(dir, name).await?.ok_or(MetaError::NotFound)
    }

    /// Up to `limit` entries after `cookie` (0 from the start), in cookie order. An entry that
    /// exists during the whole listing is listed exactly once.
    pub async fn read_dir(
        &self,
        dir: Ino,
        after_cookie: u64,
        limit: usize,
    ) -> Result<Vec<DirEntry>, MetaError> {
        match self.find_inode(dir).await? {
            None => return Err(MetaError::NotFound),
            Some(inode) if inode.kind != FileKind::Directory => {
                return Err(MetaError::NotADirectory);
            }
            Some(inode) if inode.entries == 0 => return Ok(Vec::new()),
            Some(_) => {}
        }
        let stamps = self.inner.caches.listing_stamps();
        let mut rows = self
            .inner
            .scan(schema::listing_range(dir, after_cookie), Scan::Forward)
            .await?;
        let reader = self.inner.backing.reader();
        let mut entries = Vec::new();
        while entries.len() < limit {
            let Some((key, value)) = rows.next().await? else {
                break;
            };
            let cookie = schema::second_of_key(&key)?;
            entries.push(schema::decode_listing(cookie, &value, reader)?);
        }
        let listed = entries.iter().map(|entry| {
            (
                entry.name.as_ref().into(),
                Dentry {
                    ino: entry.ino,
                    kind: entry.kind,
                    cookie: entry.cookie,
                },
            )
        });
        self.inner.caches.fill_listed(&stamps, dir, listed);
        Ok(entries)
    }
}
