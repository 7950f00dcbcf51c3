//! The things that `which` is asked for: a path, an object or an inode, as people write them.

use std::{os::unix::ffi::OsStrExt, path::Path};

use super::kinds::{KeyShape, shape_of};
use crate::store::S3Url;

/// How an inode is written, here and in the log.
const INODE: &[u8] = b"ino:";

/// A thing in a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A path from the volume's root.
    Path(Vec<u8>),
    /// The volume-relative key of an object.
    Object(String),
    /// An inode number.
    Inode(u64),
}

impl Target {
    /// Reads `ino:N`, a path, or a key with the volume's prefix or without it. A path begins with
    /// `/`, or looks like no key of a volume; one below `mount_point` counts from there.
    ///
    /// # Errors
    /// A sentence about the fault.
    pub fn parse(text: &[u8], url: &S3Url, mount_point: Option<&Path>) -> Result<Target, String> {
        if let Some(number) = text.strip_prefix(INODE) {
            let number = std::str::from_utf8(number).ok();
            let number = number.and_then(|number| number.parse().ok());
            let shown = String::from_utf8_lossy(text);
            return number
                .map(Target::Inode)
                .ok_or_else(|| format!("{shown} is no inode number"));
        }
        if text.starts_with(b"/") {
            let mount_point = mount_point.map(|path| path.as_os_str().as_bytes());
            let below = mount_point.and_then(|path| text.strip_prefix(path));
            let below = below.filter(|rest| rest.is_empty() || rest.starts_with(b"/"));
            return Ok(Target::Path(below.unwrap_or(text).to_vec()));
        }
        let Ok(key) = std::str::from_utf8(text) else {
            return Ok(Target::Path(text.to_vec()));
        };
        let is_url = key.starts_with("s3://");
        let key = match key.strip_prefix(&format!("s3://{}/", url.bucket)) {
            Some(key) => key,
            None if is_url => return Err(format!("{key} is not in the bucket of {url}")),
            None => key,
        };
        let below = url.relative_key(key).into_iter().chain([key]);
        for key in below {
            if shape_of(key) != KeyShape::Foreign {
                return Ok(Target::Object(key.to_owned()));
            }
        }
        match is_url {
            true => match url.relative_key(key) {
                Some(key) => Ok(Target::Object(key.to_owned())),
                None => Err(format!("s3://{}/{key} is not below {url}", url.bucket)),
            },
            false => Ok(Target::Path(text.to_vec())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_an_object_and_an_inode_are_told_apart() {
        let url: S3Url = "s3://vault/laptop".parse().expect("a URL");
        let key = format!("data/{}/{:016x}", "ab".repeat(16), 5);
        let parse =
            |text: &str| Target::parse(text.as_bytes(), &url, Some(Path::new("/mnt/vault")));
        let object = Ok(Target::Object(key.clone()));
        assert_eq!(parse(&key), object);
        assert_eq!(parse(&format!("laptop/{key}")), object);
        assert_eq!(parse(&format!("s3://vault/laptop/{key}")), object);
        assert_eq!(parse("lease"), Ok(Target::Object("lease".into())));
        let path = |path: &str| Ok(Target::Path(path.into()));
        assert_eq!(parse("/lease"), path("/lease"));
        assert_eq!(parse(&format!("/{key}")), path(&format!("/{key}")));
        assert_eq!(parse("docs/letter"), path("docs/letter"));
        assert_eq!(parse("/mnt/vault/docs"), path("/docs"));
        assert_eq!(parse("/mnt/vault"), path(""));
        assert_eq!(parse("/mnt/vaults/docs"), path("/mnt/vaults/docs"));
        assert_eq!(parse("ino:149173"), Ok(Target::Inode(149_173)));
        for wrong in [
            "ino:",
            "ino:x",
            "s3://other/laptop/lease",
            "s3://vault/desk/x",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
        let text = b"caf\xe9";
        let found = Target::parse(text, &url, None);
        assert_eq!(found, Ok(Target::Path(text.to_vec())));
    }
}
