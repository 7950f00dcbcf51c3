//! Sizes and times of contents that are not committed yet, and how explicit changes of times
//! override them.

use super::WriteBack;
use crate::{data::LiveAttributes, meta::Ino};

/// Keeps commits of a file's contents out while its record is changed.
#[must_use]
pub struct AttributeChange {
    _no_commit: Option<tokio::sync::OwnedMutexGuard<()>>,
}

impl WriteBack {
    pub(crate) fn live(&self, ino: Ino) -> Option<LiveAttributes> {
        let file = self.dirty.lock().get(&ino).cloned()?;
        file.content.lock().live()
    }

    pub(crate) async fn begin_attribute_change(&self, ino: Ino, mtime: bool) -> AttributeChange {
        let Some(file) = self.reading.known_file(ino) else {
            return AttributeChange { _no_commit: None };
        };
        let no_commit = file.commit.clone().lock_owned().await;
        let mut content = file.content.lock();
        content.ctime = None;
        if mtime {
            content.mtime = None;
        }
        AttributeChange {
            _no_commit: Some(no_commit),
        }
    }

    pub(crate) fn forget_change_time(&self, ino: Ino) {
        if let Some(file) = self.reading.known_file(ino) {
            file.content.lock().ctime = None;
        }
    }
}
