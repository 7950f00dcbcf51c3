//! Readahead of a file: what the window of a handle wants is looked up in the file's extents.

use std::{ops::Range, time::Instant};

use super::{Reading, open_file::OpenFile};
use crate::{
    data::{
        DataError,
        file::{FileState, View},
        readahead::StoredRun,
    },
    meta::ExtentSource,
};

impl Reading {
    /// Starts what should be fetched ahead of this handle. Never waits for memory, and failures are
    /// left to the read that wants the bytes.
    pub(crate) async fn read_ahead(
        &self,
        open: &OpenFile,
        view: Option<&View>,
        read: Range<u64>,
        size: u64,
    ) {
        let Some(mut wanted) = self.readahead.wanted(&open.ahead, read, size) else {
            return;
        };
        let file = &open.file;
        let visible_size = view.map_or_else(|| file.content.lock().visible_size(), View::size);
        wanted.file.end = wanted.file.end.min(size).min(visible_size);
        let Ok(runs) = self.stored_runs(file, view, wanted.file.clone()).await else {
            return;
        };
        if self.readahead.fetch(&open.ahead, &wanted, runs) {
            self.scattered.note(file.ino, Instant::now());
        }
    }

    /// The runs of objects that hold `range`, extent by extent.
    async fn stored_runs(
        &self,
        file: &FileState,
        view: Option<&View>,
        range: Range<u64>,
    ) -> Result<Vec<StoredRun>, DataError> {
        let mut runs = Vec::new();
        let mut at = range.start;
        while at < range.end {
            let window = self.extents_ahead(file, view, at..range.end).await?;
            for extent in window.extents.iter() {
                let (from, to) = (
                    extent.offset.max(at),
                    (extent.offset + extent.len).min(range.end),
                );
                if let (true, ExtentSource::Object { object, at: start }) =
                    (from < to, &extent.source)
                {
                    runs.push(StoredRun {
                        object: self.frames.objects.get(*object).await?,
                        range: start + (from - extent.offset)..start + (to - extent.offset),
                        file: from..to,
                        is_scattered: false,
                    });
                }
            }
            at = window.range.end.min(range.end);
        }
        Ok(runs)
    }
}
