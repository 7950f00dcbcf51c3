//! Waiting until contents are committed and durable, and reporting why they are not.

use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering},
};

use super::WriteBack;
use crate::{
    data::{DataError, OpenFile, file::FileState},
    meta::Ino,
};

impl WriteBack {
    pub(crate) async fn fsync(self: &Arc<Self>, ino: Ino) -> Result<(), DataError> {
        self.committed_since(ino).await?;
        self.commit_successors(&[ino]).await?;
        self.flush().await
    }

    pub(crate) async fn fsync_through(self: &Arc<Self>, open: &OpenFile) -> Result<(), DataError> {
        let mut seen = open.file.content.lock().errors.count();
        let committed = self.committed(&open.file, &mut seen).await;
        open.heard.lock().file = seen;
        committed?;
        self.commit_successors(&[open.file.ino]).await?;
        let flushed = self.flush().await;
        open.heard.lock().log = self.shared.store.log_health().refusals();
        flushed
    }

    pub(crate) fn unreported(&self, open: &OpenFile) -> Option<DataError> {
        let (error, committed_at) = {
            let content = open.file.content.lock();
            let error = content.errors.report(&mut open.heard.lock().file);
            (error, content.committed_at)
        };
        let log = self.shared.store.log_health();
        let log_error = || {
            let is_undurable = committed_at > self.shared.meta.generation();
            let heard = std::mem::replace(&mut open.heard.lock().log, log.refusals());
            log.refusal()
                .filter(|_| is_undurable && heard < log.refusals())
        };
        error.or_else(log_error).map(DataError::from)
    }

    pub(crate) async fn flush(&self) -> Result<(), DataError> {
        tokio::select! {
            flushed = self.shared.meta.flush() => Ok(flushed?),
            refusal = self.shared.store.log_health().next_refusal() => Err(refusal.into()),
        }
    }

    pub(crate) async fn drain(self: &Arc<Self>) -> Result<(), DataError> {
        self.draining.store(true, Ordering::Release);
        let outcome = self.all_committed().await;
        self.draining.store(false, Ordering::Release);
        outcome?;
        self.flush().await
    }

    pub(crate) async fn write_back(
        self: &Arc<Self>,
        inos: impl IntoIterator<Item = Ino>,
    ) -> Result<(), DataError> {
        let files = inos.into_iter().map(|ino| self.committed_since(ino));
        futures::future::try_join_all(files).await.map(drop)
    }

    /// Returns when all changes made to the file before the call are committed, or with an error
    /// from then on.
    async fn committed_since(self: &Arc<Self>, ino: Ino) -> Result<(), DataError> {
        let Some(file) = self.reading.known_file(ino) else {
            return self.check();
        };
        let mut seen = file.content.lock().errors.count();
        self.committed(&file, &mut seen).await
    }

    /// Returns when all changes made to the file before the call are committed, or with an error of
    /// the file beyond those `seen`.
    pub(crate) async fn committed(
        self: &Arc<Self>,
        file: &Arc<FileState>,
        seen: &mut u64,
    ) -> Result<(), DataError> {
        let target = {
            let mut content = file.content.lock();
            if content.committed < content.change {
                content.wanted = content.change;
            }
            content.change
        };
        loop {
            let progress = file.progress.notified();
            tokio::pin!(progress);
            progress.as_mut().enable();
            {
                let content = file.content.lock();
                if content.committed >= target || content.discarded {
                    return self.check();
                }
                if let Some(error) = content.trouble(seen) {
                    return Err(error.into());
                }
            }
            self.check()?;
            self.wake.notify_one();
            progress.await;
        }
    }

    /// Returns when all files are committed, or with an error when those that are left have all
    /// been refused since.
    async fn all_committed(self: &Arc<Self>) -> Result<(), DataError> {
        let mut seen: HashMap<Ino, u64> = HashMap::new();
        loop {
            let settled = self.settled.notified();
            tokio::pin!(settled);
            settled.as_mut().enable();
            self.check()?;
            let files = self.dirty_files();
            let mut trouble = None;
            let mut all_in_trouble = true;
            for file in &files {
                let content = file.content.lock();
                let seen = *seen
                    .entry(file.ino)
                    .or_insert_with(|| content.errors.count());
                match content.trouble(&mut seen.clone()) {
                    Some(error) => trouble = Some(error),
                    None => all_in_trouble = false,
                }
            }
            match trouble {
                _ if files.is_empty() => return Ok(()),
                Some(error) if all_in_trouble => return Err(error.into()),
                _ => {}
            }
            self.wake.notify_one();
            settled.await;
        }
    }
}
