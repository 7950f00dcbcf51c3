//! Write-back: when dirty data goes out, and in what.
//!
//! - A file with a part's worth of dirty data has a *stream*: a multipart upload of its own, one
//!   part after the other.
//! - A file that is written at random does not: its dirty data waits until it is due, and goes out
//!   in one *sweep* over the file, in order. Much of it has been overwritten by then, and bytes
//!   that lie together in the file lie together in the object. The bytes between tiny pieces go
//!   along (`sweep.rs`). When memory runs short before that, the sweep goes in slices, no faster
//!   than room is needed (`slice.rs`).
//! - Everything smaller goes out in *packs*: one object, one PUT, many files.
//! - But a few KiB of a small file that somebody waits for go *inline*, into the metadata that has
//!   to be written anyway: one round trip instead of two. Without somebody who waits they go into a
//!   pack, which is cheaper.
//!
//! Due are data that somebody waits for (fsync, drain, a reader of a part not yet readable), data
//! older than `DataConfig::write_back_after`, and, when writers wait for memory, the file with the
//! most dirty bytes. Data of a file that is overwritten before it goes out is due later
//! (`file/pattern.rs`).
//!
//! No task here waits for memory while it holds memory, and none needs a FUSE thread to get on:
//! uploads have a guaranteed share.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use super::WriteBack;
use crate::{
    budget::Owner,
    data::file::{FileState, overwritten_wait},
};

/// How often dirty data is looked at while there is some.
const ROUND_EVERY: Duration = Duration::from_millis(200);

/// Once some data is due, younger data of at least this age goes along: fuller packs.
const COMPANION_AGE: Duration = Duration::from_millis(300);

/// Files in one pack at most: bounds the batch that commits it.
const PACK_FILES_MAX: usize = 2000;

/// Which packs are made of small files.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Packs {
    All,
    /// Nothing is due: files that fill no pack wait for more.
    FullOnly,
}

impl WriteBack {
    /// The loop that runs as long as the volume is mounted.
    pub(crate) async fn write_back_loop(self: Arc<Self>) {
        loop {
            let pause = if self.dirty.lock().is_empty() {
                Duration::from_secs(3600)
            } else {
                ROUND_EVERY
            };
            let pressure = tokio::select! {
                () = self.shared.stop.cancelled() => return,
                () = self.wake.notified() => false,
                () = tokio::time::sleep(pause) => false,
                () = self.shared.governor.pressure() => true,
            };
            self.write_back_round(pressure);
        }
    }

    fn write_back_round(self: &Arc<Self>, pressure: bool) {
        let draining = self.draining.load(Ordering::Acquire);
        let writers_wait = (pressure || self.shared.governor.has_waiters(Owner::Dirty))
            && self.shared.governor.used_bytes(Owner::Dirty)
                > self.shared.governor.used_bytes(Owner::Upload);
        let mut files: Vec<Arc<FileState>> = self.dirty.lock().values().cloned().collect();
        // Inode order is the order of creation: files that were made together, and will likely be
        // read together, lie together.
        files.sort_unstable_by_key(|file| file.ino);
        let now = Instant::now();
        let mut wanted = Vec::new();
        let mut others = Vec::new();
        let mut at_random = Vec::new();
        let mut some_is_due = draining || writers_wait;
        let mut ripe_bytes = 0;
        for file in files {
            if file.queued.load(Ordering::Acquire) {
                continue;
            }
            // The bytes in a stream are not in the store before the stream ends, so it ends in
            // time.
            let has_stream = file.stream.try_lock().is_ok_and(|stream| stream.is_some());
            let content = file.content.lock();
            if content.may_commit() && file.commit.try_lock().is_ok() {
                self.spawn_commit(&file);
            }
            if content.is_all_in_flight() {
                continue;
            }
            let dirty_bytes = content.overlay.dirty_bytes();
            let age = content.age(now);
            let mut delay = self.shared.config.write_back_after;
            let is_overwritten = !has_stream && content.is_overwritten();
            if is_overwritten {
                delay = overwritten_wait(delay);
            }
            let is_due = age >= delay;
            let awaits_contents = content.awaits_contents(now);
            let may_wait = !(is_due || content.may_be_packed() && !is_overwritten);
            let is_wanted = content.wanted > content.committed;
            let fits_inline = content.fits_inline();
            let is_swept =
                content.is_written_at_random() && dirty_bytes >= self.shared.config.part_bytes;
            drop(content);
            if is_wanted && fits_inline {
                self.spawn_inline(&file);
                continue;
            }
            if is_wanted {
                wanted.push((dirty_bytes, file));
                continue;
            }
            if file.pumping.load(Ordering::Acquire) && !draining {
                continue;
            }
            // Sending it would make no room for the writers that wait: one of them may have emptied
            // it.
            if awaits_contents && !draining {
                continue;
            }
            if may_wait && !draining && !writers_wait {
                continue;
            }
            if is_swept && !is_due && !draining {
                at_random.push((dirty_bytes, file));
                continue;
            }
            some_is_due |= is_due;
            if age >= COMPANION_AGE || draining || writers_wait {
                ripe_bytes += dirty_bytes;
                others.push((dirty_bytes, file));
            }
        }
        if writers_wait && !draining {
            others.sort_by_key(|(dirty_bytes, _)| std::cmp::Reverse(*dirty_bytes));
        }
        self.send_out(wanted, Packs::All);
        if writers_wait
            && let Some((_, file)) = at_random.into_iter().max_by_key(|(bytes, _)| *bytes)
        {
            self.spawn_slice(&file);
        }
        if some_is_due {
            self.send_out(others, Packs::All);
        } else if ripe_bytes >= self.shared.config.part_bytes {
            self.send_out(others, Packs::FullOnly);
        }
    }

    /// Starts tasks that send all that is dirty in `files`, as far as tasks are free.
    fn send_out(self: &Arc<Self>, files: Vec<(u64, Arc<FileState>)>, packs: Packs) {
        let mut pack: Vec<Arc<FileState>> = Vec::new();
        let mut pack_bytes = 0;
        for (dirty_bytes, file) in files {
            let has_stream = file
                .stream
                .try_lock()
                .map_or(true, |stream| stream.is_some());
            let is_alone = has_stream || {
                let content = file.content.lock();
                !content.may_be_packed() || content.overlay.is_in_crumbs()
            };
            if is_alone || dirty_bytes >= self.shared.config.part_bytes {
                self.spawn_finish_stream(&file);
                continue;
            }
            if pack_bytes + dirty_bytes > self.shared.config.part_bytes
                || pack.len() >= PACK_FILES_MAX
            {
                if !self.spawn_pack(std::mem::take(&mut pack)) {
                    return;
                }
                pack_bytes = 0;
            }
            pack_bytes += dirty_bytes;
            pack.push(file);
        }
        if !pack.is_empty() && packs == Packs::All {
            self.spawn_pack(pack);
        }
    }
}
