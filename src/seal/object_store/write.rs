//! Writing: one PUT of one sealed object.

use std::sync::Arc;

use object_store::{Extensions, PutMode, PutOptions, PutPayload, PutResult, path::Path};

use super::{
    Inner,
    errors::from_store,
    is_immutable, key_of,
    locations::log_number,
    log, manifest,
    outgoing::{outgoing, seal, unsupported},
    unusable,
};
use crate::{
    seal::codec::{Link, META_FRAME_LOG2, ObjectKind, Sealer},
    store::{Condition, StoreErrorKind},
};

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
    let sealed = if let Some(number) = log_number(location) {
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
