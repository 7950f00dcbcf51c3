//! The sealed frames of one GET, in order, as the store sends them.

use std::{ops::Range, sync::Arc, time::Instant};

use bytes::{Bytes, BytesMut};

use super::{Frames, object::ObjectHandle};
use crate::{
    data::DataError,
    seal::{SealError, codec::TAG_LEN},
    store::{Body, StoreErrorKind},
};

/// See the module's head. The frames are not opened here.
pub(crate) struct SentFrames {
    memory: Arc<Frames>,
    object: Arc<ObjectHandle>,
    body: Body,
    /// Frames that have not come.
    frames: Range<u64>,
    /// The rest of the last chunk.
    chunk: Bytes,
    /// The frame that was given out last, if it lay in one chunk; else it is in `pieces`.
    whole: Bytes,
    /// The beginning of a frame whose end is in a later chunk.
    pieces: BytesMut,
    pieces_given_out: bool,
    /// When the first byte came, and how many came after its chunk.
    pace: Option<(Instant, u64)>,
}

impl SentFrames {
    /// Asks for `frames` of `object`.
    pub(crate) async fn ask(
        memory: &Arc<Frames>,
        object: &Arc<ObjectHandle>,
        frames: Range<u64>,
    ) -> Result<SentFrames, DataError> {
        let range = object.layout.stored_range(frames.clone());
        let body = memory.shared.store.get(&object.key, Some(range)).await;
        let body = body.map_err(|error| match error.kind {
            StoreErrorKind::NotFound if memory.shared.meta.is_follower() => {
                DataError::Stale(object.key.clone())
            }
            StoreErrorKind::NotFound => {
                let path = object.key.clone();
                SealError::Missing { path }.into()
            }
            StoreErrorKind::Range => wrong_length(object, 0),
            _ => error.into(),
        })?;
        memory.link.note_answer(body.answered_after);
        if body.head.size != object.layout.stored_len() {
            return Err(wrong_length(object, body.head.size));
        }
        Ok(SentFrames {
            memory: memory.clone(),
            object: object.clone(),
            body,
            frames,
            chunk: Bytes::new(),
            whole: Bytes::new(),
            pieces: BytesMut::new(),
            pieces_given_out: false,
            pace: None,
        })
    }

    /// The next frame; `None` when all have come, or when the connection broke.
    pub(crate) async fn next(&mut self) -> Result<Option<&[u8]>, DataError> {
        self.whole = Bytes::new();
        if std::mem::take(&mut self.pieces_given_out) {
            self.pieces.clear();
        }
        if self.frames.is_empty() {
            self.end().await;
            return Ok(None);
        }
        let plaintext_len = self.object.layout.frame_plaintext_len(self.frames.start);
        let sealed_len = (plaintext_len + TAG_LEN) as usize;
        loop {
            let wanted = sealed_len - self.pieces.len();
            let piece = self.chunk.split_to(self.chunk.len().min(wanted));
            if piece.len() == sealed_len {
                self.frames.start += 1;
                self.whole = piece;
                return Ok(Some(&self.whole));
            }
            if !piece.is_empty() {
                self.pieces.reserve(wanted);
                self.pieces.extend_from_slice(&piece);
            }
            if self.pieces.len() == sealed_len {
                self.frames.start += 1;
                self.pieces_given_out = true;
                return Ok(Some(&self.pieces));
            }
            match self.body.chunk().await {
                Ok(Some(chunk)) => self.chunk = chunk,
                Ok(None) => return Ok(None),
                Err(error) if error.kind == StoreErrorKind::Unavailable => return Ok(None),
                Err(error) => return Err(error.into()),
            }
            match &mut self.pace {
                None => self.pace = Some((Instant::now(), 0)),
                Some((_, bytes)) => *bytes += self.chunk.len() as u64,
            }
        }
    }

    /// Reads the body to its end, so that the connection can be used again.
    async fn end(&mut self) {
        while let Ok(Some(_)) = self.body.chunk().await {}
        if let Some((first_byte_at, bytes)) = self.pace.take() {
            self.memory.link.note_body(bytes, first_byte_at.elapsed());
        }
    }
}

fn wrong_length(object: &ObjectHandle, actual: u64) -> DataError {
    SealError::Length {
        path: object.key.clone(),
        actual,
        expected: object.layout.stored_len(),
    }
    .into()
}
