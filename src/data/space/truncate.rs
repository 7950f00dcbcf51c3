//! Sizes and holes: truncate and punch.

use std::{ops::Range, sync::Arc};

use super::Space;
use crate::{
    budget::Reservation,
    data::{
        DataError,
        file::{FileState, OFFSET_MAX},
        paid::STATE_BYTES,
    },
    meta::{Ino, Timestamp},
};

impl Space {
    pub(crate) async fn truncate(
        self: &Arc<Self>,
        ino: Ino,
        size: u64,
        now: Timestamp,
    ) -> Result<(), DataError> {
        if size > OFFSET_MAX {
            return Err(DataError::TooLarge);
        }
        self.write_back.check()?;
        let file = self.reading.loaded(ino).await?;
        let mut state = self.room_for_state(&file).await?;
        let _no_write_back = file.stream.lock().await;
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
        self.write_back.mark_dirty(&file);
        Ok(())
    }

    /// The reservation for the state of a file with uncommitted changes. It bounds how many files
    /// are changed while nothing can be committed.
    async fn room_for_state(&self, file: &FileState) -> Result<Option<Reservation>, DataError> {
        if file.content.lock().is_paid_for() {
            return Ok(None);
        }
        self.write_back.dirty_room(STATE_BYTES).await.map(Some)
    }

    pub(crate) async fn punch_hole(
        self: &Arc<Self>,
        ino: Ino,
        range: Range<u64>,
        now: Timestamp,
    ) -> Result<(), DataError> {
        self.write_back.check()?;
        let file = self.reading.loaded(ino).await?;
        let mut state = self.room_for_state(&file).await?;
        let _no_write_back = file.stream.lock().await;
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
        self.write_back.mark_dirty(&file);
        if !committed.is_empty() {
            self.shared
                .meta
                .punch_hole(ino, committed, now, now)
                .await?;
            file.content.lock().invalidate_extents();
        }
        Ok(())
    }
}
