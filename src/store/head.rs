//! The facts about an object that come with GET and HEAD.

use std::collections::HashMap;

use aws_sdk_s3::primitives::DateTime;

/// User metadata that identifies the PUT that made an object: a conditional PUT whose answer was
/// lost finds its own object by it. It is random and has no other meaning.
pub(super) const TOKEN: &str = "strongroom-token";

/// The answer to a HEAD.
#[derive(Clone, Debug)]
pub struct ObjectHead {
    /// Length of the stored bytes.
    pub size: u64,
    /// The ETag, quoted as the store gave it.
    pub etag: Option<String>,
    /// Seconds since 1970.
    pub modified_unix_seconds: i64,
    /// User metadata (`x-amz-meta-*`), without the store client's own.
    pub attributes: Vec<(String, String)>,
}

/// User metadata by name.
pub(super) type Attributes = HashMap<String, String>;

impl ObjectHead {
    pub(super) fn new(
        size: u64,
        etag: Option<String>,
        modified: Option<DateTime>,
        attributes: Option<Attributes>,
    ) -> ObjectHead {
        let mut attributes: Vec<_> = attributes
            .into_iter()
            .flatten()
            .filter(|(name, _)| name != TOKEN)
            .collect();
        attributes.sort();
        ObjectHead {
            size,
            etag,
            modified_unix_seconds: modified.map_or(0, |time| time.secs()),
            attributes,
        }
    }
}
