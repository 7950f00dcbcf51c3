//! Prefetch: frames that are fetched before they are asked for. A handle that reads in order has a
//! window; a miss of a reader in no order may bring the region around it, if the density policy
//! says so.
//!
//! `window.rs` decides for one handle, `habit.rs` learns from those before it, and `registry.rs`
//! lets windows give way; `prefetch.rs` starts their fetches. `density/` decides about regions,
//! `region_prefetch.rs` asks for them, and `region_queue.rs` holds the pieces. `stretches.rs`
//! decides about parts of files that lie scattered. Never: waits for memory.

mod density;
mod habit;
mod idle;
mod prefetch;
mod region_prefetch;
mod region_queue;
mod registry;
mod stretches;
mod window;

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

use self::{
    density::{Density, REGION_MIN_LOG2},
    habit::Habit,
    region_queue::RegionQueue,
    registry::WindowRegistry,
    window::Window,
};
use crate::data::{frames::Frames, shared::Shared};

pub(crate) use prefetch::{RUN_GAP_MAX, StoredRun};
pub use stretches::Stretch;
pub(crate) use stretches::{FILE_MIN, RUN_MIN, Stretches};

/// See the module's head.
pub(crate) struct Readahead {
    shared: Arc<Shared>,
    frames: Arc<Frames>,
    pub(crate) registry: Arc<WindowRegistry>,
    pub(crate) density: Mutex<Density>,
    pub(crate) regions: Arc<RegionQueue>,
    /// The same for files that lie scattered.
    pub(crate) stretches: Stretches,
    habit: Arc<Habit>,
}

impl Readahead {
    pub(crate) fn new(shared: Arc<Shared>, frames: Arc<Frames>) -> Readahead {
        Readahead {
            registry: Arc::new(WindowRegistry::new(shared.config.turn_bytes())),
            density: Mutex::new(Density::new(REGION_MIN_LOG2)),
            regions: Arc::default(),
            stretches: Stretches::new(),
            habit: Arc::default(),
            shared,
            frames,
        }
    }

    /// Starts the background tasks.
    pub(crate) fn start(self: &Arc<Self>) {
        let tasks = &self.shared.tasks;
        tasks.spawn(self.clone().idle_loop());
        tasks.spawn(self.clone().region_loop());
        tasks.spawn(self.clone().turns_loop());
    }

    /// The window of a new handle.
    pub(crate) fn handle(&self) -> Handle {
        self.handle_with(Window::new(), None)
    }

    /// The window of a new handle of somebody who reads from the mount.
    pub(crate) fn readers_handle(&self) -> Handle {
        let expected = self.habit.expected_bytes();
        let window = expected.map_or_else(Window::new, Window::expecting_the_end);
        self.handle_with(window, Some(self.habit.clone()))
    }

    /// The window of a handle that is going to be read from `at` on, in order.
    pub(crate) fn handle_from(&self, at: u64) -> Handle {
        self.handle_with(Window::from(at), None)
    }

    fn handle_with(&self, window: Window, habit: Option<Arc<Habit>>) -> Handle {
        Handle {
            registry: self.registry.clone(),
            habit,
            window: Arc::new(Mutex::new(window)),
            fetched: Notify::new(),
        }
    }
}

/// One handle's readahead. Dropping it lets go of everything in flight for the handle.
pub(crate) struct Handle {
    registry: Arc<WindowRegistry>,
    /// The habit that its reads are part of.
    habit: Option<Arc<Habit>>,
    pub(crate) window: Arc<Mutex<Window>>,
    /// Told whenever the window got something.
    pub(crate) fetched: Notify,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.registry.closed(&self.window);
        let Some(habit) = &self.habit else { return };
        let window = self.window.lock();
        if let Some(to_the_end) = window.has_read_to_the_end() {
            habit.note(to_the_end.then(|| window.read_bytes()));
        }
    }
}
