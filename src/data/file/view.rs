//! The view of a file that a follower reads: its record and its extents as they were at one moment
//! (`read/follow.rs` says how views are used).

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use parking_lot::Mutex;

use super::extents::EXTENTS_PAID_FOR;
use crate::{
    budget::Reservation,
    meta::{Extent, ExtentSource, FileSnapshot, Inode},
};

/// See the module's head.
pub(crate) struct View {
    pub(crate) inode: Inode,
    /// All of them, in order; `None` if they are too many, or there is no room for them.
    pub(crate) extents: Option<Arc<Vec<Extent>>>,
    /// The file has no name any more: the view is its last one, unless it is given a name again.
    pub(crate) orphan: AtomicBool,
    #[expect(dead_code, reason = "held")]
    pub(crate) paid: Option<Reservation>,
}

impl View {
    pub(crate) fn size(&self) -> u64 {
        self.inode.size
    }

    pub(crate) fn is_orphan(&self) -> bool {
        self.orphan.load(Ordering::Acquire)
    }

    pub(crate) fn shows(&self, found: &FileSnapshot) -> bool {
        let extents = self.extents.as_ref().map(|extents| extents.as_slice());
        self.inode == found.inode && extents == found.extents.as_deref()
    }
}

/// A view, the last generation of which it was known to be true, and the last that was looked at.
#[derive(Clone)]
pub(crate) struct Seen {
    pub(crate) view: Arc<View>,
    pub(crate) generation: u64,
    pub(crate) looked_at: u64,
}

/// The view of one file.
#[derive(Default)]
pub(crate) struct ViewSlot {
    pub(crate) seen: Mutex<Option<Seen>>,
    /// The view is another one than when the kernel was last told.
    pub(crate) is_news: AtomicBool,
    pub(crate) looking: tokio::sync::Mutex<()>,
}

impl ViewSlot {
    pub(crate) fn seen(&self) -> Option<Seen> {
        self.seen.lock().clone()
    }
}

/// Memory that a view takes beyond what an open file has paid for.
pub(crate) fn view_cost(extents: &[Extent]) -> u64 {
    let inline: usize = extents
        .iter()
        .map(|extent| match &extent.source {
            ExtentSource::Inline(bytes) => bytes.len(),
            ExtentSource::Object { .. } => 0,
        })
        .sum();
    let beyond = extents.len().saturating_sub(EXTENTS_PAID_FOR);
    let fixed = size_of::<View>() + size_of::<ViewSlot>();
    (fixed + beyond * size_of::<Extent>() + inline) as u64
}
