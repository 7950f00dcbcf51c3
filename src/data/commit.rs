//! Commits: what is in the store, or goes into the metadata itself, becomes what the metadata says.

use std::{sync::Arc, time::Duration};

use tracing::error;

use super::{DataError, Inner, file::FileState};
use crate::meta::{ContentCommit, Extent, MetaError, NewObject, ObjectId, Timestamp};

/// Pause after a metadata failure.
const META_PAUSE: Duration = Duration::from_secs(1);

/// What a commit of one file says, and what it knew when it was made up.
struct Gathered {
    commit: ContentCommit,
    mtime: Option<Timestamp>,
    ctime: Option<Timestamp>,
    takes_begun: u64,
}

impl Inner {
    /// Commits `object` with all runs of `files` that are still in it, in one batch. `None`: their attributes, and the runs that were taken inline.
    pub(super) async fn commit(
        self: &Arc<Self>,
        object: Option<NewObject>,
        mut files: Vec<Arc<FileState>>,
    ) {
        files.sort_by_key(|file| file.ino);
        files.dedup_by_key(|file| file.ino);
        let id = object.as_ref().map(|object| object.object);
        let objects: Vec<NewObject> = object.into_iter().collect();
        // In inode order, and a truncation takes one only: no cycle.
        let mut locks = Vec::with_capacity(files.len());
        for file in &files {
            locks.push(file.commit.lock().await);
        }
        let gathered: Vec<Gathered> = files.iter().map(|file| gather(file, id)).collect();
        let commits: Vec<ContentCommit> = gathered
            .iter()
            .map(|gathered| gathered.commit.clone())
            .collect();
        loop {
            match self.meta.commit_content(&objects, &commits).await {
                Ok(()) => break,
                Err(error @ MetaError::Fenced) => {
                    self.fail(&error.to_string());
                    return;
                }
                Err(error) => {
                    error!("commit of {} files: {error}", files.len());
                    self.fail(&error.to_string());
                    if self.stop.is_cancelled() {
                        return;
                    }
                    tokio::time::sleep(META_PAUSE).await;
                }
            }
        }
        let committed_at = self.meta.applied();
        for (file, gathered) in files.iter().zip(gathered) {
            let mut content = file.content.lock();
            match id {
                Some(id) => content.overlay.forget_object(id),
                None => content.overlay.forget_inline(gathered.takes_begun),
            }
            content.committed_at = committed_at;
            content.base_size = gathered.commit.size;
            content.mtime = content.mtime.filter(|now| Some(*now) != gathered.mtime);
            content.ctime = content.ctime.filter(|now| Some(*now) != gathered.ctime);
            content.invalidate_extents();
            content.end_take(id, gathered.takes_begun);
        }
        drop(locks);
        if let Some(id) = id {
            self.objects.end(id);
        }
        for file in &files {
            file.progress.notify_waiters();
            self.settle(file);
        }
    }

    /// An object cannot be finished: its runs are gone. Readers and fsync see an error; the rest of the file stands.
    pub(super) fn lost(
        self: &Arc<Self>,
        object: ObjectId,
        files: &[Arc<FileState>],
        cause: &DataError,
    ) {
        let message = format!("written data could not be stored: {cause}");
        error!("{message}");
        self.fail(&message);
        for file in files {
            file.progress.notify_waiters();
        }
        self.objects.end(object);
    }
}

fn gather(file: &FileState, object: Option<ObjectId>) -> Gathered {
    let content = file.content.lock();
    let extents = match object {
        _ if content.discarded => Vec::new(),
        Some(object) => content.overlay.extents_in(object),
        None => content.overlay.inline_extents(),
    };
    let committed_now: u64 = extents.iter().map(|extent| extent.len).sum();
    let nothing_else = content.overlay.total_bytes() == committed_now;
    // While other bytes are still on their way the size covers only what is there: after a crash no file ends in zeros
    // that nobody wrote.
    let size = if nothing_else {
        content.size
    } else {
        let end = extents
            .last()
            .map_or(0, |last: &Extent| last.offset + last.len);
        content.base_size.max(end).min(content.size)
    };
    Gathered {
        commit: ContentCommit {
            ino: file.ino,
            extents,
            size,
            mtime: content.mtime,
            ctime: content.ctime,
            covers: content.committed_with(object, content.takes_begun()),
        },
        mtime: content.mtime,
        ctime: content.ctime,
        takes_begun: content.takes_begun(),
    }
}
