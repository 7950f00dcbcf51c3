//! Names with a fallback: the contents that a sync must commit for them, and undoing them after a
//! crash.

use std::sync::{Arc, Weak};

use super::rules::add_link;
use crate::{
    meta::{
        Dentry, FileKind, Ino, Meta, MetaError,
        database::backing::Scan,
        schema::{self, ReplacementRow, Table},
        state::{change::Change, locks::Held},
        volume::Inner,
    },
    telemetry::InLog,
};

impl Meta {
    /// Files that replaced others before their contents were committed: changes of names are
    /// durable only once the contents of all of them are.
    pub fn uncommitted_replacements(&self) -> Vec<Ino> {
        self.inner.replacements.new_files()
    }

    /// Files whose contents must be committed before a sync of `ino` may return. They have a name
    /// that `ino` had before, and after a crash that name would stand for a file older than both.
    pub fn successors(&self, ino: Ino) -> Vec<Ino> {
        self.inner.replacements.successors(ino)
    }

    /// Deletes the inodes whose deletion was deferred and is due.
    pub(in crate::meta) async fn reap_released(&self) {
        loop {
            let Some(ino) = self.inner.replacements.next_released() else {
                return;
            };
            if let Err(error) = self.reap(ino).await {
                // It stays recorded as an orphan: the next mount tries again.
                tracing::warn!("deleting the replaced {} failed: {error}", InLog(ino.0));
            }
        }
    }

    /// Gives each name that a crash left with a fallback back to the file that it falls back to.
    /// For a mount that begins, before anybody else reads or writes.
    pub(in crate::meta) async fn undo_replacements(&self) -> Result<(), MetaError> {
        let mut rows = Vec::new();
        let mut scan = self
            .inner
            .scan(Table::Replacement.all(), Scan::Forward)
            .await?;
        // There are at most as many as one mount may have had.
        while let Some((key, value)) = scan.next().await? {
            rows.push((
                schema::replacement_of_key(&key)?,
                schema::decode_replacement(&value)?,
            ));
        }
        drop(scan);
        for ((new, cookie), row) in &rows {
            self.undo_replacement(*new, *cookie, row).await?;
        }
        if !rows.is_empty() {
            tracing::info!(
                "{} names stand for what they stood for before files were renamed over it whose contents were lost",
                rows.len()
            );
        }
        Ok(())
    }

    async fn undo_replacement(
        &self,
        new: Ino,
        cookie: u64,
        row: &ReplacementRow,
    ) -> Result<(), MetaError> {
        let mut change = Change::default();
        change.delete(schema::replacement_key(new, cookie));
        let stored = self
            .inner
            .get(&schema::dentry_key(row.dir, &row.name))
            .await?;
        let entry = match stored {
            Some(value) => Some(schema::decode_dentry_row(&value)?),
            None => None,
        };
        let replaced = Dentry {
            ino: new,
            kind: FileKind::File,
            cookie,
        };
        if entry == Some((replaced, Some(row.old))) {
            self.fall_back(replaced, row, &mut change).await?;
        }
        self.commit(change, Held::default()).await
    }

    async fn fall_back(
        &self,
        replaced: Dentry,
        row: &ReplacementRow,
        change: &mut Change,
    ) -> Result<(), MetaError> {
        let Some(old) = self.find_inode(row.old.ino).await? else {
            // The old inode is kept as long as the name may need it, so this is a fault. The name
            // stays as it is.
            tracing::error!(
                "{}, which a name falls back to, is gone",
                InLog(row.old.ino.0)
            );
            change.put_name(row.dir, &row.name, replaced);
            return Ok(());
        };
        let mut old = old.as_ref().clone();
        if old.nlink == 0 {
            change.delete(schema::orphan_key(old.ino));
        }
        add_link(&mut old)?;
        change.put_inode(&Arc::new(old));
        let mut lost = self.existing_inode(replaced.ino).await?.as_ref().clone();
        lost.nlink = lost.nlink.saturating_sub(1);
        if lost.nlink == 0 {
            // It is recorded as removed by the mount before this one, so it is deleted with that
            // mount's other orphans.
            change.put_orphan(lost.ino, self.inner.session_number.saturating_sub(1));
        }
        change.put_inode(&Arc::new(lost));
        let dentry = Dentry {
            ino: row.old.ino,
            kind: row.old.kind,
            ..replaced
        };
        change.put_name(row.dir, &row.name, dentry);
        Ok(())
    }
}

/// Deletes inodes whose deletion was deferred, as they become due. Ends when the volume is closed.
pub(in crate::meta) async fn reap_released(inner: Weak<Inner>) {
    loop {
        let due = {
            let Some(inner) = inner.upgrade() else { return };
            let due = inner.replacements.due();
            Meta { inner }.reap_released().await;
            due
        };
        // The wait does not keep the volume alive.
        due.notified().await;
    }
}
