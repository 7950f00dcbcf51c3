//! Space reclaim: deleting dead objects, clearing the leftovers of crashed sessions. (Repacking is
//! in `repack.rs`.)
//!
//! Deletes fail closed: an object goes only if the metadata says, durably, that nothing names it,
//! and only after the grace that read-only mounts need, and not while one of these says that it may
//! still read it (`readers.rs`). Keys are made here, from the metadata; keys in a listing are only
//! ever compared with them.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tracing::{info, warn};

use super::{
    Space,
    leftovers::{DEAD_SESSIONS_KEPT, clear_session, delete_garbage},
    repack::Repacking,
};
use crate::data::DataError;

impl Space {
    pub(crate) async fn reclaim_loop(self: Arc<Self>) {
        let rounds = async {
            let mut repacking =
                Repacking::new(self.shared.config.reclaim_every, self.shared.meta.applied());
            loop {
                self.mark_generation().await;
                tokio::time::sleep(self.shared.config.reclaim_every).await;
                if let Err(error) = self.reclaim_round(&mut repacking).await {
                    warn!("space reclaim will be tried again: {error}");
                }
            }
        };
        let work = async { tokio::join!(self.look_for_leftovers(), rounds) };
        tokio::select! {
            () = self.shared.stop.cancelled() => {}
            _ = work => {}
        }
    }

    /// Clears the leftovers of dead sessions: at once, and again later. A mount that was taken over
    /// goes on until it notices, and a request that it sent may be carried out after that.
    async fn look_for_leftovers(&self) {
        let pauses = self.shared.config.leftovers_again;
        let mut looks = std::iter::once(Duration::ZERO).chain(pauses).peekable();
        while let Some(pause) = looks.next() {
            tokio::time::sleep(pause).await;
            let is_last = looks.peek().is_none();
            if let Err(error) = self.clear_dead_sessions(is_last).await {
                warn!("what earlier mounts left behind stays for now: {error}");
            }
        }
    }

    /// Clears the leftovers of dead sessions. With `forget`, all these sessions are forgotten then;
    /// else only those beyond the latest few.
    pub(super) async fn clear_dead_sessions(&self, forget: bool) -> Result<(), DataError> {
        let sessions = self.shared.meta.dead_sessions().await?;
        let kept_from = sessions.len().saturating_sub(DEAD_SESSIONS_KEPT);
        for (index, dead) in sessions.into_iter().enumerate() {
            let left =
                clear_session(&self.shared.store, &self.shared.meta, dead.session, true).await?;
            if left.objects + left.uploads > 0 {
                info!(
                    "cleared a session that did not end cleanly: {} uncommitted objects deleted, {} uploads aborted",
                    left.objects, left.uploads
                );
            }
            if forget || index < kept_from {
                self.shared.meta.end_session(dead.session).await?;
            }
        }
        Ok(())
    }

    async fn reclaim_round(self: &Arc<Self>, repacking: &mut Repacking) -> Result<(), DataError> {
        self.delete_dead().await?;
        self.repack_round(repacking).await
    }

    /// Deletes the dead objects that no read-only mount may still read.
    pub(super) async fn delete_dead(&self) -> Result<(), DataError> {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let mut before = now
            .saturating_sub(self.shared.config.garbage_grace)
            .as_secs() as i64;
        if !self.shared.meta.garbage(before, 1).await?.is_empty()
            && let Some(needed_from) = self.needed_from().await?
        {
            before = before.min(needed_from.saturating_sub(1));
        }
        delete_garbage(&self.shared.store, &self.shared.meta, before).await
    }
}
