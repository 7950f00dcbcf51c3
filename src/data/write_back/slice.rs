//! Sweeps in slices: a file that is written at random makes room, and no more room than is needed.
//!
//! While the pages that a writer writes all over a file fit into memory, they wait there, and each
//! that is written again is one less to upload. When they no longer fit, some have to go. To send
//! all of them at once would empty the memory and leave nothing that the next writes could replace.
//! So a sweep goes over the file in slices of about a part, in the order of the file, each when
//! room runs short, and begins anew at the file's end. That has two effects:
//!
//! - Memory stays full. With a share f of the file's pages dirty, a share 1 - f of the writes has
//!   to be made up for by uploads. Whole sweeps keep half of f on average.
//! - The pages of a slice have waited for a whole turn around the file, so nearly all pages there
//!   are dirty, and the object is nearly the same as that part of the file: it reads well.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Instant,
};

use super::WriteBack;
use crate::{
    budget::Owner,
    data::{file::FileState, upload::PART_SLACK},
};

/// A slice is so much smaller than a part, for the frames that may reach over its end and the
/// sealing: then its object is one PUT.
const BELOW_A_PART: u64 = 256 << 10;

impl WriteBack {
    /// Is so little room left for dirty data that a slice should go out? About as much is left as
    /// is written until its bytes are sealed.
    pub(crate) fn is_short_of_room(&self) -> bool {
        let room = self.shared.governor.owner_max_bytes(Owner::Dirty);
        let spared = (self.shared.config.part_bytes / 2).min(room / 4);
        self.shared.governor.used_bytes(Owner::Dirty) >= room - spared
    }

    /// Sends the next slice of `file`, unless a task sends something of it already.
    pub(crate) fn spawn_slice(self: &Arc<Self>, file: &Arc<FileState>) {
        if file.queued.swap(true, Ordering::AcqRel) {
            return;
        }
        let write_back = self.clone();
        let file = file.clone();
        self.shared.tasks.spawn(async move {
            write_back.send_slice(&file).await;
            file.queued.store(false, Ordering::Release);
            write_back.wake.notify_one();
        });
    }

    async fn send_slice(self: &Arc<Self>, file: &Arc<FileState>) {
        self.let_crumbs_settle(file).await;
        let open = self.reading.open(file.ino);
        let part_bytes = self.shared.config.part_bytes;
        let slice_bytes = part_bytes.saturating_sub(BELOW_A_PART).max(part_bytes / 2);
        let reservation = self
            .shared
            .governor
            .acquire(Owner::Upload, slice_bytes + PART_SLACK)
            .await;
        let mut stream = file.stream.lock().await;
        let from = {
            let mut content = file.content.lock();
            if content.overlay.dirty_bytes() == 0 {
                return;
            }
            content.next_slice(Instant::now())
        };
        // A stream that is open, because the file was written in order before, ends with the slice.
        let mut writer = match stream.take() {
            Some(writer) => writer,
            None => Box::new(self.begin_object(Some(file.ino))),
        };
        writer.provide(reservation);
        if let Some(to) = self.seal_swept(file, &open, &mut writer, from).await {
            file.content.lock().slice_ended(to);
            self.shared.store.metrics().sent_slices.increment();
        }
        writer.send_full_part(part_bytes);
        self.spawn_complete(*writer);
    }
}
