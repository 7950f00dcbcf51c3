//! Writing one data object: sealing into part buffers, which [`Sending`] brings into the store.
//!
//! Sealed bytes are cut into parts of exactly the part size, also within a frame, because some
//! stores want all parts but the last to be alike. Bytes that reach over the end of a part (less
//! than a frame and a bit) are carried into the next. An object that ends within its first part is
//! a single PUT.
//!
//! Memory for uploads is held only while a buffer is being filled, which waits for nothing, and
//! until the store acknowledged it. A writer that waits for more of its file holds nothing but its
//! carry, and that counts as dirty data: many open streams together must not take what the first of
//! them needs to go on.

use std::sync::Arc;

use bytes::Bytes;
use tokio::task::JoinHandle;

use super::{
    Refusals, Uploads,
    send::{Ended, Sending, cut_off},
};
use crate::{
    budget::{Owner, Reservation},
    data::{DataError, object_key, paid::paid_bytes},
    meta::{Ino, NewObject, ObjectId},
    seal::codec::{DATA_FRAME_LOG2, HEADER_LEN, ObjectKind, Sealer, TAG_LEN},
    store::StoreError,
};

const FRAME_LEN: u64 = 1 << DATA_FRAME_LOG2;

/// Room in the buffer of a part beyond the part itself: one frame may reach over its end, and one
/// may be held back before it.
pub(crate) const PART_SLACK: u64 = 3 * (FRAME_LEN + TAG_LEN);

/// The most bytes that sealing `plaintext_len` bytes into one object may yield.
pub(crate) fn sealed_bound(plaintext_len: u64) -> u64 {
    plaintext_len + (plaintext_len / FRAME_LEN + 2) * TAG_LEN + HEADER_LEN
}

/// A run that went into an object.
pub(crate) struct Placed {
    /// Where in the file.
    pub(crate) offset: u64,
    /// The bytes, as collected.
    pub(crate) bytes: Bytes,
    /// Where in the object.
    pub(crate) at: u64,
}

/// An object being written.
pub(crate) struct ObjectWriter {
    uploads: Arc<Uploads>,
    pub(crate) id: ObjectId,
    key: String,
    sealer: Sealer,
    /// Frames that were sealed.
    frames: u64,
    /// Sealed bytes that are in no part yet, and the reservation for their buffer.
    buffer: Vec<u8>,
    reservation: Option<Reservation>,
    /// No more is sealed once this much is buffered.
    limit_bytes: u64,
    sending: Arc<Sending>,
    /// The task that sends, once there is something to send.
    task: Option<JoinHandle<Ended>>,
}

impl ObjectWriter {
    /// A new object. `stream_of` is the file if it is one file's stream. Refusals of the object go
    /// to `refusals`.
    pub(crate) fn begin(
        uploads: &Arc<Uploads>,
        stream_of: Option<Ino>,
        refusals: Arc<dyn Refusals>,
    ) -> ObjectWriter {
        let id = uploads.next_object();
        let key = object_key(id);
        let sealer = Sealer::new(
            &uploads.shared.keys,
            ObjectKind::Data,
            DATA_FRAME_LOG2,
            &key,
        );
        uploads.frames.objects.begin(id, sealer.params(), stream_of);
        let sending = Sending::new(id, key.clone(), refusals);
        if let Some(ino) = stream_of {
            sending.serves(ino);
        }
        ObjectWriter {
            uploads: uploads.clone(),
            id,
            key,
            sealer,
            frames: 0,
            buffer: Vec::new(),
            reservation: None,
            limit_bytes: 0,
            sending,
            task: None,
        }
    }

    /// This file has bytes in the object.
    pub(crate) fn serves(&self, ino: Ino) {
        self.sending.serves(ino);
    }

    /// Plaintext that was sealed so far.
    pub(crate) fn plaintext_len(&self) -> u64 {
        self.sealer.plaintext_len()
    }

    /// Plaintext that the object still takes. It ends exactly at its bound, so that the objects of
    /// a stream begin at file offsets where large reads begin.
    fn object_room_bytes(&self) -> u64 {
        let max = self.uploads.shared.config.object_bytes_max;
        max.saturating_sub(self.plaintext_len())
    }

    /// Has the object reached its bound?
    pub(crate) fn is_full(&self) -> bool {
        self.object_room_bytes() == 0
    }

    /// Gives the writer room for sealed bytes, those it carries included: all of `reservation` but
    /// [`PART_SLACK`].
    pub(crate) fn provide(&mut self, reservation: Reservation) {
        self.limit_bytes = reservation.bytes().saturating_sub(PART_SLACK);
        let mut buffer = Vec::with_capacity(reservation.bytes() as usize);
        buffer.extend_from_slice(&self.buffer);
        self.buffer = buffer;
        self.reservation = Some(reservation);
    }

    /// Sealed bytes that are not in a part yet.
    pub(crate) fn buffered_bytes(&self) -> u64 {
        self.buffer.len() as u64
    }

    /// About how much more plaintext there is room for.
    pub(crate) fn room_bytes(&self) -> u64 {
        (self.limit_bytes + FRAME_LEN).saturating_sub(self.buffered_bytes())
    }

    /// Would [`ObjectWriter::seal`] take nothing?
    pub(crate) fn is_out_of_room(&self) -> bool {
        self.buffered_bytes() >= self.limit_bytes || self.is_full()
    }

    /// Seals pieces, in order, until the room is used up; returns the runs that went in.
    pub(crate) fn seal(&mut self, pieces: &[(u64, Bytes)]) -> Vec<Placed> {
        let mut placed = Vec::new();
        for (offset, bytes) in pieces {
            let mut start = 0;
            while start < bytes.len() {
                if self.is_out_of_room() {
                    return placed;
                }
                let object_room = self.object_room_bytes();
                // Bytes are sealed in steps of a frame, so the buffer overshoots its limit by at
                // most one.
                let step = FRAME_LEN.min(object_room) as usize;
                let end = bytes.len().min(start + step);
                let run = bytes.slice(start..end);
                let at = self.sealer.plaintext_len();
                let from = self.sealed_from();
                self.sealer.push(&run, &mut self.buffer);
                self.put_on_disk(from);
                placed.push(Placed {
                    offset: offset + start as u64,
                    bytes: run,
                    at,
                });
                start = end;
            }
        }
        placed
    }

    /// Where in the buffer the frame goes that is sealed next.
    fn sealed_from(&self) -> usize {
        let header_len = match self.plaintext_len() {
            0 => HEADER_LEN as usize,
            _ => 0,
        };
        self.buffer.len() + header_len
    }

    /// Keeps the frames that were sealed into the buffer from `from` on on the local disk: programs
    /// that check what they wrote read it soon.
    fn put_on_disk(&mut self, from: usize) {
        let sealed = self.buffer.get(from..).unwrap_or_default();
        for frame in sealed.chunks((FRAME_LEN + TAG_LEN) as usize) {
            self.uploads
                .frames
                .put_on_disk(self.id, self.frames, frame, true);
            self.frames += 1;
        }
    }

    /// Sends the first `part_bytes` of the buffer as a part and carries the rest; false if there
    /// are not as many.
    pub(crate) fn send_full_part(&mut self, part_bytes: u64) -> bool {
        if self.buffered_bytes() < part_bytes {
            return false;
        }
        // Without a reservation nothing was sealed since the last part: the buffer is a carry.
        let Some(mut paid) = self.reservation.take() else {
            return false;
        };
        let carry = self.buffer.split_off(part_bytes as usize);
        let part = std::mem::replace(&mut self.buffer, carry);
        let carried = paid.split(self.buffered_bytes());
        self.reservation = Some(carried.reassign(Owner::Dirty));
        self.send_part(paid_bytes(part, paid), false);
        true
    }

    fn send_part(&mut self, part: Bytes, last: bool) {
        self.sending.push(part, last);
        if self.task.is_none() {
            let send = self.uploads.clone().send(self.sending.clone());
            self.task = Some(self.uploads.shared.tasks.spawn(send));
        }
    }

    /// Seals the final frame, sends the rest and waits until the object is in the store.
    pub(crate) async fn finish(mut self) -> Result<NewObject, Unfinished> {
        let uploads = self.uploads.clone();
        let room = self.buffered_bytes() + FRAME_LEN + TAG_LEN + HEADER_LEN;
        if self
            .reservation
            .as_ref()
            .is_none_or(|held| held.bytes() < room)
        {
            // Only a stream that ends right after a full part: nothing but a carry is held.
            let reservation = uploads.shared.governor.acquire(Owner::Upload, room).await;
            self.provide(reservation);
        }
        let from = self.sealed_from();
        let placeholder = Sealer::new(
            &uploads.shared.keys,
            ObjectKind::Data,
            DATA_FRAME_LOG2,
            &self.key,
        );
        let sealer = std::mem::replace(&mut self.sealer, placeholder);
        let params = sealer.params();
        let layout = sealer.finish(&mut self.buffer);
        self.put_on_disk(from);
        let rest = std::mem::take(&mut self.buffer);
        match self.reservation.take() {
            Some(reservation) => self.send_part(paid_bytes(rest, reservation), true),
            None => return Err(Unfinished::Lost(cut_off(&self.key))),
        }
        let ended = match self.task.take() {
            Some(task) => task
                .await
                .unwrap_or_else(|_| Ended::Lost(cut_off(&self.key))),
            None => Ended::Lost(cut_off(&self.key)),
        };
        match ended {
            Ended::Stored => {}
            Ended::Lost(error) => return Err(Unfinished::Lost(error)),
            Ended::Abandoned => return Err(Unfinished::Abandoned),
        }
        if let Err(error) = uploads.frames.objects.finish(self.id, layout) {
            // Its key was derived when it was begun; deriving it again cannot fail.
            tracing::error!("object {}: {}", self.key, DataError::from(error));
        }
        Ok(NewObject {
            object: self.id,
            params,
            plaintext_len: layout.plaintext_len,
        })
    }

    /// Lets the object go unfinished: its file was removed. An upload that stands in the store is
    /// aborted in the background.
    pub(crate) fn abandon(self) {
        self.sending.abandon();
        self.uploads.frames.objects.end(self.id);
    }

    /// Files with bytes in the object.
    pub(crate) fn inos(&self) -> Vec<Ino> {
        self.sending.inos()
    }
}

/// Why an object did not get into the store.
pub(crate) enum Unfinished {
    /// The store lost bytes that it had acknowledged.
    Lost(StoreError),
    /// Nobody wants it any more.
    Abandoned,
}
