//! Commits: what is in the store, or goes into the metadata itself, becomes what the metadata says.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tracing::error;

use super::{WriteBack, named::named};
use crate::{
    data::{
        file::{FileCommit, FileState},
        upload::{ObjectWriter, Unfinished},
    },
    meta::{ContentCommit, MetaError, NewObject},
    store::{StoreError, StoreErrorKind},
};

/// A commit of more files than this takes memory that counts: some KiB for each, until its batch is
/// written. Such commits are made one at a time.
const SMALL_COMMIT_FILES: usize = 64;

/// Pause after a metadata failure.
const META_PAUSE: Duration = Duration::from_secs(1);

impl WriteBack {
    /// Brings an object into the store and commits it.
    pub(crate) async fn complete(self: &Arc<Self>, writer: ObjectWriter) {
        let (id, files) = (writer.id, self.known_files(&writer.inos()));
        match writer.finish().await {
            Ok(new) => self.commit_with(files, Some(new)).await,
            Err(Unfinished::Lost(error)) => {
                error!("written data of {} is lost: {error}", named(&files));
                for file in &files {
                    file.content.lock().object_lost(id, &error);
                }
                self.reading.frames.objects.lose(id, &error);
                self.commit(files.clone()).await;
                for file in &files {
                    file.progress.notify_waiters();
                }
                self.settled.notify_waiters();
            }
            Err(Unfinished::Abandoned) => self.reading.frames.objects.end(id),
        }
    }

    /// Commits what may be committed of `files`.
    pub(crate) async fn commit(self: &Arc<Self>, files: Vec<Arc<FileState>>) {
        self.commit_with(files, None).await;
    }

    /// Commits what may be committed of `files`, in one batch as long as there is something.
    /// `stored` is an object that is in the store now: all its files commit it in the first batch.
    /// If one of them committed it alone and let go of its bytes at once, the object would die
    /// before the others name it.
    async fn commit_with(
        self: &Arc<Self>,
        mut files: Vec<Arc<FileState>>,
        mut stored: Option<NewObject>,
    ) {
        files.sort_by_key(|file| file.ino);
        files.dedup_by_key(|file| file.ino);
        while !files.is_empty() || stored.is_some() {
            let _turn = if files.len() > SMALL_COMMIT_FILES {
                Some(self.large_commit.lock().await)
            } else {
                None
            };
            // These are locked in inode order, and other tasks lock only one: no cycle.
            let mut locks = Vec::with_capacity(files.len());
            for file in &files {
                locks.push(file.commit.lock().await);
            }
            if let Some(new) = stored.take() {
                let mut is_wanted = false;
                for file in &files {
                    is_wanted |= file.content.lock().object_stored(&new);
                }
                if !is_wanted {
                    // The files of the object were removed meanwhile: it is recorded as garbage.
                    let id = new.object;
                    self.apply(&[new], &[], &[]).await;
                    self.reading.frames.objects.end(id);
                    continue;
                }
            }
            let mut commits: Vec<Option<FileCommit>> = files
                .iter()
                .map(|file| file.content.lock().next_commit())
                .collect();
            let mut objects: Vec<NewObject> = Vec::new();
            for new in commits.iter().flatten().flat_map(|commit| &commit.objects) {
                if objects.iter().all(|known| known.object != new.object) {
                    objects.push(new.clone());
                }
            }
            let parts: Vec<ContentCommit> = files
                .iter()
                .zip(&mut commits)
                .filter_map(|(file, commit)| {
                    let commit = commit.as_mut()?;
                    Some(ContentCommit {
                        ino: file.ino,
                        extents: std::mem::take(&mut commit.extents),
                        size: commit.size,
                        cut: commit.cut,
                        mtime: commit.mtime,
                        ctime: commit.ctime,
                        covers: commit.covers,
                    })
                })
                .collect();
            if parts.is_empty() || !self.apply(&objects, &parts, &files).await {
                return;
            }
            let applied = self.shared.meta.applied();
            let mut done = Vec::new();
            for (file, commit) in files.iter().zip(&commits) {
                if let Some(commit) = commit {
                    let mut content = file.content.lock();
                    done.extend(content.commit_ended(commit, applied));
                    if content.take_scattered() {
                        self.reading.scattered.note(file.ino, Instant::now());
                    }
                }
            }
            drop(locks);
            drop(done);
            for new in &objects {
                self.reading.frames.objects.end(new.object);
            }
            let mut committed = commits.into_iter();
            files.retain(|_| committed.next().flatten().is_some());
            for file in &files {
                file.progress.notify_waiters();
                self.settle(file);
            }
            // More may have become ready meanwhile.
            files.retain(|file| file.content.lock().may_commit());
        }
    }

    /// Writes the batch, and tries again until it succeeds; false if this mount can never write
    /// again, or is closing.
    async fn apply(
        &self,
        objects: &[NewObject],
        parts: &[ContentCommit],
        files: &[Arc<FileState>],
    ) -> bool {
        loop {
            let error = match self.shared.meta.commit_content(objects, parts).await {
                Ok(()) => {
                    self.crowded.notify_one();
                    return true;
                }
                Err(error) => error,
            };
            error!("commit of {} files: {error}", parts.len());
            if matches!(error, MetaError::Fenced) {
                self.fail(&error.to_string());
                return false;
            }
            let error = StoreError::new(
                StoreErrorKind::Other,
                "commit",
                "the metadata",
                error.to_string(),
            );
            self.report(files, None, &error);
            tokio::select! {
                () = self.shared.stop.cancelled() => return false,
                () = tokio::time::sleep(META_PAUSE) => {}
            }
        }
    }

    /// Commits what waits in `file`, in the background.
    pub(crate) fn spawn_commit(self: &Arc<Self>, file: &Arc<FileState>) {
        let (write_back, file) = (self.clone(), file.clone());
        self.shared
            .tasks
            .spawn(async move { write_back.commit(vec![file]).await });
    }
}
