//! Writing: one PUT of one sealed object.

use std::sync::Arc;

use bytes::Bytes;
use object_store::{
    Attribute, Attributes, Extensions, PutMode, PutOptions, PutPayload, PutResult, path::Path,
};

use super::{Inner, errors::from_store, is_immutable, key_of, log, manifest, unusable};
use crate::{
    seal::codec::{Layout, Link, META_FRAME_LOG2, ObjectKind, Sealer},
    store::{Condition, StoreErrorKind},
};

/// The one attribute that goes out, unsealed: a random number with a time in it, by which SlateDB
/// recognises its own object after an answer was lost.
pub(super) const PUT_ID: &str = "slatedbputid";

/// Seals and stores an object.
pub(super) async fn put(
    inner: &Arc<Inner>,
    location: &Path,
    payload: &PutPayload,
    options: &PutOptions,
) -> object_store::Result<PutResult> {
    let attributes = outgoing(&options.attributes)?;
    if !options.tags.encoded().is_empty() {
        return Err(unsupported("tags"));
    }
    let condition = match &options.mode {
        PutMode::Overwrite => Condition::None,
        PutMode::Create => Condition::Absent,
        PutMode::Update(version) => match &version.e_tag {
            Some(etag) => Condition::Matches(etag.clone()),
            None => {
                return Err(unusable(format!(
                    "{location}: an update without an ETag to match"
                )));
            }
        },
    };
    let key = key_of(location);
    let sealer = |link: Option<Link>| match link {
        Some(link) => Sealer::linked(
            &inner.keys,
            ObjectKind::Metadata,
            META_FRAME_LOG2,
            &key,
            link,
        ),
        None => Sealer::new(&inner.keys, ObjectKind::Metadata, META_FRAME_LOG2, &key),
    };
    let mut log_put = None;
    let sealed = if let Some(number) = log::number(location) {
        let linked = |link| sealer(Some(link));
        let sealed = log::seal(inner, location, number, payload, &attributes, linked);
        // Boxed, since the compiler limits how deep futures may nest.
        log_put.insert(Box::pin(sealed).await?).bytes.clone()
    } else if let Some(trailer) = manifest::trailer(inner, location, &options.mode) {
        seal(sealer(Some(Link::default())), payload, &trailer)
    } else {
        seal(sealer(None), payload, &[])
    };
    let outcome = inner
        .store
        .put(&key, vec![sealed], condition, &attributes)
        .await;
    if is_immutable(location) {
        inner.cache.forget(&key);
    }
    if let Some(put) = &log_put {
        inner.store.log_health().upload_ended(&outcome);
        log::put_ended(inner, put, &outcome)?;
    } else if outcome.is_ok() {
        manifest::written(inner, location, &options.mode)?;
    }
    match outcome {
        Ok(outcome) => Ok(PutResult {
            e_tag: outcome.etag,
            version: None,
            extensions: Extensions::new(),
        }),
        Err(error)
            if error.kind == StoreErrorKind::Precondition && options.mode == PutMode::Create =>
        {
            Err(object_store::Error::AlreadyExists {
                path: location.to_string(),
                source: Box::new(error),
            })
        }
        Err(error) => Err(from_store(error, location.as_ref())),
    }
}

/// The payload and the bytes that follow it, sealed.
pub(super) fn seal(mut sealer: Sealer, payload: &PutPayload, trailer: &[u8]) -> Bytes {
    let layout = Layout {
        frame_log2: META_FRAME_LOG2,
        plaintext_len: (payload.content_length() + trailer.len()) as u64,
    };
    let mut sealed = Vec::with_capacity(usize::try_from(layout.stored_len()).unwrap_or_default());
    for piece in payload {
        sealer.push(piece, &mut sealed);
    }
    sealer.push(trailer, &mut sealed);
    sealer.finish(&mut sealed);
    Bytes::from(sealed)
}

/// The attributes as user metadata. Only the put id may leave unsealed.
pub(super) fn outgoing(attributes: &Attributes) -> object_store::Result<Vec<(String, String)>> {
    attributes
        .iter()
        .map(|(attribute, value)| match attribute {
            Attribute::Metadata(name) if name == PUT_ID => {
                Ok((name.to_string(), value.to_string()))
            }
            _ => Err(unsupported("attributes other than SlateDB's put id")),
        })
        .collect()
}

pub(super) fn unsupported(what: &'static str) -> object_store::Error {
    object_store::Error::NotSupported {
        source: what.into(),
    }
}
