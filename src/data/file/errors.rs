//! Errors of one file: each descriptor hears of each one once.

use crate::store::StoreError;

/// Refusals of the file's bytes; each descriptor must hear of each one once.
#[derive(Default)]
pub(crate) struct Errors {
    /// How many there were.
    pub(super) count: u64,
    /// The last one, until a commit succeeds.
    pub(super) standing: Option<StoreError>,
}

impl Errors {
    /// The error that a descriptor which has heard of `seen` of them must hear now; notes that it
    /// has.
    pub(crate) fn report(&self, seen: &mut u64) -> Option<StoreError> {
        let news = *seen < self.count;
        *seen = self.count;
        self.standing.clone().filter(|_| news)
    }

    /// A descriptor that is opened now hears of an error that still stands.
    pub(crate) fn seen_at_open(&self) -> u64 {
        self.count - u64::from(self.standing.is_some())
    }

    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    pub(crate) fn standing(&self) -> Option<&StoreError> {
        self.standing.as_ref()
    }
}
