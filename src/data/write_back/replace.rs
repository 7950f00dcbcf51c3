//! Uncommitted contents, as far as a rename over a file has to know of them.

use std::sync::Arc;

use super::WriteBack;
use crate::{data::DataError, meta::Ino};

#[cfg(doc)]
use crate::meta::Meta;

/// Keeps commits of a file's contents out until it is dropped.
#[must_use]
pub struct HeldCommits {
    /// The last change of the contents, if they are not all committed.
    pub uncommitted: Option<u64>,
    _no_commit: Option<tokio::sync::OwnedMutexGuard<()>>,
}

impl WriteBack {
    /// Says what of a file is not committed, and keeps that so: a rename decides by it what the
    /// name stands for until it is.
    pub(crate) async fn hold_commits(&self, ino: Ino) -> HeldCommits {
        let Some(file) = self.reading.known_file(ino) else {
            return HeldCommits {
                uncommitted: None,
                _no_commit: None,
            };
        };
        let no_commit = file.commit.clone().lock_owned().await;
        let content = file.content.lock();
        HeldCommits {
            uncommitted: (!content.is_clean()).then_some(content.change),
            _no_commit: Some(no_commit),
        }
    }

    /// Returns when every name that was one of these files' stands for what is committed: neither
    /// theirs nor that of a file which replaced them falls back to anything older. Call when the
    /// files are committed.
    ///
    /// A name may go on to a further file while this waits for the one that has it. Then that one
    /// counts. It ends, because a name passes through a bounded number of files before a rename
    /// waits for what it renames ([`Meta::successors`]).
    ///
    /// # Errors
    /// The store refuses a file that has one of the names, and has it still.
    pub(crate) async fn commit_successors(self: &Arc<Self>, inos: &[Ino]) -> Result<(), DataError> {
        let find = || -> Vec<Ino> {
            let successors = inos.iter().map(|ino| self.shared.meta.successors(*ino));
            successors.flatten().collect()
        };
        let mut successors = find();
        while !successors.is_empty() {
            let written = self.write_back(successors.iter().copied()).await;
            let now = find();
            if successors.iter().any(|ino| now.contains(ino)) {
                written?;
            }
            successors = now;
        }
        Ok(())
    }

    /// Returns when everything that replaced another file before the call is committed, and so
    /// are the names.
    pub(crate) async fn write_back_replacements(self: &Arc<Self>) -> Result<(), DataError> {
        let replacing = self.shared.meta.uncommitted_replacements();
        self.write_back(replacing.iter().copied()).await?;
        self.commit_successors(&replacing).await
    }
}
