//! Sizes and holes: truncate, punch, seek.

use std::{ops::Range, sync::Arc};

use crate::{
    budget::Reservation,
    data::{DataError, Inner, OFFSET_MAX, Seek, file::FileState, paid::STATE_BYTES},
    meta::{Ino, Timestamp},
};

impl Inner {
    pub(crate) async fn truncate(
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
        let mut state = self.room_for_state(&file).await?;
        let _no_take = file.take.lock().await;
        let _no_commit = file.commit.lock().await;
        {
            let mut content = file.content.lock();
            if content.discarded {
                return Err(DataError::NotFound);
            }
            content.truncate(size);
            content.touch(now);
            content.invalidate_extents();
            content.pay_for_state(&mut state);
        }
        drop(state);
        self.mark_dirty(&file);
        Ok(())
    }

    /// What is kept of a file with uncommitted changes is paid for, however many files are changed
    /// while nothing can be committed.
    async fn room_for_state(&self, file: &FileState) -> Result<Option<Reservation>, DataError> {
        if file.content.lock().is_paid_for() {
            return Ok(None);
        }
        self.dirty_room(STATE_BYTES).await.map(Some)
    }

    pub(crate) async fn punch_hole(
        self: &Arc<Self>,
        ino: Ino,
        range: Range<u64>,
        now: Timestamp,
    ) -> Result<(), DataError> {
        self.check()?;
        let file = self.loaded(ino).await?;
        let mut state = self.room_for_state(&file).await?;
        let _no_take = file.take.lock().await;
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
            content.punch(range.clone());
            content.touch(now);
            content.pay_for_state(&mut state);
            range.start..range.end.min(content.visible_size())
        };
        drop(state);
        self.mark_dirty(&file);
        if !committed.is_empty() {
            self.meta.punch_hole(ino, committed, now, now).await?;
            file.content.lock().invalidate_extents();
        }
        Ok(())
    }

    pub(crate) async fn seek(
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
        let mut at = offset;
        let mut first = true;
        loop {
            // One look at everything: were a commit to come between two, data would be neither in
            // the overlay nor below the committed size.
            let (view, size, visible_size) = {
                let content = file.content.lock();
                let view = content.overlay.view(at..content.size).into_iter().next();
                (view, content.size, content.visible_size())
            };
            if at >= size {
                let at_end = !first && what == Seek::Hole;
                return Ok(at_end.then_some(size));
            }
            first = false;
            let Some(view) = view else { return Ok(None) };
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
                        .committed_run(&file, at..end.min(visible_size).max(at))
                        .await?;
                    let until = if until <= at { end } else { until };
                    if data == (what == Seek::Data) {
                        return Ok(Some(at));
                    }
                    at = until;
                }
            }
        }
    }

    /// Is there committed data at the start of `range`, and how far does that hold?
    async fn committed_run(
        &self,
        file: &FileState,
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
