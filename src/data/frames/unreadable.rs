//! Counts of contents that cannot be read: they do not authenticate, or their object is missing.
//!
//! The log's word is the failed request's, which names the inode. A prefetch fails without one,
//! and whoever needs its frames asks for them again.

use std::collections::HashSet;

use parking_lot::Mutex;

use super::Frames;
use crate::seal::SealError;

/// Missing objects that are remembered, so that each is counted once; some 100 bytes each. Once so
/// many are missing, all are forgotten and may be counted again.
const REMEMBERED_MAX: usize = 4096;

/// The objects that were found missing, by their keys.
#[derive(Default)]
pub(crate) struct MissingObjects {
    keys: Mutex<HashSet<String>>,
}

impl MissingObjects {
    fn is_news(&self, key: &str) -> bool {
        let mut keys = self.keys.lock();
        if keys.contains(key) {
            return false;
        }
        if keys.len() >= REMEMBERED_MAX {
            keys.clear();
        }
        keys.insert(key.to_owned())
    }
}

impl Frames {
    /// Counts a read that failed for this reason.
    pub(crate) fn note_unreadable(&self, cause: &SealError) {
        let metrics = self.shared.store.metrics();
        match cause {
            SealError::Missing { path } if self.missing.is_news(path) => {
                metrics.missing_objects.increment();
            }
            SealError::Missing { .. } => {}
            _ => metrics.authentication_failures.increment(),
        }
        tracing::debug!("read: {cause}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_object_is_news_once_and_the_memory_of_them_is_bounded() {
        let missing = MissingObjects::default();
        assert!(missing.is_news("first"));
        assert!(!missing.is_news("first"));
        for number in 1..REMEMBERED_MAX {
            assert!(missing.is_news(&number.to_string()));
        }
        assert!(!missing.is_news("first"));
        assert!(missing.is_news("one more"));
        assert_eq!(missing.keys.lock().len(), 1);
    }
}
