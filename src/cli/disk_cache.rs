//! The options of the cache on the local disk.

use std::path::{Path, PathBuf};

use clap::Args;

use super::values::parse_size;
use crate::{
    disk::SIZE_MIN_BYTES,
    session::disk_cache::{DiskCacheConfig, DiskCacheSize},
    telemetry::human_size,
};

/// A cache of sealed frames on the local disk.
#[derive(Args, Clone, Debug)]
pub struct DiskCacheArgs {
    /// The most that sealed pieces of files may take on the local disk, so that they are not
    /// fetched again: a size of at least 16MiB, off, or default. Default is 1GiB, and leaves out
    /// data that is read or written in order while the store is as fast as a disk
    #[arg(long, value_name = "SIZE", default_value = "default", value_parser = parse_cache_size)]
    pub disk_cache: DiskCacheSize,

    /// The directory of the cache; by default one in the state directory
    #[arg(long, value_name = "DIR")]
    pub disk_cache_dir: Option<PathBuf>,
}

impl DiskCacheArgs {
    /// The cache of a mount whose state directory is `state_root`.
    pub fn config(self, state_root: &Path) -> DiskCacheConfig {
        DiskCacheConfig::new(self.disk_cache, self.disk_cache_dir, state_root)
    }
}

/// A size, `default`, or `off`.
///
/// # Errors
/// One line that says what is wrong.
pub fn parse_cache_size(text: &str) -> Result<DiskCacheSize, String> {
    if text.trim().eq_ignore_ascii_case("off") {
        return Ok(DiskCacheSize::Off);
    }
    if text.trim().eq_ignore_ascii_case("default") {
        return Ok(DiskCacheSize::Default);
    }
    match parse_size(text)? {
        bytes if bytes < SIZE_MIN_BYTES => {
            let least = human_size(SIZE_MIN_BYTES);
            Err(format!("give at least {least}, or off"))
        }
        bytes => Ok(DiskCacheSize::Bytes(bytes)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cache_has_a_size_or_is_off() {
        assert_eq!(parse_cache_size("off"), Ok(DiskCacheSize::Off));
        assert_eq!(parse_cache_size("default"), Ok(DiskCacheSize::Default));
        assert_eq!(
            parse_cache_size("16MiB"),
            Ok(DiskCacheSize::Bytes(16 << 20))
        );
        for wrong in ["15MiB", "0", "on", ""] {
            parse_cache_size(wrong).expect_err(wrong);
        }
    }
}
