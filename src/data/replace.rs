//! What renaming over a file needs to know of the contents that are not committed.

use super::{Data, DataError};
use crate::meta::Ino;

/// Keeps commits of a file's contents out until it is dropped.
#[must_use]
pub struct HeldCommits {
    /// The last change of the contents, if they are not all committed.
    pub uncommitted: Option<u64>,
    _no_commit: Option<tokio::sync::OwnedMutexGuard<()>>,
}

impl Data {
    /// Says what of a file is not committed, and keeps that so: a rename decides by it what the name stands for until it is.
    pub async fn hold_commits(&self, ino: Ino) -> HeldCommits {
        let Some(file) = self.inner.known_file(ino) else {
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

    /// Returns when everything written to these files before the call is committed, though it may not be durable.
    pub async fn write_back(&self, inos: impl IntoIterator<Item = Ino>) -> Result<(), DataError> {
        let files = inos.into_iter().map(|ino| self.inner.committed_since(ino));
        futures::future::try_join_all(files).await.map(drop)
    }
}
