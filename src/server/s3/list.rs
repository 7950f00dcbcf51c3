//! ListObjectsV2. Programs that prefer ListObjects, its first version, can be told to use this one.

use data_encoding::BASE64URL_NOPAD;
use s3s::dto::*;
use s3s::{S3Result, s3_error};

use super::{Operations, page_size, wire};
use crate::server::storage::{Listing, ListingQuery};

pub(super) fn page(
    operations: &Operations,
    input: ListObjectsV2Input,
) -> S3Result<ListObjectsV2Output> {
    let max = page_size(input.max_keys)?;
    let after = match &input.continuation_token {
        Some(token) => decode_token(token)?,
        None => input.start_after.clone().unwrap_or_default(),
    };
    let query = ListingQuery {
        prefix: input.prefix.clone().unwrap_or_default(),
        delimiter: input.delimiter.clone().unwrap_or_default(),
        after,
        max,
    };
    let listing = operations.storage.list_objects(&input.bucket, &query)?;
    let encode = Encoding::of(input.encoding_type.as_ref());
    let next = listing
        .next
        .as_ref()
        .map(|next| BASE64URL_NOPAD.encode(next.as_bytes()));
    let owner = input.fetch_owner.unwrap_or(false);
    let count = listing.objects.len() + listing.groups.len();
    let (contents, common_prefixes) = entries(listing, encode, owner);
    Ok(ListObjectsV2Output {
        name: Some(input.bucket),
        prefix: Some(encode.apply(&query.prefix)),
        max_keys: i32::try_from(max).ok(),
        key_count: i32::try_from(count).ok(),
        continuation_token: input.continuation_token,
        is_truncated: Some(next.is_some()),
        next_continuation_token: next,
        contents: Some(contents),
        common_prefixes: Some(common_prefixes),
        delimiter: input
            .delimiter
            .filter(|it| !it.is_empty())
            .map(|it| encode.apply(&it)),
        encoding_type: input.encoding_type,
        start_after: input.start_after.map(|it| encode.apply(&it)),
        request_charged: None,
    })
}

fn entries(listing: Listing, encode: Encoding, owner: bool) -> (Vec<Object>, Vec<CommonPrefix>) {
    let contents = listing.objects.iter().map(|object| Object {
        key: Some(encode.apply(&object.record.key)),
        e_tag: wire::etag(&object.record.etag),
        last_modified: Some(object.record.modified.into()),
        size: Some(wire::signed(object.record.size)),
        storage_class: Some(ObjectStorageClass::from_static(
            ObjectStorageClass::STANDARD,
        )),
        owner: owner.then(|| Owner {
            id: Some("strongroom".to_owned()),
            display_name: None,
        }),
        ..Default::default()
    });
    let groups = listing.groups.iter().map(|group| CommonPrefix {
        prefix: Some(encode.apply(group)),
    });
    (contents.collect(), groups.collect())
}

fn decode_token(token: &str) -> S3Result<String> {
    let bytes = BASE64URL_NOPAD.decode(token.as_bytes()).ok();
    let key = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
    key.ok_or_else(|| {
        s3_error!(
            InvalidArgument,
            "The continuation token is not one of ours."
        )
    })
}

/// How keys are written in an answer: as they are, or percent-encoded for those that XML can't
/// hold.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    Plain,
    Url,
}

impl Encoding {
    pub(super) fn of(asked: Option<&EncodingType>) -> Self {
        if asked.is_some_and(|asked| asked.as_str() == EncodingType::URL) {
            Self::Url
        } else {
            Self::Plain
        }
    }

    pub(super) fn apply(self, text: &str) -> String {
        if self == Self::Plain {
            return text.to_owned();
        }
        let mut encoded = String::with_capacity(text.len());
        for byte in text.bytes() {
            if byte.is_ascii_alphanumeric() || b"-_.*/".contains(&byte) {
                encoded.push(char::from(byte));
            } else {
                encoded.push_str(&format!("%{byte:02X}"));
            }
        }
        encoded
    }
}
