//! The follower's side: generations as they are published, and files as they were at one moment.

use std::{sync::Arc, time::Duration};

use super::{Extent, Ino, Inode, Meta, MetaError};

/// How often a file's record and extents are read again because the record changed meanwhile. A
/// look changes them at most once, and looks are far apart.
const VIEW_ATTEMPTS: usize = 8;

/// A file as it was at one moment.
#[derive(Clone, Debug)]
pub struct FileSnapshot {
    /// The generation that was published when the reading began: the snapshot is of that one or of
    /// the next.
    pub generation: u64,
    /// The record.
    pub inode: Inode,
    /// Its extents; `None` if there are more than were asked for.
    pub extents: Option<Vec<Extent>>,
}

impl Meta {
    /// Whether this mount follows another one, which writes.
    pub fn is_follower(&self) -> bool {
        self.inner.pace.is_some()
    }

    /// How often a follower looks for changes of the writer; `None` for the writer.
    pub fn follows_every(&self) -> Option<Duration> {
        self.inner.pace.as_ref().map(|pace| pace.every())
    }

    /// How long a follower will not see anything new; `None` for the writer.
    pub fn unchanged_for(&self) -> Option<Duration> {
        self.inner.pace.as_ref().map(|pace| pace.unchanged_for())
    }

    /// Tells a follower of a request of its user. Returns when what is seen is no older than while
    /// the mount is in use; at once for the writer.
    pub async fn catch_up(&self) {
        if let Some(pace) = &self.inner.pace {
            pace.catch_up().await;
        }
    }

    /// As long as this is held, a follower looks for changes without a pause; `None` for the
    /// writer.
    pub fn watch(&self) -> Option<Arc<()>> {
        self.inner.pace.as_ref().map(|pace| pace.watch())
    }

    /// Returns when a follower sees a later generation than `seen`, with that one. Never returns
    /// for the writer.
    pub async fn generation_after(&self, seen: u64) -> u64 {
        let Some(pace) = &self.inner.pace else {
            return std::future::pending().await;
        };
        let mut published = pace.subscribe();
        let later = published.wait_for(|published| published.is_some_and(|now| now > seen));
        let now = later.await.map(|now| *now).ok().flatten();
        match now {
            Some(now) => now,
            // The volume is closed: nothing will change.
            None => std::future::pending().await,
        }
    }

    /// A file's record together with its extents, if they are at most `extents_max`; `None` if
    /// there is no such inode.
    ///
    /// One scan of the extents is of one moment. If the record is the same before and after it, it
    /// was so at that moment too: the change time never goes back.
    pub async fn file_snapshot(
        &self,
        ino: Ino,
        extents_max: usize,
    ) -> Result<Option<FileSnapshot>, MetaError> {
        for _ in 0..VIEW_ATTEMPTS {
            let generation = self.generation();
            let Some(inode) = self.inode(ino).await? else {
                return Ok(None);
            };
            let extents = self.extents(ino, 0..u64::MAX, extents_max + 1).await?;
            if self.inode(ino).await?.as_ref() == Some(&inode) {
                return Ok(Some(FileSnapshot {
                    generation,
                    inode,
                    extents: (extents.len() <= extents_max).then_some(extents),
                }));
            }
        }
        Err(MetaError::Store(format!(
            "ino:{} changes faster than it can be read",
            ino.0
        )))
    }
}
