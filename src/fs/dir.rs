//! Directory listings.
//!
//! Nothing is kept between two requests but the cookie: `.` has 1, `..` has 2, and entries have the
//! cookies that [`crate::meta`] gave them for life. So an open directory costs its handle, and an
//! entry that exists during the whole listing is listed exactly once.

use bytes::Bytes;
use nix::errno::Errno;

use super::{Attributes, Fs, FsError};
use crate::{
    budget::Owner,
    meta::{FileKind, Ino},
};

const DOT: u64 = 1;
const DOT_DOT: u64 = 2;

/// Entries read at once: with attributes, about as many as fit the 32 KiB that the C library asks
/// for.
const BATCH: usize = 160;

/// The memory of one request for entries while it is under way: the entries with names and
/// attributes, each twice, at most 0.2 MiB, and the metadata store's own memory for a scan beside
/// its cache.
const LISTING_BYTES: u64 = 256 << 10;

/// One line of a listing.
#[derive(Clone, Debug)]
pub struct Listed {
    /// The cookie with which the listing goes on after this entry.
    pub cookie: u64,
    /// The name.
    pub name: Bytes,
    /// The inode.
    pub ino: Ino,
    /// Its kind.
    pub kind: FileKind,
    /// Its attributes, where they were asked for.
    pub attributes: Option<Attributes>,
}

impl Fs {
    /// Opens a directory.
    ///
    /// # Errors
    /// ENOTDIR, ESTALE, ENFILE.
    pub async fn opendir(&self, ino: Ino) -> Result<u64, FsError> {
        let room = self.inner.table.room_for_dir().await?;
        if self.record(ino).await?.kind != FileKind::Directory {
            return Err(FsError::new(
                Errno::ENOTDIR,
                "listing an inode that is not a directory",
            ));
        }
        self.inner.table.insert_dir(ino, room)
    }

    /// The next entries after `cookie` (0 from the start); none at the end. With `attributes`, each
    /// carries its own.
    ///
    /// # Errors
    /// EBADF, ESTALE.
    pub async fn read_dir(
        &self,
        fh: u64,
        cookie: u64,
        attributes: bool,
    ) -> Result<Vec<Listed>, FsError> {
        let dir = self.inner.table.dir(fh)?;
        let _room = self
            .data()
            .governor()
            .acquire(Owner::Listing, LISTING_BYTES)
            .await;
        let mut listed = Vec::with_capacity(BATCH);
        if cookie < DOT_DOT {
            let record = self.record(dir).await?;
            if cookie < DOT {
                listed.push(dot(DOT, b".", record.ino));
            }
            listed.push(dot(DOT_DOT, b"..", record.parent));
        }
        let after = if cookie <= DOT_DOT { 0 } else { cookie };
        for entry in self
            .meta()
            .read_dir(dir, after, BATCH - listed.len())
            .await?
        {
            listed.push(Listed {
                cookie: entry.cookie,
                name: entry.name,
                ino: entry.ino,
                kind: entry.kind,
                attributes: None,
            });
        }
        if attributes {
            self.add_attributes(dir, &mut listed).await?;
        }
        Ok(listed)
    }

    /// Entries that were removed meanwhile are dropped; an entry that was replaced becomes its
    /// replacement.
    async fn add_attributes(&self, dir: Ino, listed: &mut Vec<Listed>) -> Result<(), FsError> {
        let inos: Vec<Ino> = listed.iter().map(|entry| entry.ino).collect();
        // Live attributes are read before the records: see `getattr`.
        let live: Vec<_> = inos.iter().map(|ino| self.data().live(*ino)).collect();
        let records = self.meta().inodes(&inos).await?;
        for ((entry, record), live) in listed.iter_mut().zip(records).zip(live) {
            entry.attributes = match record {
                Some(record) => {
                    let held = self.data().held_record(entry.ino).await?;
                    Some(Attributes::overlay(&held.unwrap_or(record), live))
                }
                None => self.replacement(dir, entry).await?,
            };
        }
        listed.retain(|entry| entry.attributes.is_some() || entry.cookie <= DOT_DOT);
        Ok(())
    }

    /// The attributes of the inode that took the place of an entry whose inode is gone. A name that
    /// was removed and made again has another cookie, and is listed there.
    async fn replacement(
        &self,
        dir: Ino,
        entry: &mut Listed,
    ) -> Result<Option<Attributes>, FsError> {
        let Some(dentry) = self.meta().lookup(dir, &entry.name).await? else {
            return Ok(None);
        };
        if dentry.cookie != entry.cookie {
            return Ok(None);
        }
        match self.getattr(dentry.ino).await {
            Ok(attributes) => {
                (entry.ino, entry.kind) = (dentry.ino, dentry.kind);
                Ok(Some(attributes))
            }
            Err(error) if error.errno == Errno::ESTALE => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Closes a directory.
    pub fn releasedir(&self, fh: u64) {
        self.release(fh);
    }

    /// Returns when every change of names made before is durable.
    ///
    /// # Errors
    /// EIO.
    pub async fn fsyncdir(&self) -> Result<(), FsError> {
        if !self.read_only() {
            // Until then those names fall back to the inodes that they named before.
            self.data().write_back_replacements().await?;
            self.data().flush().await?;
        }
        Ok(())
    }
}

fn dot(cookie: u64, name: &'static [u8], ino: Ino) -> Listed {
    Listed {
        cookie,
        name: Bytes::from_static(name),
        ino,
        kind: FileKind::Directory,
        attributes: None,
    }
}
