//! Reading along: when names are looked up in the order of their directory, the names that follow
//! are read too.
//!
//! A lookup that the caches do not answer asks all tables for the name, and again for the inode
//! behind it. The more files a volume has, the more tables those are. `git status` does that for
//! each of its files, as do other programs that go through a tree with a list of their own. When
//! the name that was looked up is the very next one in its directory after the one before, the
//! names that follow are read with one scan, and their inodes with another. No lookup waits for
//! that.
//!
//! Only a scan can tell whether it is the very next name, so programs that ask in no order cause
//! some scans in vain. After each of these, twice as many lookups are passed over before the next
//! scan.

use crate::meta::{Dentry, Ino, Meta, MetaError, database::backing::Scan, schema};

/// Names read along: two blocks of a table, about.
const NAMES_MAX: usize = 128;

impl Meta {
    /// To be called when a name was found in the database. The names that follow are read into the
    /// caches if it is the next one in its directory.
    pub(in crate::meta) fn follow_lookup(&self, dir: Ino, name: &[u8]) {
        // Followers keep nothing above the database.
        if self.is_follower() {
            return;
        }
        if let Some(before) = self.inner.in_order.found(dir, name) {
            let (meta, name): (Meta, Box<[u8]>) = (self.clone(), name.into());
            tokio::spawn(async move {
                // An error is reported to the lookup that needs the row.
                let last = meta.read_along(dir, &before, &name).await.unwrap_or(None);
                meta.inner.in_order.ended(dir, last.as_deref());
            });
        }
    }

    /// Reads names after `before` into the caches, and their inodes, if `next` is the first of
    /// them; returns the last one.
    async fn read_along(
        &self,
        dir: Ino,
        before: &[u8],
        next: &[u8],
    ) -> Result<Option<Box<[u8]>>, MetaError> {
        let stamps = self.inner.caches.listing_stamps();
        let range = schema::names_after(dir, before);
        let mut rows = self.inner.scan(range, Scan::Near).await?;
        let reader = self.inner.backing.reader();
        let mut names: Vec<(Box<[u8]>, Dentry)> = Vec::new();
        while names.len() < NAMES_MAX
            && let Some((key, value)) = rows.next().await?
        {
            let name = schema::name_of_key(&key)?;
            if names.is_empty() && *name != *next {
                return Ok(None);
            }
            names.push((name[..].into(), schema::decode_dentry(&value, reader)?));
        }
        let last = names.last().map(|(name, _)| name.clone());
        let inos: Vec<Ino> = names.iter().map(|(_, dentry)| dentry.ino).collect();
        self.inner
            .caches
            .fill_listed(&stamps, dir, names.into_iter());
        self.find_inodes(inos).await?;
        Ok(last)
    }
}
