//! Mending: a region of a file that has come to lie in many extents, a few at a time, is written
//! again in one piece.
//!
//! A sweep (`write_back/sweep.rs`) sees only what is dirty at its time. A program that writes a few
//! bytes here and there and syncs them leaves a row of metadata or two for each, for good: each
//! later commit and read goes through them. Commits notice such regions (`Meta::take_crowded`), and
//! they are made dirty again here, in the background, so that no fsync waits for what is read.

use std::sync::Arc;

use super::Space;
use crate::data::DataError;

impl Space {
    pub(crate) async fn mend_loop(self: Arc<Self>) {
        let mend = async {
            loop {
                self.write_back.crowded.notified().await;
                while let Some((ino, region)) = self.shared.meta.take_crowded() {
                    // A mount that drains has to make its writes durable, and mending would add to
                    // them.
                    if !self.may_move() {
                        continue;
                    }
                    let mended = async {
                        let file = self.reading.loaded(ino).await?;
                        let end = region.end.min(file.content.lock().visible_size());
                        let len = end.saturating_sub(region.start);
                        self.move_extent(&file, region.start, len).await
                    };
                    match mended.await {
                        Ok(()) | Err(DataError::NotFound) => {}
                        Err(error) => self.write_back.note_unreadable(ino, &region, &error),
                    }
                }
            }
        };
        tokio::select! {
            () = self.shared.stop.cancelled() => {}
            () = mend => {}
        }
    }
}
