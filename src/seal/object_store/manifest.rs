//! Manifests on their way to and from the store. Each ends with the position in the log, which
//! SlateDB does not see.

use object_store::{Error, PutMode, path::Path};

use super::{
    Inner, ROOT,
    errors::from_store,
    key_of,
    locations::{MANIFEST_EXTENSION, manifest_number},
    position::LogPosition,
};
use crate::seal::{
    SealError,
    codec::{COMMITMENT_LEN, Opener},
};

/// Length of the end of a manifest of format 2, a [`LogPosition`].
const TRAILER_LEN: usize = 8 + COMMITMENT_LEN;

/// Whether the bucket has a newer manifest than this one.
pub(super) async fn newer_than(inner: &Inner, known: u64) -> Result<bool, Error> {
    let prefix = format!("{ROOT}manifest/");
    let after = format!("{prefix}{known:020}{MANIFEST_EXTENSION}");
    let page = inner.store.list_page(&prefix, Some(&after)).await;
    Ok(!page.map_err(|error| from_store(error, &prefix))?.is_empty())
}

/// The end of a manifest, if the position in the log is known.
pub(super) fn trailer(inner: &Inner, location: &Path, mode: &PutMode) -> Option<Vec<u8>> {
    let manifest = manifest_number(location)?;
    let position = match inner.chain.lock().certain() {
        None if begins(manifest, mode) => LogPosition::START,
        known => known?,
    };
    Some(encode_position(&position))
}

/// In a new volume the chain begins with the first log object.
fn begins(manifest: u64, mode: &PutMode) -> bool {
    manifest == 1 && *mode == PutMode::Create
}

/// Notes a manifest that is in the store.
pub(super) fn written(inner: &Inner, location: &Path, mode: &PutMode) -> Result<(), Error> {
    let Some(manifest) = manifest_number(location) else {
        return Ok(());
    };
    let chain = &mut *inner.chain.lock();
    chain.is_newest_manifest(manifest);
    match chain.certain() {
        None if begins(manifest, mode) => chain
            .noted(LogPosition::START)
            .map_err(|fault| inner.refuse_log(fault)),
        _ => Ok(()),
    }
}

/// Takes the position off a manifest of format 2, and compares it with the log if no newer manifest
/// was read.
pub(super) fn read(
    inner: &Inner,
    location: &Path,
    opener: &Opener,
    plaintext: &mut Vec<u8>,
) -> Result<(), Error> {
    let Some(manifest) = manifest_number(location) else {
        return Ok(());
    };
    let position = match opener.link() {
        None => None,
        Some(_) => Some(take_position(plaintext).ok_or_else(|| {
            inner.refuse(SealError::Header {
                path: key_of(location),
                why: "is shorter than its position in the log",
            })
        })?),
    };
    let chain = &mut *inner.chain.lock();
    if !chain.is_newest_manifest(manifest) {
        return Ok(());
    }
    match position {
        Some(position) => chain
            .noted(position)
            .map_err(|fault| inner.refuse_log(fault)),
        None => Ok(()),
    }
}

pub(super) fn encode_position(position: &LogPosition) -> Vec<u8> {
    let mut trailer = position.number.to_be_bytes().to_vec();
    trailer.extend_from_slice(&position.commitment);
    trailer
}

/// Takes the position off that [`encode_position`] made.
pub(super) fn take_position(plaintext: &mut Vec<u8>) -> Option<LogPosition> {
    let trailer = plaintext.split_off(plaintext.len().checked_sub(TRAILER_LEN)?);
    let (number, commitment) = trailer.split_first_chunk()?;
    Some(LogPosition {
        number: u64::from_be_bytes(*number),
        commitment: commitment.try_into().ok()?,
    })
}
