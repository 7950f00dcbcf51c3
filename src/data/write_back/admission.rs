//! Admission: a write waits until dirty memory is reserved for its bytes, then goes into the
//! overlay of its file.
//!
//! A write whose permit is not there yet is *parked*: its bytes are copied into a share of the
//! budget that is kept for this, so that the FUSE thread that brought them goes on.

use std::sync::Arc;

use bytes::Bytes;

use super::WriteBack;
use crate::{
    budget::{Owner, Reservation},
    data::{
        DataError,
        file::{FileState, OFFSET_MAX},
        paid::{BUFFER_OVERHEAD, STATE_BYTES, paid_bytes},
    },
    meta::{Ino, Timestamp},
};

/// A write's permit: its bytes, paid for as dirty data.
pub struct WriteBuffer {
    pub(crate) bytes: Bytes,
    /// Pays for what is kept of the file, in case this write makes it one with uncommitted
    /// contents.
    pub(crate) state: Reservation,
}

/// A write that asks to be admitted; see [`Data::admit`](crate::data::Data::admit).
pub struct Admission {
    state: State,
}

enum State {
    Permitted(WriteBuffer),
    /// The bytes are paid for as parked, and wait for a permit.
    Parked(Vec<u8>, Reservation),
    /// There will be no permit.
    Refused(DataError),
}

impl WriteBuffer {
    fn copy_of(data: &[u8], reservation: Reservation) -> WriteBuffer {
        WriteBuffer::paid(data.to_vec(), reservation)
    }

    pub(crate) fn paid(bytes: Vec<u8>, mut reservation: Reservation) -> WriteBuffer {
        let state = reservation.split(STATE_BYTES);
        WriteBuffer {
            bytes: paid_bytes(bytes, reservation),
            state,
        }
    }

    /// Bytes to be written.
    #[expect(clippy::len_without_is_empty, reason = "nobody asks")]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }
}

/// Dirty memory that a permit for so many bytes takes.
pub(crate) fn buffer_cost(len: usize) -> u64 {
    len as u64 + BUFFER_OVERHEAD + STATE_BYTES
}

impl WriteBack {
    pub(crate) fn try_buffer(&self, data: &[u8]) -> Option<WriteBuffer> {
        let cost = buffer_cost(data.len());
        let reservation = self.shared.governor.try_acquire(Owner::Dirty, cost)?;
        Some(WriteBuffer::copy_of(data, reservation))
    }

    pub(crate) async fn buffer(&self, data: &[u8]) -> WriteBuffer {
        let cost = buffer_cost(data.len());
        let reservation = self.shared.governor.acquire(Owner::Dirty, cost).await;
        WriteBuffer::copy_of(data, reservation)
    }

    pub(crate) fn admit(&self, data: &[u8]) -> Option<Admission> {
        let state = match self.try_buffer(data) {
            Some(buffer) => State::Permitted(buffer),
            None => {
                let cost = buffer_cost(data.len());
                let parked = self.shared.governor.try_acquire(Owner::Parked, cost)?;
                State::Parked(data.to_vec(), parked)
            }
        };
        Some(Admission { state })
    }

    pub(crate) async fn admit_in_line(&self, data: &[u8]) -> Admission {
        let state = match self.dirty_room(buffer_cost(data.len())).await {
            Ok(reservation) => State::Permitted(WriteBuffer::copy_of(data, reservation)),
            Err(error) => State::Refused(error),
        };
        Admission { state }
    }

    pub(crate) async fn permit(&self, admission: Admission) -> Result<WriteBuffer, DataError> {
        match admission.state {
            State::Permitted(buffer) => Ok(buffer),
            State::Parked(bytes, parked) => {
                let reservation = self.dirty_room(parked.bytes()).await?;
                Ok(WriteBuffer::paid(bytes, reservation))
            }
            State::Refused(error) => Err(error),
        }
    }

    /// Waits in line for room for dirty data. Once nothing can be uploaded any more no room is
    /// given back, so nobody waits then.
    pub(crate) async fn dirty_room(&self, bytes: u64) -> Result<Reservation, DataError> {
        tokio::select! {
            biased;
            reservation = self.shared.governor.acquire(Owner::Dirty, bytes) => Ok(reservation),
            () = self.uploads.no_uploads.cancelled() => {
                self.check()?;
                Err(DataError::Internal("the mount has ended".into()))
            }
        }
    }

    pub(crate) async fn write(
        self: &Arc<Self>,
        ino: Ino,
        offset: u64,
        buffer: WriteBuffer,
        now: Timestamp,
    ) -> Result<(), DataError> {
        let len = buffer.bytes.len() as u64;
        offset
            .checked_add(len)
            .filter(|end| *end <= OFFSET_MAX)
            .ok_or(DataError::TooLarge)?;
        self.check()?;
        let file = self.reading.loaded(ino).await?;
        self.not_crowded(&file).await?;
        let mut state = Some(buffer.state);
        let (dirty_bytes, at_random) = {
            let mut content = file.content.lock();
            if content.discarded {
                return Err(DataError::NotFound);
            }
            if len > 0 {
                content.write(offset, buffer.bytes);
            }
            content.touch(now);
            content.pay_for_state(&mut state);
            let dirty_bytes = content.overlay.dirty_bytes();
            (dirty_bytes, content.is_written_at_random())
        };
        drop(state);
        self.mark_dirty(&file);
        if dirty_bytes >= self.shared.config.part_bytes {
            if !at_random {
                self.spawn_pump(&file);
            } else if self.is_short_of_room() {
                self.spawn_slice(&file);
            }
        }
        Ok(())
    }

    /// Waits while too much of the file waits for data before it.
    async fn not_crowded(self: &Arc<Self>, file: &Arc<FileState>) -> Result<(), DataError> {
        loop {
            let progress = file.progress.notified();
            tokio::pin!(progress);
            progress.as_mut().enable();
            {
                let mut content = file.content.lock();
                if !content.is_crowded() {
                    return Ok(());
                }
                content.wanted = content.change;
            }
            self.check()?;
            self.wake.notify_one();
            progress.await;
        }
    }
}
