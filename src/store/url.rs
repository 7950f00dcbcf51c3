//! `s3://bucket/prefix`.

use std::{fmt, str::FromStr};

/// A key may have 1,024 bytes; half of them are left for the volume's own keys below its prefix.
const PREFIX_LEN_MAX: usize = 512;

/// The place of a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct S3Url {
    /// The bucket's name.
    pub bucket: String,
    /// The prefix without leading or trailing slash; empty for the whole bucket.
    pub prefix: String,
}

/// The fault in the text of an [`S3Url`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum S3UrlError {
    /// It does not begin with `s3://`.
    #[error("{0:?} is not an S3 URL")]
    Scheme(String),
    /// Nothing between `s3://` and the first slash.
    #[error("{0:?} names no bucket")]
    NoBucket(String),
    /// A bucket's name has 3 to 63 characters.
    #[error("the bucket name {0:?} must have 3 to 63 characters")]
    BucketLength(String),
    /// A character that no bucket's name has.
    #[error(
        "the bucket name {0:?} may hold only lower-case letters, digits, dots and hyphens, and begins and ends with a letter or digit"
    )]
    BucketCharacter(String),
    /// `//`, `.` or `..` in the prefix.
    #[error("the prefix {0:?} has an empty, \".\" or \"..\" segment")]
    PrefixSegment(String),
    /// A control character in the prefix.
    #[error("the prefix {0:?} has a control character")]
    PrefixCharacter(String),
    /// The prefix leaves no room for the volume's own keys.
    #[error("the prefix is longer than {PREFIX_LEN_MAX} bytes")]
    PrefixLength,
}

impl S3Url {
    /// The key in the bucket for a volume-relative key.
    pub fn full_key(&self, key: &str) -> String {
        if self.prefix.is_empty() {
            key.to_owned()
        } else {
            format!("{}/{key}", self.prefix)
        }
    }

    /// The volume-relative key of a key in the bucket; `None` if it is not below the prefix.
    pub fn relative_key<'k>(&self, full: &'k str) -> Option<&'k str> {
        if self.prefix.is_empty() {
            return Some(full);
        }
        full.strip_prefix(self.prefix.as_str())?.strip_prefix('/')
    }
}

impl FromStr for S3Url {
    type Err = S3UrlError;

    /// Slashes around the prefix are dropped; nothing is percent-decoded.
    fn from_str(text: &str) -> Result<S3Url, S3UrlError> {
        let rest = text
            .strip_prefix("s3://")
            .ok_or_else(|| S3UrlError::Scheme(text.to_owned()))?;
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        if bucket.is_empty() {
            return Err(S3UrlError::NoBucket(text.to_owned()));
        }
        if !(3..=63).contains(&bucket.len()) {
            return Err(S3UrlError::BucketLength(bucket.to_owned()));
        }
        let alphanumeric = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        if !bucket
            .chars()
            .all(|c| alphanumeric(c) || c == '.' || c == '-')
            || !bucket.starts_with(alphanumeric)
            || !bucket.ends_with(alphanumeric)
        {
            return Err(S3UrlError::BucketCharacter(bucket.to_owned()));
        }
        let prefix = prefix.trim_matches('/');
        if prefix.chars().any(char::is_control) {
            return Err(S3UrlError::PrefixCharacter(prefix.to_owned()));
        }
        if prefix.len() > PREFIX_LEN_MAX {
            return Err(S3UrlError::PrefixLength);
        }
        if !prefix.is_empty()
            && prefix
                .split('/')
                .any(|segment| matches!(segment, "" | "." | ".."))
        {
            return Err(S3UrlError::PrefixSegment(prefix.to_owned()));
        }
        Ok(S3Url {
            bucket: bucket.to_owned(),
            prefix: prefix.to_owned(),
        })
    }
}

impl fmt::Display for S3Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3://{}", self.bucket)?;
        if !self.prefix.is_empty() {
            write!(f, "/{}", self.prefix)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<S3Url, S3UrlError> {
        text.parse()
    }

    #[test]
    fn a_url_names_a_bucket_and_a_prefix_without_slashes_around_it() {
        for (text, bucket, prefix) in [
            ("s3://bucket", "bucket", ""),
            ("s3://bucket/", "bucket", ""),
            ("s3://my.bucket-1/laptop", "my.bucket-1", "laptop"),
            ("s3://bucket/laptop/2026//", "bucket", "laptop/2026"),
            (
                "s3://bucket/with space/ümlaut",
                "bucket",
                "with space/ümlaut",
            ),
        ] {
            assert_eq!(
                parse(text),
                Ok(S3Url {
                    bucket: bucket.into(),
                    prefix: prefix.into()
                }),
                "{text}"
            );
        }
    }

    #[test]
    fn a_wrong_url_is_refused_with_what_is_wrong() {
        let long = format!("s3://bucket/{}", "x".repeat(513));
        for (text, error) in [
            ("bucket/laptop", S3UrlError::Scheme("bucket/laptop".into())),
            (
                "https://bucket/laptop",
                S3UrlError::Scheme("https://bucket/laptop".into()),
            ),
            ("s3://", S3UrlError::NoBucket("s3://".into())),
            ("s3:///laptop", S3UrlError::NoBucket("s3:///laptop".into())),
            ("s3://ab/x", S3UrlError::BucketLength("ab".into())),
            (
                "s3://Bucket/x",
                S3UrlError::BucketCharacter("Bucket".into()),
            ),
            (
                "s3://-bucket/x",
                S3UrlError::BucketCharacter("-bucket".into()),
            ),
            ("s3://bucket/a//b", S3UrlError::PrefixSegment("a//b".into())),
            (
                "s3://bucket/a/../b",
                S3UrlError::PrefixSegment("a/../b".into()),
            ),
            (
                "s3://bucket/a\nb",
                S3UrlError::PrefixCharacter("a\nb".into()),
            ),
            (long.as_str(), S3UrlError::PrefixLength),
        ] {
            assert_eq!(parse(text), Err(error), "{text}");
        }
    }

    #[test]
    fn a_url_prints_as_it_is_written() {
        for text in ["s3://bucket", "s3://bucket/laptop", "s3://bucket/a/b"] {
            assert_eq!(parse(text).map(|url| url.to_string()), Ok(text.to_owned()));
        }
    }

    #[test]
    fn keys_are_put_below_the_prefix_and_found_there_again() {
        let url = S3Url {
            bucket: "bucket".into(),
            prefix: "a/b".into(),
        };
        assert_eq!(url.full_key("data/1"), "a/b/data/1");
        assert_eq!(url.relative_key("a/b/data/1"), Some("data/1"));
        assert_eq!(url.relative_key("a/bc/data/1"), None);
        let whole = S3Url {
            bucket: "bucket".into(),
            prefix: String::new(),
        };
        assert_eq!(whole.full_key("data/1"), "data/1");
        assert_eq!(whole.relative_key("data/1"), Some("data/1"));
    }
}
