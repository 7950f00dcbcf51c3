//! The readahead windows of all handles, so that they can be asked to give way.

use std::{
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use lru::LruCache;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::window::Window;
use crate::{budget::Reclaim, data::frames::Fetch};

/// A reader that reads on keeps its turn for this long.
pub(crate) const TURN_MAX: Duration = Duration::from_millis(250);

/// Windows that are asked to give way at once. If they free too little, those that wait for memory
/// wait until turns end.
const ASKED_MAX: usize = 64;

/// The windows that hold fetches, the one that was not read from for longest first in line to give
/// way; bounded by the open handles.
///
/// Locked within a window's lock, never around one. No fetch is dropped under either: that gives
/// memory back, and may ask windows to give way.
pub(crate) struct WindowRegistry<F = Arc<Fetch>> {
    /// By address, which is a handle's own until [`WindowRegistry::closed`].
    active: Mutex<LruCache<usize, Weak<Mutex<Window<F>>>>>,
    turn_bytes: u64,
    /// Somebody waits for what a turn keeps.
    pub(crate) turns_awaited: Notify,
}

impl<F: Clone> WindowRegistry<F> {
    /// A handle that reads on may hold `turn_bytes` though others wait.
    pub(crate) fn new(turn_bytes: u64) -> WindowRegistry<F> {
        WindowRegistry {
            active: Mutex::new(LruCache::unbounded()),
            turn_bytes,
            turns_awaited: Notify::new(),
        }
    }

    /// A handle has read, or fetched ahead.
    pub(crate) fn used(&self, window: &Arc<Mutex<Window<F>>>) {
        let locked = window.lock();
        let mut active = self.active.lock();
        if locked.is_active() {
            active.put(address(window), Arc::downgrade(window));
        } else {
            active.pop(&address(window));
        }
    }

    /// A handle goes.
    pub(crate) fn closed(&self, window: &Arc<Mutex<Window<F>>>) {
        self.active.lock().pop(&address(window));
    }

    /// Handles that read ahead now.
    pub(crate) fn active(&self) -> usize {
        self.active.lock().len()
    }

    /// Lets everything go that handles fetched ahead which did not read for `idle`.
    pub(crate) fn trim(&self, idle: Duration) {
        let least_used = self.least_used(usize::MAX);
        let now = Instant::now();
        let idle = least_used
            .iter()
            .take_while(|window| window.lock().idle_for(now) >= idle);
        idle.for_each(|window| {
            self.shrink(window, u64::MAX, 0);
        });
    }

    /// At most `count` windows, the one that was not read from for longest first.
    fn least_used(&self, count: usize) -> Vec<Arc<Mutex<Window<F>>>> {
        let active = self.active.lock();
        let least_used = active.iter().rev().take(count);
        least_used
            .filter_map(|(_, window)| window.upgrade())
            .collect()
    }

    /// Lets go of what `window` fetched furthest ahead until `bytes` are free or it would hold less
    /// than `keep_bytes`; returns what is free.
    fn shrink(&self, window: &Arc<Mutex<Window<F>>>, bytes: u64, keep_bytes: u64) -> u64 {
        let mut freed = 0;
        let mut let_go = Vec::new();
        let mut locked = window.lock();
        while freed < bytes {
            let Some((len, fetch)) = locked.shrink(keep_bytes) else {
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

impl<F: Clone + Send + Sync> Reclaim for WindowRegistry<F> {
    fn reclaim(&self, bytes: u64) -> u64 {
        let windows = self.least_used(ASKED_MAX);
        let now = Instant::now();
        let mut freed = 0;
        for window in &windows {
            if freed >= bytes {
                return freed;
            }
            let has_turn = window.lock().idle_for(now) < TURN_MAX;
            let keep_bytes = if has_turn { self.turn_bytes } else { 0 };
            freed += self.shrink(window, bytes - freed, keep_bytes);
        }
        if freed < bytes && !windows.is_empty() {
            self.turns_awaited.notify_one();
        }
        freed
    }
}

fn address<F>(window: &Arc<Mutex<Window<F>>>) -> usize {
    Arc::as_ptr(window).addr()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn window(windows: &WindowRegistry<u64>, mib: u64) -> Arc<Mutex<Window<u64>>> {
        let window = Arc::new(Mutex::new(Window::new()));
        for at in 0..mib {
            window.lock().push(at * MIB..(at + 1) * MIB, at);
        }
        windows.used(&window);
        window
    }

    #[test]
    fn the_window_that_was_not_read_from_for_longest_gives_way_first() {
        let windows = WindowRegistry::new(0);
        let [first, second] = [window(&windows, 2), window(&windows, 2)];
        windows.used(&first);
        assert_eq!(windows.reclaim(3 * MIB), 3 * MIB);
        assert!(!second.lock().is_active());
        assert!(first.lock().is_active());
        assert_eq!(windows.active(), 1);
        assert_eq!(windows.reclaim(9 * MIB), MIB, "there is no more");
    }

    #[test]
    fn a_reader_that_reads_on_keeps_its_turn_until_it_stops() {
        let windows = WindowRegistry::new(MIB);
        let window = window(&windows, 3);
        assert_eq!(windows.reclaim(3 * MIB), 2 * MIB);
        assert_eq!(windows.reclaim(MIB), 0);
        std::thread::sleep(TURN_MAX);
        assert_eq!(windows.reclaim(MIB), MIB);
        assert!(!window.lock().is_active());
    }

    #[test]
    fn a_handle_that_goes_is_forgotten() {
        let windows = WindowRegistry::new(MIB);
        let window = window(&windows, 1);
        windows.closed(&window);
        assert_eq!(windows.active(), 0);
    }

    #[test]
    fn only_idle_windows_are_trimmed() {
        let windows = WindowRegistry::new(MIB);
        let idle = window(&windows, 2);
        std::thread::sleep(Duration::from_millis(20));
        let busy = window(&windows, 2);
        busy.lock().answered();
        windows.trim(Duration::from_millis(20));
        assert!(!idle.lock().is_active());
        assert!(busy.lock().is_active());
    }
}
