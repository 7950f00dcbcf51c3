//! Reads of bytes that are in memory: nothing is asked of the store, the metadata or the disk.

use std::{ops::Range, sync::Arc};

use futures::FutureExt;

use super::{ReadReply, Reading, gather, open_file::OpenFile, plan::Beyond};
use crate::budget::Owner;

impl Reading {
    /// The bytes of a range as far as the file goes, if all of them are in memory and can be had
    /// without waiting.
    pub(crate) fn read_here(
        self: &Arc<Self>,
        open: &OpenFile,
        range: Range<u64>,
    ) -> Option<ReadReply> {
        let size = open.file.content.lock().size;
        let range = range.start..range.end.min(size);
        if range.is_empty() {
            return None;
        }
        let located = self.locate(&open.file, None, range.clone());
        let sources = located.now_or_never()?.ok()?;
        let plan = self.plan(&sources, Beyond::Nothing);
        let reservation = self
            .shared
            .governor
            .try_acquire(Owner::Read, plan.reply_bytes)?;
        let frames = plan.frames_if_here()?;
        let all_paid_for = super::all_paid_for(&sources);
        let pieces = gather(sources, frames).now_or_never()?.ok()?;
        let len = range.end - range.start;
        Some(super::reply(pieces, all_paid_for, len, reservation))
    }
}
