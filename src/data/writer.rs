//! Writing one data object: sealing into part buffers, uploading parts in parallel, finishing.
//!
//! Sealed bytes are cut into parts of exactly the part size, wherever that falls, because some stores want all parts but the last to
//! be alike. What reaches over a part's end (less than a frame and a bit) is carried into the next. An object that ends
//! within its first part is a single PUT. A part that fails is sent again, the identical bytes, until it is accepted.
//!
//! Memory for uploads is held only while a buffer is being filled, which waits for nothing, and while it is on its way. A writer that waits for more
//! of its file holds nothing but its carry, and that counts as dirty data: many open streams together must not take what the first of
//! them needs to go on.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::task::JoinSet;
use tracing::{error, warn};

use super::{DataError, Inner, object::object_key, paid::paid_bytes};
use crate::{
    budget::{Owner, Reservation},
    meta::{Ino, NewObject, ObjectId},
    seal::codec::{DATA_FRAME_LOG2, HEADER_LEN, ObjectKind, Sealer, TAG_LEN},
    store::{Condition, PartTag, StoreError, StoreErrorKind, UploadId, Uploads},
};

const FRAME_LEN: u64 = 1 << DATA_FRAME_LOG2;

/// Room in a part's buffer beyond the part: one frame may reach over its end, and one may be held back before it.
pub(super) const PART_SLACK: u64 = 3 * (FRAME_LEN + TAG_LEN);

/// Pause between two tries of an upload that the store refused for a reason that time alone does not mend.
const REFUSED_PAUSE: Duration = Duration::from_secs(5);

/// What sealing `plaintext` bytes into one object may take.
pub(super) fn sealed_bound(plaintext_len: u64) -> u64 {
    plaintext_len + (plaintext_len / FRAME_LEN + 2) * TAG_LEN + HEADER_LEN
}

/// A run of a file that went into an object.
pub(super) struct Placed {
    pub(super) offset: u64,
    pub(super) bytes: Bytes,
    pub(super) at: u64,
}

/// An object being written.
pub(super) struct ObjectWriter {
    inner: Arc<Inner>,
    pub(super) id: ObjectId,
    key: String,
    sealer: Sealer,
    /// Sealed bytes that no part has taken yet, and what pays for their room.
    buffer: Vec<u8>,
    reservation: Option<Reservation>,
    /// No more is sealed once this much is buffered.
    limit_bytes: u64,
    upload: Option<UploadId>,
    parts: JoinSet<Result<PartTag, StoreError>>,
    parts_sent: u32,
}

impl ObjectWriter {
    /// A new object. `stream_of` names the file if it is one file's stream.
    pub(super) fn begin(inner: &Arc<Inner>, stream_of: Option<Ino>) -> ObjectWriter {
        let id = inner.next_object();
        let key = object_key(id);
        let sealer = Sealer::new(&inner.keys, ObjectKind::Data, DATA_FRAME_LOG2, &key);
        inner.objects.begin(id, sealer.params(), stream_of);
        ObjectWriter {
            inner: inner.clone(),
            id,
            key,
            sealer,
            buffer: Vec::new(),
            reservation: None,
            limit_bytes: 0,
            upload: None,
            parts: JoinSet::new(),
            parts_sent: 0,
        }
    }

    /// Plaintext taken so far.
    pub(super) fn plaintext_len(&self) -> u64 {
        self.sealer.plaintext_len()
    }

    /// Plaintext that the object still takes. It ends exactly at its bound, so that the objects of a stream begin at file offsets where
    /// large reads begin.
    fn object_room_bytes(&self) -> u64 {
        let max = self.inner.config.object_bytes_max;
        max.saturating_sub(self.plaintext_len())
    }

    /// Has the object reached its bound?
    pub(super) fn is_full(&self) -> bool {
        self.object_room_bytes() == 0
    }

    /// Gives the writer room for sealed bytes, those it carries included: all of `reservation` but [`PART_SLACK`].
    pub(super) fn provide(&mut self, reservation: Reservation) {
        self.limit_bytes = reservation.bytes().saturating_sub(PART_SLACK);
        let mut buffer = Vec::with_capacity(reservation.bytes() as usize);
        buffer.extend_from_slice(&self.buffer);
        self.buffer = buffer;
        self.reservation = Some(reservation);
    }

    /// Sealed bytes that are not in a part yet.
    pub(super) fn buffered_bytes(&self) -> u64 {
        self.buffer.len() as u64
    }

    /// About how much more plaintext there is room for.
    pub(super) fn room_bytes(&self) -> u64 {
        (self.limit_bytes + FRAME_LEN).saturating_sub(self.buffered_bytes())
    }

    /// Seals pieces, in order, until the room is used up; returns what went in.
    pub(super) fn seal(&mut self, pieces: &[(u64, Bytes)]) -> Vec<Placed> {
        let mut placed = Vec::new();
        for (offset, bytes) in pieces {
            let mut start = 0;
            while start < bytes.len() {
                let object_room = self.object_room_bytes();
                if self.buffered_bytes() >= self.limit_bytes || object_room == 0 {
                    return placed;
                }
                // In steps of a frame: the buffer overshoots its limit by at most one.
                let step = FRAME_LEN.min(object_room) as usize;
                let end = bytes.len().min(start + step);
                let run = bytes.slice(start..end);
                let at = self.sealer.plaintext_len();
                self.sealer.push(&run, &mut self.buffer);
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

    /// Sends the first `part_bytes` of the buffer as a part and carries the rest; false if there are not as many.
    pub(super) async fn send_full_part(&mut self, part_bytes: u64) -> Result<bool, StoreError> {
        if self.buffered_bytes() < part_bytes {
            return Ok(false);
        }
        let carry = self.buffer.split_off(part_bytes as usize);
        let part = std::mem::replace(&mut self.buffer, carry);
        if let Some(mut paid) = self.reservation.take() {
            let carried = paid.split(self.buffered_bytes());
            self.reservation = Some(carried.reassign(Owner::Dirty));
            self.send_part(part, paid).await?;
        }
        Ok(true)
    }

    async fn send_part(
        &mut self,
        part: Vec<u8>,
        reservation: Reservation,
    ) -> Result<(), StoreError> {
        let upload = match &self.upload {
            Some(upload) => upload.clone(),
            None => {
                let upload =
                    persist(&self.inner, || self.inner.store.create_multipart(&self.key)).await?;
                self.upload.insert(upload).clone()
            }
        };
        self.parts_sent += 1;
        let number = self.parts_sent;
        let part = paid_bytes(part, reservation);
        let inner = self.inner.clone();
        let key = self.key.clone();
        self.parts.spawn(async move {
            persist(&inner, || {
                inner
                    .store
                    .upload_part(&key, &upload, number, vec![part.clone()])
            })
            .await
        });
        Ok(())
    }

    /// Seals the final frame, sends what is left and waits until the object is in the store.
    pub(super) async fn finish(mut self) -> Result<NewObject, DataError> {
        let inner = self.inner.clone();
        let room = self.buffered_bytes() + FRAME_LEN + TAG_LEN + HEADER_LEN;
        if self
            .reservation
            .as_ref()
            .is_none_or(|held| held.bytes() < room)
        {
            // Only a stream that ends right after a full part: nothing but a carry is held.
            let reservation = inner.governor.acquire(Owner::Upload, room).await;
            self.provide(reservation);
        }
        let placeholder = Sealer::new(&inner.keys, ObjectKind::Data, DATA_FRAME_LOG2, &self.key);
        let sealer = std::mem::replace(&mut self.sealer, placeholder);
        let params = sealer.params();
        let layout = sealer.finish(&mut self.buffer);
        let rest = std::mem::take(&mut self.buffer);
        let Some(reservation) = self.reservation.take() else {
            return Err(DataError::Internal(format!(
                "object {}: no room for its last part",
                self.key
            )));
        };
        if self.upload.is_none() {
            let body = paid_bytes(rest, reservation);
            persist(&inner, || {
                inner
                    .store
                    .put(&self.key, vec![body.clone()], Condition::None, &[])
            })
            .await?;
        } else {
            self.send_part(rest, reservation).await?;
            self.complete().await?;
        }
        inner.objects.finish(self.id, layout)?;
        Ok(NewObject {
            object: self.id,
            params,
            plaintext_len: layout.plaintext_len,
        })
    }

    async fn complete(&mut self) -> Result<(), DataError> {
        let mut tags = Vec::with_capacity(self.parts_sent as usize);
        while let Some(part) = self.parts.join_next().await {
            let tag = part
                .map_err(|error| DataError::Internal(format!("upload of {}: {error}", self.key)))?;
            tags.push(tag?);
        }
        tags.sort_by_key(|tag| tag.number);
        if let Some(upload) = self.upload.take() {
            persist(&self.inner, || {
                self.inner
                    .store
                    .complete_multipart(&self.key, &upload, &tags, Condition::None)
            })
            .await?;
        }
        Ok(())
    }

    /// Lets the object go unfinished: its file was removed.
    pub(super) async fn abandon(mut self) {
        self.parts.abort_all();
        while self.parts.join_next().await.is_some() {}
        if let Some(upload) = self.upload.take()
            && let Err(error) = self.inner.store.abort_multipart(&self.key, &upload).await
        {
            // Left for the next mount, which clears what dead sessions began.
            warn!("object {}: cannot abort its upload: {error}", self.key);
        }
        self.inner.objects.end(self.id);
    }
}

/// Tries until the store accepts. Passing failures are waited out inside the store; what it refuses for good (credentials
/// withdrawn, bucket gone) is reported to whoever waits for durability, and tried again: the data is still here.
async fn persist<T, F, Fut>(inner: &Arc<Inner>, mut attempt: F) -> Result<T, StoreError>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, StoreError>>,
{
    loop {
        match attempt().await {
            Ok(done) => {
                inner.store.health(Uploads::Data).store_answered();
                return Ok(done);
            }
            Err(refusal) if refusal.kind == StoreErrorKind::NotFound => {
                // The multipart upload itself is gone: its earlier parts cannot be sent again.
                error!("upload lost: {refusal}");
                inner.store.health(Uploads::Data).store_refused(&refusal);
                return Err(refusal);
            }
            Err(refusal) => {
                warn!(
                    "upload refused, will try again in {} s: {refusal}",
                    REFUSED_PAUSE.as_secs()
                );
                inner.store.health(Uploads::Data).store_refused(&refusal);
                tokio::time::sleep(REFUSED_PAUSE).await;
            }
        }
    }
}
