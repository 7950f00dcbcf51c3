//! Memory that was not used for a while goes back to the machine even without memory pressure.

use std::{sync::Arc, time::Duration};

use super::{Readahead, registry::TURN_MAX};

/// Pause between two rounds; also how long the buffer of a block stays unused.
const ROUND_EVERY: Duration = Duration::from_secs(5);

/// Frames that nobody has used for this long are evicted, and a handle that has not read for this
/// long lets go of what it prefetched.
const IDLE: Duration = Duration::from_secs(15);

impl Readahead {
    pub(crate) async fn idle_loop(self: Arc<Self>) {
        loop {
            // While there is nothing to give up, no timer runs.
            tokio::select! {
                () = self.shared.stop.cancelled() => return,
                () = self.frames.fetched.notified() => {}
            }
            loop {
                tokio::select! {
                    () = self.shared.stop.cancelled() => return,
                    () = tokio::time::sleep(ROUND_EVERY) => {}
                }
                self.registry.trim(IDLE);
                let frames_left = self.frames.cache.trim(IDLE);
                let blocks_left = self.frames.blocks.trim();
                if !frames_left && !blocks_left && self.frames.fetches.is_empty() {
                    break;
                }
            }
        }
    }

    /// Serves those who wait for memory that readers in order keep for a turn.
    pub(crate) async fn turns_loop(self: Arc<Self>) {
        loop {
            tokio::select! {
                () = self.shared.stop.cancelled() => return,
                () = self.registry.turns_awaited.notified() => {}
            }
            tokio::select! {
                () = self.shared.stop.cancelled() => return,
                () = tokio::time::sleep(TURN_MAX / 2) => {}
            }
            self.shared.governor.serve();
        }
    }
}
