//! Sizes and holes: truncate, punch, seek.

use std::{ops::Range, sync::Arc};

use super::{DataError, Inner, OFFSET_MAX, Seek};
use crate::meta::{Ino, Timestamp};

impl Inner {
    pub(super) async fn truncate(
        self: &Arc<Self>,
        ino: Ino,
        size: u64,
        now: Timestamp,
    ) -> Result<(), DataError> {
        if size > OFFSET_MAX {
            return Err(DataError::TooLarge);
        }
        self.check()?;
        let file = self.loaded(ino).await?;
        let _no_commit = file.commit.lock().await;
        let cut_committed = {
            let mut content = file.content.lock();
            if content.discarded {
                return Err(DataError::NotFound);
            }
            content.overlay.cut(size..u64::MAX);
            content.size = size;
            content.touch(now);
            size < content.base_size
        };
        self.mark_dirty(&file);
        if cut_committed {
            self.meta.truncate(ino, size, now, now).await?;
            let mut content = file.content.lock();
            content.base_size = size;
            content.invalidate_extents();
        }
        Ok(())
    }

    pub(super) async fn punch_hole(
        self: &Arc<Self>,
        ino: Ino,
        range: Range<u64>,
        now: Timestamp,
    ) -> Result<(), DataError> {
        self.check()?;
        let file = self.loaded(ino).await?;
        let _no_commit = file.commit.lock().await;
        let committed = {
            let mut content = file.content.lock();
            if content.discarded {
                return Err(DataError::NotFound);
            }
            let range = range.start..range.end.min(content.size);
            if range.is_empty() {
                return Ok(());
            }
            content.overlay.cut(range.clone());
            content.touch(now);
            range.start..range.end.min(content.base_size)
        };
        self.mark_dirty(&file);
        if !committed.is_empty() {
            self.meta.punch_hole(ino, committed, now, now).await?;
            file.content.lock().invalidate_extents();
        }
        Ok(())
    }

    pub(super) async fn seek(
        self: &Arc<Self>,
        ino: Ino,
        offset: u64,
        what: Seek,
    ) -> Result<Option<u64>, DataError> {
        let file = self.file(ino);
        if let Some(view) = self.view(&file).await? {
            return Ok(view.seek(offset, what));
        }
        file.load(&self.meta).await?;
        let (size, base_size) = {
            let content = file.content.lock();
            (content.size, content.base_size)
        };
        if offset >= size {
            return Ok(None);
        }
        let mut at = offset;
        while at < size {
            let view = file
                .content
                .lock()
                .overlay
                .view(at..size)
                .into_iter()
                .next();
            let Some(view) = view else { break };
            match view.piece {
                Some(_) => {
                    if what == Seek::Data {
                        return Ok(Some(at));
                    }
                    at = view.range.end;
                }
                None => {
                    let end = view.range.end;
                    let (data, until) = self
                        .committed_run(&file, at..end.min(base_size).max(at))
                        .await?;
                    let until = if until <= at { end } else { until };
                    if data == (what == Seek::Data) {
                        return Ok(Some(at));
                    }
                    at = until;
                }
            }
        }
        Ok(match what {
            Seek::Data => None,
            Seek::Hole => Some(size),
        })
    }

    /// Is there committed data at the start of `range`, and how far does that hold?
    async fn committed_run(
        &self,
        file: &super::FileState,
        range: Range<u64>,
    ) -> Result<(bool, u64), DataError> {
        if range.is_empty() {
            return Ok((false, range.start));
        }
        let window = self.extents(file, range.clone()).await?;
        for extent in window.extents.iter() {
            let end = extent.offset + extent.len;
            if end <= range.start {
                continue;
            }
            if extent.offset <= range.start {
                return Ok((true, end.min(range.end)));
            }
            return Ok((false, extent.offset.min(range.end)));
        }
        Ok((false, window.range.end.min(range.end)))
    }
}
