//! Write-back: when dirty data goes out, and in what.
//!
//! - A file with a part's worth of dirty data has a *stream*: a multipart upload of its own, one
//!   part after the other.
//! - One that is written at random does not: its dirty data waits until it is due, and goes out in
//!   one *sweep* over the file, in order. Much of it has been overwritten by then, and what lies
//!   together in the file lies together in the object. What lies between tiny pieces goes along
//!   (`sweep.rs`). When memory runs short before that, the sweep goes in slices, no faster than
//!   room is needed (`slice.rs`).
//! - Everything smaller goes out in *packs*: one object, one PUT, many files.
//! - But a few KiB of a small file that somebody waits for go *inline*, into the metadata that has
//!   to be written anyway: one round trip instead of two. What nobody waits for does not: a pack is
//!   cheaper.
//!
//! What is due: data that somebody waits for (fsync, drain, a reader of a part not yet readable),
//! data older than [`super::DataConfig::write_back_after`], and, when writers wait for memory,
//! whatever is largest. Data of a file that is overwritten before it goes out is due later
//! (`pattern.rs`).
//!
//! No task here waits for memory while it holds memory, and none needs a FUSE thread to get on:
//! uploads have a guaranteed share.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use crate::{
    budget::Owner,
    data::{
        Data, Inner,
        file::{Content, FileState, overwritten_wait},
        upload::{ObjectWriter, PART_SLACK, sealed_bound},
    },
};

/// How often dirty data is looked at while there is some.
const ROUND_EVERY: Duration = Duration::from_millis(200);

/// Once some data is due, younger data of at least this age goes along: fuller packs.
const COMPANION_AGE: Duration = Duration::from_millis(300);

/// Packs being uploaded at once.
pub(crate) const PACKS_IN_FLIGHT_MAX: usize = 4;

/// Files in one pack at most: bounds the batch that commits it.
const PACK_FILES_MAX: usize = 2000;

/// An object of a file that is written at random ends after so many parts.
const SWEEP_OBJECT_PARTS: u64 = 4;

/// Which packs are made of small files.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Packs {
    All,
    /// Nothing is due: what fills no pack waits for more.
    FullOnly,
}

impl Inner {
    /// The loop that runs as long as the volume is mounted.
    pub(crate) async fn write_back_loop(self: Arc<Self>) {
        loop {
            let pause = if self.dirty.lock().is_empty() {
                Duration::from_secs(3600)
            } else {
                ROUND_EVERY
            };
            let pressure = tokio::select! {
                () = self.stop.cancelled() => return,
                () = self.wake.notified() => false,
                () = tokio::time::sleep(pause) => false,
                () = self.governor.pressure() => true,
            };
            self.write_back_round(pressure);
        }
    }

    fn write_back_round(self: &Arc<Self>, pressure: bool) {
        let draining = self.draining.load(Ordering::Acquire);
        let writers_wait = (pressure || self.governor.has_waiters(Owner::Dirty))
            && self.governor.used_bytes(Owner::Dirty) > self.governor.used_bytes(Owner::Upload);
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
            // What is in a stream is not in the store before the stream ends, so it ends in time.
            let has_stream = file.take.try_lock().is_ok_and(|stream| stream.is_some());
            let content = file.content.lock();
            if content.may_commit() && file.commit.try_lock().is_ok() {
                self.spawn_commit(&file);
            }
            if content.everything_taken() {
                continue;
            }
            let dirty_bytes = content.overlay.dirty_bytes();
            let age = content.age(now);
            let mut delay = self.config.write_back_after;
            let is_overwritten = !has_stream && content.is_overwritten();
            if is_overwritten {
                delay = overwritten_wait(delay);
            }
            let is_due = age >= delay;
            let awaits_contents = content.awaits_contents(now);
            let may_wait = !(is_due || content.may_be_packed() && !is_overwritten);
            let is_wanted = content.wanted > content.committed;
            let fits_inline = content.fits_inline();
            let is_swept = content.is_written_at_random() && dirty_bytes >= self.config.part_bytes;
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
            // There is nothing in it that would make room for writers who wait: one of them may be
            // who emptied it.
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
        } else if ripe_bytes >= self.config.part_bytes {
            self.send_out(others, Packs::FullOnly);
        }
    }

    /// Starts tasks that take all that is dirty in `files`, as far as tasks are free.
    fn send_out(self: &Arc<Self>, files: Vec<(u64, Arc<FileState>)>, packs: Packs) {
        let mut pack: Vec<Arc<FileState>> = Vec::new();
        let mut pack_bytes = 0;
        for (dirty_bytes, file) in files {
            let has_stream = file.take.try_lock().map_or(true, |stream| stream.is_some());
            let is_alone = has_stream || {
                let content = file.content.lock();
                !content.may_be_packed() || content.overlay.is_in_crumbs()
            };
            if is_alone || dirty_bytes >= self.config.part_bytes {
                self.spawn_finish_stream(&file);
                continue;
            }
            if pack_bytes + dirty_bytes > self.config.part_bytes || pack.len() >= PACK_FILES_MAX {
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

    /// Commits all that is dirty in `file` with the bytes in the metadata. A task for each file:
    /// none waits for another's commit.
    fn spawn_inline(self: &Arc<Self>, file: &Arc<FileState>) {
        if file.queued.swap(true, Ordering::AcqRel) {
            return;
        }
        let inner = self.clone();
        let file = file.clone();
        self.tasks.spawn(async move {
            if inner.take_inline(&file).await {
                file.queued.store(false, Ordering::Release);
                inner.commit(vec![file.clone()]).await;
            } else {
                inner.finish_stream(&file).await;
                file.queued.store(false, Ordering::Release);
            }
            inner.wake.notify_one();
        });
    }

    /// False if it has grown, or was taken into an object, since somebody looked.
    async fn take_inline(&self, file: &FileState) -> bool {
        let _no_other_take = file.take.lock().await;
        let mut content = file.content.lock();
        let fits = content.fits_inline();
        if fits {
            content.take_inline();
        }
        fits
    }

    /// Sends full parts of `file` while there are any. Called after a write made it large.
    pub(crate) fn spawn_pump(self: &Arc<Self>, file: &Arc<FileState>) {
        if file.pumping.swap(true, Ordering::AcqRel) {
            return;
        }
        let inner = self.clone();
        let file = file.clone();
        self.tasks.spawn(async move {
            loop {
                inner.pump(&file).await;
                file.pumping.store(false, Ordering::Release);
                // A write that came between the last look and the store above saw the flag and left
                // the work to us.
                let more = inner.has_full_part(&file);
                if !more || file.pumping.swap(true, Ordering::AcqRel) {
                    return;
                }
            }
        });
    }

    /// May its stream take another part?
    fn has_full_part(&self, file: &FileState) -> bool {
        let content = file.content.lock();
        let dirty_bytes = content.overlay.dirty_bytes();
        !content.is_written_at_random() && dirty_bytes >= self.config.part_bytes + PART_SLACK
    }

    async fn pump(self: &Arc<Self>, file: &Arc<FileState>) {
        while self.has_full_part(file) {
            let reservation = self
                .governor
                .acquire(Owner::Upload, self.config.part_bytes + PART_SLACK)
                .await;
            let mut stream = file.take.lock().await;
            // Another task may have taken it meanwhile.
            if !self.has_full_part(file) {
                return;
            }
            let writer =
                stream.get_or_insert_with(|| Box::new(ObjectWriter::begin(self, Some(file))));
            writer.provide(reservation);
            self.seal_dirty(file, writer);
            // Less than a part if the file was truncated just now.
            let goes_on = writer.send_full_part(self.config.part_bytes) && !writer.is_full();
            if !goes_on && let Some(writer) = stream.take() {
                self.spawn_complete(*writer);
            }
        }
    }

    /// Moves dirty pieces of `file` into `writer`, as far as it has room. The caller holds the
    /// file's take lock.
    fn seal_dirty(&self, file: &FileState, writer: &mut ObjectWriter) {
        let collected = file.content.lock().collect(0, writer.room_bytes());
        let placed = writer.seal(&collected.pieces);
        file.content
            .lock()
            .take_into(writer.id, &collected, &placed);
    }

    /// Takes everything that is dirty in `file` into its stream, in one sweep over the file, and
    /// ends the stream's object.
    pub(crate) fn spawn_finish_stream(self: &Arc<Self>, file: &Arc<FileState>) {
        if file.queued.swap(true, Ordering::AcqRel) {
            return;
        }
        let inner = self.clone();
        let file = file.clone();
        self.tasks.spawn(async move {
            inner.finish_stream(&file).await;
            file.queued.store(false, Ordering::Release);
            inner.wake.notify_one();
        });
    }

    async fn finish_stream(self: &Arc<Self>, file: &Arc<FileState>) {
        self.let_crumbs_settle(file).await;
        // What is written along with crumbs comes on top of what is dirty.
        let mut whole_part = file.content.lock().overlay.is_in_crumbs();
        let (began, mut swept_to) = (Instant::now(), 0);
        let open = Data {
            inner: self.clone(),
        }
        .open(file.ino);
        loop {
            let dirty_bytes = file.content.lock().overlay.dirty_bytes();
            let part_bytes = self.config.part_bytes;
            let limit = if whole_part {
                part_bytes
            } else {
                sealed_bound(dirty_bytes).min(part_bytes)
            };
            let reservation = self
                .governor
                .acquire(Owner::Upload, limit + PART_SLACK)
                .await;
            let mut stream = file.take.lock().await;
            let dirty_bytes = file.content.lock().overlay.dirty_bytes();
            if stream.is_none() && dirty_bytes == 0 {
                drop((stream, reservation));
                self.commit_attributes(file).await;
                return;
            }
            let writer =
                stream.get_or_insert_with(|| Box::new(ObjectWriter::begin(self, Some(file))));
            if dirty_bytes > 0 {
                if limit <= writer.buffered_bytes() {
                    whole_part = true;
                    continue;
                }
                writer.provide(reservation);
                if let Some(end) = self.seal_swept(file, &open, writer, swept_to).await {
                    swept_to = end;
                }
            }
            let sent = writer.send_full_part(part_bytes);
            let all_taken = file.content.lock().overlay.dirty_bytes() == 0;
            let goes_on = sent && !all_taken;
            if goes_on && !writer.is_full() && !self.is_enough(file, writer) {
                continue;
            }
            if let Some(writer) = stream.take() {
                self.spawn_complete(*writer);
            }
            if !goes_on {
                file.content.lock().note_sweep(began, swept_to);
                // What was written since the room was taken waits for the next round: a writer that
                // is short of room must not wait for more.
                return;
            }
        }
    }

    /// Should the object end here? Until it does, what is in it cannot be read, which happens with
    /// files that are written at random.
    fn is_enough(&self, file: &FileState, writer: &ObjectWriter) -> bool {
        let bound = SWEEP_OBJECT_PARTS * self.config.part_bytes;
        writer.plaintext_len() >= bound && file.content.lock().is_written_at_random()
    }

    async fn commit_attributes(self: &Arc<Self>, file: &Arc<FileState>) {
        {
            let _no_other_take = file.take.lock().await;
            let mut content = file.content.lock();
            if !content.everything_taken() && !self.leaves_as_it_was(&content) {
                content.take_attributes();
            }
        }
        self.commit(vec![file.clone()]).await;
    }

    /// Does a file that was emptied since it was chosen stay as it was in the store?
    fn leaves_as_it_was(&self, content: &Content) -> bool {
        content.awaits_contents(Instant::now()) && !self.draining.load(Ordering::Acquire)
    }

    /// Packs what is dirty in `files` into one object, if a place for a pack is free.
    fn spawn_pack(self: &Arc<Self>, files: Vec<Arc<FileState>>) -> bool {
        let Ok(place) = self.packs.clone().try_acquire_owned() else {
            return false;
        };
        let files: Vec<_> = files
            .into_iter()
            .filter(|file| !file.queued.swap(true, Ordering::AcqRel))
            .collect();
        let inner = self.clone();
        self.tasks.spawn(async move {
            inner.pack(&files).await;
            drop(place);
            inner.wake.notify_one();
        });
        true
    }

    async fn pack(self: &Arc<Self>, files: &[Arc<FileState>]) {
        let dirty_bytes: u64 = files
            .iter()
            .map(|file| file.content.lock().overlay.dirty_bytes())
            .sum();
        let mut writer = None;
        if dirty_bytes > 0 {
            let room = sealed_bound(dirty_bytes).min(self.config.part_bytes) + PART_SLACK;
            let reservation = self.governor.acquire(Owner::Upload, room).await;
            writer
                .insert(ObjectWriter::begin(self, None))
                .provide(reservation);
        }
        let mut taken = Vec::with_capacity(files.len());
        for file in files {
            let stream = file.take.lock().await;
            let is_left = {
                let content = file.content.lock();
                // What is on its way of a file comes first: the rest waits for its commit.
                !content.may_be_packed() || self.leaves_as_it_was(&content)
            };
            if stream.is_none() && !is_left {
                match &mut writer {
                    Some(writer) => {
                        writer.serves(file);
                        self.seal_dirty(file, writer);
                    }
                    None => file.content.lock().take_attributes(),
                }
                taken.push(file.clone());
            }
            file.queued.store(false, Ordering::Release);
        }
        match writer {
            Some(writer) if taken.is_empty() => writer.abandon(),
            Some(writer) => self.complete(writer).await,
            None => self.commit(taken).await,
        }
    }

    pub(crate) fn spawn_complete(self: &Arc<Self>, writer: ObjectWriter) {
        let inner = self.clone();
        self.tasks
            .spawn(async move { inner.complete(writer).await });
    }
}
