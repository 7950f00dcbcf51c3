//! Small files that somebody waits for: their bytes go into the metadata itself.

use std::sync::{Arc, atomic::Ordering};

use super::WriteBack;
use crate::data::file::FileState;

impl WriteBack {
    /// Commits all that is dirty in `file` with the bytes in the metadata. A task for each file:
    /// none waits for another's commit.
    pub(super) fn spawn_inline(self: &Arc<Self>, file: &Arc<FileState>) {
        if file.queued.swap(true, Ordering::AcqRel) {
            return;
        }
        let write_back = self.clone();
        let file = file.clone();
        self.shared.tasks.spawn(async move {
            if write_back.begin_inline(&file).await {
                file.queued.store(false, Ordering::Release);
                write_back.commit(vec![file.clone()]).await;
            } else {
                write_back.finish_stream(&file).await;
                file.queued.store(false, Ordering::Release);
            }
            write_back.wake.notify_one();
        });
    }

    /// False if it has grown, or went into an object, since the round looked at it.
    async fn begin_inline(&self, file: &FileState) -> bool {
        let _no_other_write_back = file.stream.lock().await;
        let mut content = file.content.lock();
        let fits = content.fits_inline();
        if fits {
            content.begin_inline();
        }
        fits
    }
}
