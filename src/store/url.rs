//! `s3://bucket/prefix`.

/// Where a volume lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct S3Url {
    /// The bucket's name.
    pub bucket: String,
    /// The prefix without leading or trailing slash; empty for the whole bucket.
    pub prefix: String,
}
