//! Space reclaim: deleting dead objects, clearing what crashed sessions left. (Repacking is in `repack.rs`.)
//!
//! Deletes fail closed: an object goes only if the metadata says, durably, that nothing names it, and only after the grace that read-only
//! mounts need, and not while one of these says that it may still read it (`readers.rs`). Keys are made here, from the metadata; what a listing says is
//! only ever compared with them.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tracing::{info, warn};

use super::{
    DataError, Inner,
    object::{object_key, object_number},
    repack::Repacking,
};
use crate::meta::{ObjectId, SessionId};

/// Objects deleted in one request.
const DELETE_BATCH: usize = 1000;

/// Dead sessions that stay known until what they may have sent late was looked for: each costs every mount two listings at its beginning. Mounts
/// that are too short to look again would else collect them.
const DEAD_SESSIONS_KEPT: usize = 8;

/// Pages of 1,000 objects that the listing of one session may have: a hundred million objects, one
/// for each of a thousand syncs a second for a day.
const SESSION_PAGES_MAX: u32 = 100_000;

impl Inner {
    pub(super) async fn reclaim_loop(self: Arc<Self>) {
        let rounds = async {
            let mut repacking = Repacking::new(self.config.reclaim_every);
            loop {
                self.mark_generation().await;
                tokio::time::sleep(self.config.reclaim_every).await;
                if let Err(error) = self.reclaim_round(&mut repacking).await {
                    warn!("space reclaim will be tried again: {error}");
                }
            }
        };
        let work = async { tokio::join!(self.look_for_leftovers(), rounds) };
        tokio::select! {
            () = self.stop.cancelled() => {}
            _ = work => {}
        }
    }

    /// Clears what dead sessions left: at once, and again later. A mount that was taken over goes on until it notices, and a
    /// request that it sent may be carried out after that.
    async fn look_for_leftovers(&self) {
        let pauses = self.config.leftovers_again;
        let mut looks = std::iter::once(Duration::ZERO).chain(pauses).peekable();
        while let Some(pause) = looks.next() {
            tokio::time::sleep(pause).await;
            let is_last = looks.peek().is_none();
            if let Err(error) = self.clear_dead_sessions(is_last).await {
                warn!("what earlier mounts left behind stays for now: {error}");
            }
        }
    }

    /// Clears what dead sessions left. With `forget`, all of them are forgotten then; else only those beyond the latest few.
    async fn clear_dead_sessions(&self, forget: bool) -> Result<(), DataError> {
        let sessions = self.meta.dead_sessions().await?;
        let kept_from = sessions.len().saturating_sub(DEAD_SESSIONS_KEPT);
        for (index, dead) in sessions.into_iter().enumerate() {
            let (deleted, aborted) = self.clear_session(dead.session).await?;
            if deleted + aborted > 0 {
                info!(
                    "cleared a session that did not end cleanly: {deleted} uncommitted objects deleted, {aborted} uploads aborted"
                );
            }
            if forget || index < kept_from {
                self.meta.end_session(dead.session).await?;
            }
        }
        Ok(())
    }

    /// Deletes the objects that a session wrote and never committed, and aborts its uploads. Says how many.
    async fn clear_session(&self, session: SessionId) -> Result<(usize, usize), DataError> {
        let prefix = session_prefix(session);
        let (mut deleted, mut aborted) = (0, 0);
        for pending in self.store.list_multipart(&prefix).await? {
            if object_of(session, &pending.key).is_some() {
                self.store
                    .abort_multipart(&pending.key, &pending.upload)
                    .await?;
                aborted += 1;
            }
        }
        let mut pages = self.store.pages(&prefix, None, SESSION_PAGES_MAX);
        while let Some(page) = pages.next().await? {
            let mut orphaned = Vec::new();
            for object in page
                .iter()
                .filter_map(|entry| object_of(session, &entry.key))
            {
                if !self.meta.knows_object(object).await? {
                    orphaned.push(object_key(object));
                }
            }
            deleted += orphaned.len();
            if !orphaned.is_empty() {
                self.store.delete(&orphaned).await?;
            }
        }
        Ok((deleted, aborted))
    }

    async fn reclaim_round(self: &Arc<Self>, repacking: &mut Repacking) -> Result<(), DataError> {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let mut before = now.saturating_sub(self.config.garbage_grace).as_secs() as i64;
        if !self.meta.garbage(before, 1).await?.is_empty()
            && let Some(needed_from) = self.needed_from().await?
        {
            before = before.min(needed_from.saturating_sub(1));
        }
        loop {
            let garbage = self.meta.garbage(before, DELETE_BATCH).await?;
            if garbage.is_empty() {
                break;
            }
            let objects: Vec<ObjectId> = garbage.iter().map(|garbage| garbage.object).collect();
            let keys: Vec<String> = objects.iter().map(|object| object_key(*object)).collect();
            self.store.delete(&keys).await?;
            self.meta.forget_garbage(&objects).await?;
        }
        self.repack_round(repacking).await
    }
}

fn session_prefix(session: SessionId) -> String {
    format!("data/{}/", data_encoding::HEXLOWER.encode(&session.0))
}

/// The object of this session whose key this is; `None` if it is another key, whatever a listing says.
fn object_of(session: SessionId, key: &str) -> Option<ObjectId> {
    let number = object_number(key)?;
    let object = ObjectId { session, number };
    (object_key(object) == key).then_some(object)
}
