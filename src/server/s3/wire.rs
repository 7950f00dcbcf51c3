//! Between the wire's types and storage's: ETags, times, headers, checksums, numbers.

use s3s::dto::*;
use s3s::{S3Result, s3_error};

use crate::server::storage::{Checksums, Expectation, Headers};

/// The most `x-amz-meta-*` may come to, names and values together.
const MAX_METADATA_BYTES: usize = 2048;

pub(super) fn etag(etag: &str) -> Option<ETag> {
    Some(ETag::Strong(etag.to_owned()))
}

pub(super) fn expectation(condition: ETagCondition) -> Expectation {
    match condition {
        ETagCondition::Any => Expectation::Any,
        ETagCondition::ETag(etag) => Expectation::ETag(etag.into_value()),
    }
}

/// A size or position; there are none over 2^63 - 1 here.
pub(super) fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

pub(super) fn metadata(
    metadata: Option<Metadata>,
) -> S3Result<std::collections::BTreeMap<String, String>> {
    let metadata: std::collections::BTreeMap<_, _> =
        metadata.unwrap_or_default().into_iter().collect();
    let bytes: usize = metadata
        .iter()
        .map(|(name, value)| name.len() + value.len())
        .sum();
    if bytes > MAX_METADATA_BYTES {
        return Err(s3_error!(MetadataTooLarge));
    }
    Ok(metadata)
}

/// The `x-amz-meta-*` of an answer; `None` if there are none.
pub(super) fn metadata_out(headers: &Headers) -> Option<Metadata> {
    let metadata = &headers.metadata;
    (!metadata.is_empty()).then(|| {
        metadata
            .iter()
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect()
    })
}

/// Without the framing of the upload, which is not part of the object's encoding.
pub(super) fn content_encoding(encoding: Option<String>) -> Option<String> {
    let kept: Vec<_> = encoding
        .as_deref()?
        .split(',')
        .map(str::trim)
        .filter(|part| *part != "aws-chunked")
        .collect();
    Some(kept.join(",")).filter(|encoding| !encoding.is_empty())
}

pub(super) fn checksum_type(checksums: &Checksums) -> Option<ChecksumType> {
    if *checksums == Checksums::default() {
        return None;
    }
    let name = if checksums.composite {
        ChecksumType::COMPOSITE
    } else {
        ChecksumType::FULL_OBJECT
    };
    Some(ChecksumType::from_static(name))
}

/// The headers that come with a new object, from an operation's input.
macro_rules! headers_in {
    ($input:expr) => {
        $crate::server::storage::Headers {
            content_type: $input.content_type.take(),
            cache_control: $input.cache_control.take(),
            content_disposition: $input.content_disposition.take(),
            content_encoding: $crate::server::s3::wire::content_encoding(
                $input.content_encoding.take(),
            ),
            content_language: $input.content_language.take(),
            expires: $input
                .expires
                .take()
                .map(|time| std::time::SystemTime::from(time::OffsetDateTime::from(time))),
            metadata: $crate::server::s3::wire::metadata($input.metadata.take())?,
        }
    };
}
pub(super) use headers_in;

/// The checksum of an operation's input.
macro_rules! checksums_in {
    ($input:expr) => {
        $crate::server::storage::Checksums {
            crc32: $input.checksum_crc32.clone(),
            composite: false,
        }
    };
}
pub(super) use checksums_in;

/// Fills the checksum field of an operation's output.
macro_rules! checksums_out {
    ($output:expr, $checksums:expr) => {
        $output.checksum_crc32 = $checksums.crc32;
    };
}
pub(super) use checksums_out;
