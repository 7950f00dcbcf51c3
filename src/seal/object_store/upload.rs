//! Objects too large for one PUT: sealed in order as they come, sent in parts.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use futures::FutureExt;
use object_store::{
    Extensions, MultipartUpload, PutMultipartOptions, PutPayload, PutResult, UploadPart, path::Path,
};
use parking_lot::Mutex;

use super::{
    Inner,
    errors::from_store,
    key_of,
    outgoing::{outgoing, unsupported},
    unusable,
};
use crate::{
    seal::codec::{META_FRAME_LOG2, ObjectKind, Sealer},
    store::{Condition, PartTag, StoreError, UploadId},
};

/// The smallest part that S3 takes, unless it is the last one.
const PART_BYTES_MIN: usize = 5 * 1024 * 1024;

/// Begins an upload.
pub(super) async fn begin(
    inner: Arc<Inner>,
    location: &Path,
    options: &PutMultipartOptions,
) -> object_store::Result<Box<dyn MultipartUpload>> {
    // Completing an upload finds out by itself whether an earlier try succeeded, so the put id is
    // not needed.
    outgoing(&options.attributes)?;
    if !options.tags.encoded().is_empty() {
        return Err(unsupported("tags"));
    }
    let key = key_of(location);
    let id = inner
        .store
        .create_multipart(&key)
        .await
        .map_err(|error| from_store(error, location.as_ref()))?;
    let sealer = Sealer::new(&inner.keys, ObjectKind::Metadata, META_FRAME_LOG2, &key);
    Ok(Box::new(Upload {
        target: Target {
            inner,
            location: location.clone(),
            key,
            id,
        },
        sealer: Some(sealer),
        pending: Vec::new(),
        parts_sent: 0,
        tags: Arc::default(),
    }))
}

/// The upload that the parts go to.
#[derive(Clone)]
struct Target {
    inner: Arc<Inner>,
    location: Path,
    key: String,
    id: UploadId,
}

impl Target {
    async fn send(&self, number: u32, part: Vec<u8>) -> object_store::Result<PartTag> {
        let sent = self
            .inner
            .store
            .upload_part(&self.key, &self.id, number, vec![Bytes::from(part)])
            .await;
        sent.map_err(|error| self.error(error))
    }

    fn error(&self, error: StoreError) -> object_store::Error {
        from_store(error, self.location.as_ref())
    }
}

struct Upload {
    target: Target,
    /// `None` once completed.
    sealer: Option<Sealer>,
    /// Sealed bytes that are not a part yet.
    pending: Vec<u8>,
    parts_sent: u32,
    tags: Arc<Mutex<Vec<PartTag>>>,
}

#[async_trait]
impl MultipartUpload for Upload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        // Sealing happens here and not in the future: parts are numbered in the order of the calls,
        // and frames must follow it.
        let Some(sealer) = &mut self.sealer else {
            return futures::future::err(unusable("a part after the completion of its upload"))
                .boxed();
        };
        for piece in &data {
            sealer.push(piece, &mut self.pending);
        }
        if self.pending.len() < PART_BYTES_MIN {
            return futures::future::ok(()).boxed();
        }
        self.parts_sent += 1;
        let (target, tags, number) = (self.target.clone(), Arc::clone(&self.tags), self.parts_sent);
        let part = std::mem::take(&mut self.pending);
        async move {
            let tag = target.send(number, part).await?;
            tags.lock().push(tag);
            Ok(())
        }
        .boxed()
    }

    async fn complete(&mut self) -> object_store::Result<PutResult> {
        let sealer = self
            .sealer
            .take()
            .ok_or_else(|| unusable("an upload completed twice"))?;
        sealer.finish(&mut self.pending);
        self.parts_sent += 1;
        let last = self
            .target
            .send(self.parts_sent, std::mem::take(&mut self.pending))
            .await?;
        let mut tags = std::mem::take(&mut *self.tags.lock());
        tags.push(last);
        tags.sort_by_key(|tag| tag.number);
        if tags.len() != self.parts_sent as usize {
            return Err(unusable(
                "an upload completed before all its parts were sent",
            ));
        }
        let Target { inner, key, id, .. } = &self.target;
        let outcome = inner
            .store
            .complete_multipart(key, id, &tags, Condition::None)
            .await;
        inner.cache.forget(key);
        let outcome = outcome.map_err(|error| self.target.error(error))?;
        Ok(PutResult {
            e_tag: outcome.etag,
            version: None,
            extensions: Extensions::new(),
        })
    }

    async fn abort(&mut self) -> object_store::Result<()> {
        self.sealer = None;
        let Target { inner, key, id, .. } = &self.target;
        inner
            .store
            .abort_multipart(key, id)
            .await
            .map_err(|error| self.target.error(error))
    }
}

impl fmt::Debug for Upload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upload")
            .field("key", &self.target.key)
            .finish_non_exhaustive()
    }
}
