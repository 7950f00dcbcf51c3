//! Streams: uploads of one file's own, part after part or in one sweep over the file.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Instant,
};

use super::WriteBack;
use crate::{
    budget::Owner,
    data::{
        file::{Content, FileState},
        upload::{ObjectWriter, PART_SLACK, sealed_bound},
    },
    meta::Ino,
};

/// An object of a file that is written at random ends after so many parts.
const SWEEP_OBJECT_PARTS: u64 = 4;

impl WriteBack {
    /// Ends the streams that readers wait for, as long as the volume is mounted.
    pub(super) async fn end_wanted_streams(self: Arc<Self>) {
        loop {
            let inos = tokio::select! {
                () = self.shared.stop.cancelled() => return,
                inos = self.reading.streams_wanted.take() => inos,
            };
            for file in inos
                .into_iter()
                .filter_map(|ino| self.reading.known_file(ino))
            {
                self.spawn_finish_stream(&file);
            }
        }
    }

    /// Sends full parts of `file` while there are any. Called after a write made it large.
    pub(crate) fn spawn_pump(self: &Arc<Self>, file: &Arc<FileState>) {
        if file.pumping.swap(true, Ordering::AcqRel) {
            return;
        }
        let write_back = self.clone();
        let file = file.clone();
        self.shared.tasks.spawn(async move {
            loop {
                write_back.pump(&file).await;
                file.pumping.store(false, Ordering::Release);
                // A write that came between the last look and the store above saw the flag and left
                // the work to us.
                let more = write_back.has_full_part(&file);
                if !more || file.pumping.swap(true, Ordering::AcqRel) {
                    return;
                }
            }
        });
    }

    /// Does its stream have another part to send?
    fn has_full_part(&self, file: &FileState) -> bool {
        let content = file.content.lock();
        let dirty_bytes = content.overlay.dirty_bytes();
        !content.is_written_at_random() && dirty_bytes >= self.shared.config.part_bytes + PART_SLACK
    }

    async fn pump(self: &Arc<Self>, file: &Arc<FileState>) {
        while self.has_full_part(file) {
            let reservation = self
                .shared
                .governor
                .acquire(Owner::Upload, self.shared.config.part_bytes + PART_SLACK)
                .await;
            let mut stream = file.stream.lock().await;
            // Another task may have sent it meanwhile.
            if !self.has_full_part(file) {
                return;
            }
            let writer = stream.get_or_insert_with(|| Box::new(self.begin_object(Some(file.ino))));
            writer.provide(reservation);
            self.seal_dirty(file, writer);
            // Less than a part if the file was truncated just now.
            let goes_on = writer.send_full_part(self.shared.config.part_bytes) && !writer.is_full();
            if !goes_on && let Some(writer) = stream.take() {
                self.spawn_complete(*writer);
            }
        }
    }

    /// Moves dirty pieces of `file` into `writer`, as far as it has room. The caller holds the
    /// file's stream lock.
    pub(super) fn seal_dirty(&self, file: &FileState, writer: &mut ObjectWriter) {
        let collected = file.content.lock().collect(0, writer.room_bytes());
        let placed = writer.seal(&collected.pieces);
        file.content
            .lock()
            .begin_in_object(writer.id, &collected, &placed);
    }

    /// Sends everything that is dirty in `file` through its stream, in one sweep over the file, and
    /// ends the stream's object.
    pub(crate) fn spawn_finish_stream(self: &Arc<Self>, file: &Arc<FileState>) {
        if file.queued.swap(true, Ordering::AcqRel) {
            return;
        }
        let write_back = self.clone();
        let file = file.clone();
        self.shared.tasks.spawn(async move {
            write_back.finish_stream(&file).await;
            file.queued.store(false, Ordering::Release);
            write_back.wake.notify_one();
        });
    }

    pub(super) async fn finish_stream(self: &Arc<Self>, file: &Arc<FileState>) {
        self.let_crumbs_settle(file).await;
        // The bytes that are written along with crumbs come on top of the dirty ones.
        let mut whole_part = file.content.lock().overlay.is_in_crumbs();
        let (began, mut swept_to) = (Instant::now(), 0);
        let open = self.reading.open(file.ino);
        loop {
            let dirty_bytes = file.content.lock().overlay.dirty_bytes();
            let part_bytes = self.shared.config.part_bytes;
            let limit = if whole_part {
                part_bytes
            } else {
                sealed_bound(dirty_bytes).min(part_bytes)
            };
            let reservation = self
                .shared
                .governor
                .acquire(Owner::Upload, limit + PART_SLACK)
                .await;
            let mut stream = file.stream.lock().await;
            let dirty_bytes = file.content.lock().overlay.dirty_bytes();
            if stream.is_none() && dirty_bytes == 0 {
                drop((stream, reservation));
                self.commit_attributes(file).await;
                return;
            }
            let writer = stream.get_or_insert_with(|| Box::new(self.begin_object(Some(file.ino))));
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
                // Bytes that were written since the room was reserved wait for the next round: a
                // writer that is short of room must not wait for more.
                return;
            }
        }
    }

    /// Should the object end here? Its bytes cannot be read until it does, and files that are
    /// written at random are read meanwhile.
    fn is_enough(&self, file: &FileState, writer: &ObjectWriter) -> bool {
        let bound = SWEEP_OBJECT_PARTS * self.shared.config.part_bytes;
        writer.plaintext_len() >= bound && file.content.lock().is_written_at_random()
    }

    async fn commit_attributes(self: &Arc<Self>, file: &Arc<FileState>) {
        {
            let _no_other_write_back = file.stream.lock().await;
            let mut content = file.content.lock();
            if !content.is_all_in_flight() && !self.leaves_as_it_was(&content) {
                content.begin_attributes();
            }
        }
        self.commit(vec![file.clone()]).await;
    }

    /// Does a file that was emptied since it was chosen stay as it was in the store?
    pub(super) fn leaves_as_it_was(&self, content: &Content) -> bool {
        content.awaits_contents(Instant::now()) && !self.draining.load(Ordering::Acquire)
    }

    /// A new object, a file's stream or a pack.
    pub(super) fn begin_object(self: &Arc<Self>, stream_of: Option<Ino>) -> ObjectWriter {
        ObjectWriter::begin(&self.uploads, stream_of, self.clone())
    }

    pub(crate) fn spawn_complete(self: &Arc<Self>, writer: ObjectWriter) {
        let write_back = self.clone();
        self.shared
            .tasks
            .spawn(async move { write_back.complete(writer).await });
    }
}
