//! Salvage: the readable part of a damaged object is written to a new one, so that the damaged one
//! dies; a lost record is read back from the object's header.

use std::ops::Range;

use bytes::Bytes;

use super::{Check, CheckError};
use crate::{
    data::object_key,
    meta::{
        ContentCommit, Damaged, Extent, ExtentSource, Fault, Ino, MetaError, NewObject, ObjectId,
        ObjectRecord,
    },
    seal::codec::{DATA_FRAME_LOG2, HEADER_LEN, Layout, ObjectKind, Opener, Sealer},
    store::{Condition, StoreErrorKind},
};

/// Plaintext of an object that is written here.
const OBJECT_BYTES: u64 = 8 << 20;
/// Extents that are looked at at a time.
const EXTENTS_AT_ONCE: usize = 512;
/// Plaintext that is read at once.
const STEP_BYTES: u64 = 4 << 20;

/// The bytes of a new object until it is written.
#[derive(Default)]
struct Gathered {
    bytes: Vec<u8>,
    /// File, offset and length of each part, in the order of `bytes`.
    parts: Vec<(Ino, u64, u64)>,
}

impl Check {
    /// Moves all extents that still name `damaged` to new objects.
    pub(super) async fn salvage(&mut self, damaged: &[Damaged]) -> Result<(), CheckError> {
        let mut gathered = Gathered::default();
        let mut after = None;
        loop {
            let extents = self
                .meta
                .extents_in(damaged, after, EXTENTS_AT_ONCE)
                .await?;
            let Some((ino, last)) = extents.last() else {
                break;
            };
            after = Some((*ino, last.offset + last.len));
            for (ino, extent) in extents {
                self.gather(ino, &extent, &mut gathered).await?;
            }
        }
        self.write_gathered(&mut gathered).await?;
        self.meta.flush().await?;
        Ok(())
    }

    async fn gather(
        &mut self,
        ino: Ino,
        extent: &Extent,
        gathered: &mut Gathered,
    ) -> Result<(), CheckError> {
        let ExtentSource::Object { object, at } = extent.source else {
            return Ok(());
        };
        let mut done = 0;
        while done < extent.len {
            let step = STEP_BYTES.min(extent.len - done);
            let from = at + done;
            match self.read_plaintext(object, from..from + step).await? {
                Some(bytes) => {
                    gathered.bytes.extend_from_slice(&bytes);
                    gathered.parts.push((ino, extent.offset + done, step));
                }
                // It could be read a moment ago. The next check will report it.
                None => tracing::warn!("object {} cannot be read any more", object_key(object)),
            }
            done += step;
            if gathered.bytes.len() as u64 >= OBJECT_BYTES {
                self.write_gathered(gathered).await?;
            }
        }
        Ok(())
    }

    /// Plaintext of an object; `None` if it cannot be had.
    async fn read_plaintext(
        &self,
        object: ObjectId,
        range: Range<u64>,
    ) -> Result<Option<Vec<u8>>, CheckError> {
        let Some(record) = self.meta.object(object).await? else {
            return Ok(None);
        };
        let layout = Layout {
            frame_log2: record.params.frame_log2,
            plaintext_len: record.plaintext_len,
        };
        let key = object_key(object);
        let Ok(opener) = Opener::from_params(&self.keys, &key, record.params, layout) else {
            return Ok(None);
        };
        let frames = layout.frames_of(range.clone());
        let stored = layout.stored_range(frames.clone());
        let max = stored.end - stored.start;
        let mut bytes = match self.store.get_bytes(&key, Some(stored), max).await {
            Ok((_, bytes)) if bytes.len() as u64 == max => bytes.to_vec(),
            Ok(_) => return Ok(None),
            Err(error)
                if matches!(error.kind, StoreErrorKind::NotFound | StoreErrorKind::Range) =>
            {
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        };
        if opener.open_run(frames.start, &mut bytes).is_err() {
            return Ok(None);
        }
        let skip = range.start - frames.start * layout.frame_len();
        let wanted = skip as usize..(skip + (range.end - range.start)) as usize;
        Ok(bytes.get(wanted).map(<[u8]>::to_vec))
    }

    async fn write_gathered(&mut self, gathered: &mut Gathered) -> Result<(), CheckError> {
        let Gathered { bytes, parts } = std::mem::take(gathered);
        if parts.is_empty() {
            return Ok(());
        }
        let object = ObjectId {
            session: self.meta.session(),
            number: self.next_object,
        };
        self.next_object += 1;
        let key = object_key(object);
        let mut sealer = Sealer::new(&self.keys, ObjectKind::Data, DATA_FRAME_LOG2, &key);
        let params = sealer.params();
        let mut sealed = Vec::new();
        sealer.push(&bytes, &mut sealed);
        let layout = sealer.finish(&mut sealed);
        drop(bytes);
        self.store
            .put(&key, vec![Bytes::from(sealed)], Condition::None, &[])
            .await?;
        let mut commits: Vec<ContentCommit> = Vec::new();
        let mut at = 0;
        for (ino, offset, len) in parts {
            let extent = Extent {
                offset,
                len,
                source: ExtentSource::Object { object, at },
            };
            at += len;
            match commits.last_mut() {
                Some(last) if last.ino == ino => last.extents.push(extent),
                _ => {
                    let inode = self.meta.inode(ino).await?.ok_or(MetaError::NotFound)?;
                    commits.push(ContentCommit::new(ino, vec![extent], inode.size));
                }
            }
        }
        let new = NewObject {
            object,
            params,
            plaintext_len: layout.plaintext_len,
        };
        self.meta.commit_content(&[new], &commits).await?;
        Ok(())
    }

    /// Restores the record of an object that an extent names. If the object is there and
    /// authenticates at its place, its header holds the fields of the record. Nobody without the
    /// key can have made it, and nothing else was ever written under that key.
    pub(super) async fn restore_record(&self, fault: &Fault) -> Result<bool, CheckError> {
        if !matches!(fault, Fault::UnknownObject { .. }) {
            return Ok(false);
        }
        let Some(object) = self.meta.object_of_fault(fault).await else {
            return Ok(false);
        };
        if self.meta.object(object).await?.is_some() {
            // The record was restored for an earlier extent.
            return Ok(true);
        }
        let key = object_key(object);
        let there = self
            .store
            .get_bytes(&key, Some(0..HEADER_LEN), HEADER_LEN)
            .await;
        let (head, header) = match there {
            Ok(there) => there,
            Err(error)
                if matches!(error.kind, StoreErrorKind::NotFound | StoreErrorKind::Range) =>
            {
                return Ok(false);
            }
            Err(error) => return Err(error.into()),
        };
        let Ok(opener) = Opener::from_header(&self.keys, &key, &header, head.size) else {
            return Ok(false);
        };
        let layout = opener.layout();
        // The length is the store's word until the final frame opens.
        let last = layout.frame_count() - 1;
        let stored = layout.stored_range(last..last + 1);
        let max = stored.end - stored.start;
        let (_, frame) = self.store.get_bytes(&key, Some(stored), max).await?;
        if opener.open_run(last, &mut frame.to_vec()).is_err() {
            return Ok(false);
        }
        let record = ObjectRecord {
            params: opener.params(),
            plaintext_len: layout.plaintext_len,
            live_bytes: 0,
        };
        self.meta.restore_object(object, record).await?;
        Ok(true)
    }
}
