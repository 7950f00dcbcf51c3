//! Sweeps over a file that was written in crumbs: the bytes between tiny pieces are written along.
//!
//! Random writes do not read: the new bytes go into a new object, and the extent map points to
//! them. For pieces much smaller than a page this costs more than reading. Each costs up to three
//! rows of metadata, in the log, in a table and in each compaction, and every later read and commit
//! of that part of the file goes through them (docs/architecture.md has the figures). So where a
//! sweep finds many separate runs of dirty bytes in a region of the file, it reads what is
//! committed between them and writes the region whole. Aligned pages never come to that many.
//!
//! Promises: bytes that are written along are never in the overlay, only in flight, so that reads
//! go on from where the bytes are committed; they are never put where something uncommitted lies; a
//! region that cannot be read goes out in crumbs. The caller holds the file's stream lock from
//! looking for gaps until the bytes are in flight, so nothing that is committed there can change
//! meanwhile.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;

use super::WriteBack;
use crate::data::{OpenFile, file::FileState, upload::ObjectWriter};

/// Bytes of a file that are looked at for gaps at once. The bytes in the gaps are read with one or
/// two requests, and held until they are sealed.
const STRETCH_MAX: u64 = 1 << 20;

/// A sweep waits so long for the commit of the sweep before it.
const SETTLE_MAX: Duration = Duration::from_secs(5);

impl WriteBack {
    /// Waits until what is on its way of a file in crumbs is committed: only then can it be written
    /// along with what is next to it. Holds nothing.
    pub(crate) async fn let_crumbs_settle(self: &Arc<Self>, file: &FileState) {
        // A stream that is open ends with this sweep, and not before.
        if file.stream.lock().await.is_some() || !file.content.lock().overlay.is_in_crumbs() {
            return;
        }
        let settled = async {
            loop {
                let progress = file.progress.notified();
                tokio::pin!(progress);
                progress.as_mut().enable();
                if file.content.lock().may_be_packed() || self.check().is_err() {
                    return;
                }
                progress.await;
            }
        };
        // After that it goes out as it is.
        let _ = tokio::time::timeout(SETTLE_MAX, settled).await;
    }

    /// Moves dirty pieces of `file` from `from` on into `writer`, as far as it has room, and what
    /// lies between them where they are many; returns where the last of them ends. The caller holds
    /// the file's stream lock.
    pub(crate) async fn seal_swept(
        self: &Arc<Self>,
        file: &Arc<FileState>,
        open: &OpenFile,
        writer: &mut ObjectWriter,
        from: u64,
    ) -> Option<u64> {
        let (mut from, mut swept_to) = (from, None);
        while !writer.is_out_of_room() {
            let room = writer.room_bytes();
            let (stretch, gaps) = {
                let content = file.content.lock();
                let stretch = content.overlay.stretch(from, room.min(STRETCH_MAX), room);
                let whole = stretch.as_ref().and_then(|stretch| stretch.whole.clone());
                (
                    stretch,
                    whole.map_or(Vec::new(), |whole| content.gaps(whole)),
                )
            };
            let Some(stretch) = stretch else { break };
            let filler = match self.reading.read_gaps(open, &gaps, false).await {
                Ok(filler) => filler,
                Err(error) => {
                    let unread = stretch.whole.clone().unwrap_or_default();
                    self.note_unreadable(file.ino, &unread, &error);
                    Vec::new()
                }
            };
            let (collected, pieces) =
                file.content
                    .lock()
                    .collect_with(&filler, from, stretch.until, room);
            let end_of = |(offset, bytes): &(u64, Bytes)| offset + bytes.len() as u64;
            let wanted = pieces.last().map(end_of);
            let placed = writer.seal(&pieces);
            let placed_to = placed.last().map(|run| run.offset + run.bytes.len() as u64);
            file.content
                .lock()
                .begin_in_object(writer.id, &collected, &placed);
            swept_to = placed_to.or(swept_to);
            match placed_to {
                Some(end) if placed_to == wanted => from = end.max(stretch.until),
                _ => break,
            }
        }
        swept_to
    }
}
