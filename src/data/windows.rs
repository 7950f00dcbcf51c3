//! The readahead windows of all handles, so that they can be asked to give way.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use lru::LruCache;
use parking_lot::Mutex;

use super::readahead::Window;
use crate::budget::Reclaim;

/// The windows that hold fetches, the one that was not read from for longest first in line to give way; bounded by the open handles.
///
/// Locked within a window's lock, never around one. No fetch is dropped under either: that gives memory back, and may ask windows to give way.
pub(super) struct Windows {
    /// By address, which is a handle's own until [`Windows::closed`].
    active: Mutex<LruCache<usize, Weak<Mutex<Window>>>>,
}

impl Default for Windows {
    fn default() -> Windows {
        Windows {
            active: Mutex::new(LruCache::unbounded()),
        }
    }
}

impl Windows {
    /// A handle has read, or fetched ahead.
    pub(super) fn used(&self, window: &Arc<Mutex<Window>>) {
        let locked = window.lock();
        let mut active = self.active.lock();
        if locked.is_active() {
            active.put(address(window), Arc::downgrade(window));
        } else {
            active.pop(&address(window));
        }
    }

    /// A handle goes.
    pub(super) fn closed(&self, window: &Arc<Mutex<Window>>) {
        self.active.lock().pop(&address(window));
    }

    /// Handles that read ahead now.
    pub(super) fn active(&self) -> usize {
        self.active.lock().len()
    }

    /// Lets everything go that handles fetched ahead which did not read for `idle`.
    pub(super) fn trim(&self, idle: Duration) {
        while let Some(window) = self.least_used() {
            if window.lock().idle_for() < idle {
                return;
            }
            self.shrink(&window, u64::MAX);
        }
    }

    fn least_used(&self) -> Option<Arc<Mutex<Window>>> {
        let mut active = self.active.lock();
        loop {
            let (_, window) = active.peek_lru()?;
            if let Some(window) = window.upgrade() {
                return Some(window);
            }
            active.pop_lru();
        }
    }

    /// Lets go of what `window` fetched furthest ahead until `bytes` are free, or it has nothing left; returns what is free.
    fn shrink(&self, window: &Arc<Mutex<Window>>, bytes: u64) -> u64 {
        let mut freed = 0;
        let mut let_go = Vec::new();
        let mut locked = window.lock();
        while freed < bytes {
            let Some((len, fetch)) = locked.shrink() else {
                break;
            };
            freed += len;
            let_go.push(fetch);
        }
        if !locked.is_active() {
            self.closed(window);
        }
        drop(locked);
        drop(let_go);
        freed
    }
}

impl Reclaim for Windows {
    fn reclaim(&self, bytes: u64) -> u64 {
        let mut freed = 0;
        while freed < bytes {
            let Some(window) = self.least_used() else {
                break;
            };
            freed += self.shrink(&window, bytes - freed);
        }
        freed
    }
}

fn address(window: &Arc<Mutex<Window>>) -> usize {
    Arc::as_ptr(window).addr()
}
