//! Memory that was of use and no longer is goes back to the machine, though nobody asked for it.

use std::{sync::Arc, time::Duration};

use super::{Readahead, registry::TURN_MAX};

/// How often it is looked at; also how long a block's buffer stays unused.
const ROUND_EVERY: Duration = Duration::from_secs(5);

/// Frames that nobody read for this long leave the cache, and a handle that did not read for this
/// long lets go of what it fetched ahead.
const IDLE: Duration = Duration::from_secs(15);

impl Readahead {
    pub(crate) async fn idle_loop(self: Arc<Self>) {
        loop {
            // Sleeps without a clock while there is nothing to give up.
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

    /// Serves those who wait for the turns of readers to end.
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
