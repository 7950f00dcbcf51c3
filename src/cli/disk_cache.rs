//! The options of the cache on the local disk, and what it means if it cannot be had.

use std::path::{Path, PathBuf};

use clap::Args;

use super::{
    exit::{CliError, Exit},
    values::{human_size, parse_size},
};
use crate::{
    data::DiskAdmission,
    disk::{DiskCache, DiskPlan, SIZE_MIN_BYTES},
    seal::keys::VolumeId,
};

/// The directory below the state directory.
const DIRECTORY: &str = "cache";

/// How large a cache is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskCacheSize {
    /// There is none.
    Off,
    /// Nobody said: [`DEFAULT_BYTES`], and what is read or written in order is left out where the store is as fast as a disk.
    Default,
    /// So many bytes at most, of all that is fetched or uploaded.
    Bytes(u64),
}

const DEFAULT_BYTES: u64 = 1 << 30;

/// A cache of sealed frames on the local disk.
#[derive(Args, Clone, Debug)]
pub struct DiskCacheArgs {
    /// The most that sealed pieces of files may take on the local disk, so that they are not fetched again: at least 16MiB, off, or
    /// default, which is 1GiB without what is read or written in order while the store is as fast as a disk
    #[arg(long, value_name = "SIZE", default_value = "default", value_parser = parse_cache_size)]
    pub disk_cache: DiskCacheSize,

    /// Where they lie; by default in the state directory
    #[arg(long, value_name = "DIR")]
    pub disk_cache_dir: Option<PathBuf>,
}

/// The disk cache as a session is told to keep it.
#[derive(Clone, Debug)]
pub struct DiskCacheConfig {
    /// Its size.
    pub size: DiskCacheSize,
    /// The directory of all volumes.
    root: PathBuf,
    /// Somebody wants it to be just there.
    is_named: bool,
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

impl DiskCacheSize {
    /// The size, if there is to be a cache.
    pub fn bytes(self) -> Option<u64> {
        match self {
            DiskCacheSize::Off => None,
            DiskCacheSize::Default => Some(DEFAULT_BYTES),
            DiskCacheSize::Bytes(bytes) => Some(bytes),
        }
    }

    /// Which frames the cache keeps.
    pub fn admission(self) -> DiskAdmission {
        match self {
            DiskCacheSize::Default => DiskAdmission::WhatPays,
            DiskCacheSize::Off | DiskCacheSize::Bytes(_) => DiskAdmission::All,
        }
    }
}

impl DiskCacheConfig {
    /// No cache.
    pub fn off() -> DiskCacheConfig {
        DiskCacheConfig {
            size: DiskCacheSize::Off,
            root: PathBuf::new(),
            is_named: false,
        }
    }

    /// As the options say.
    pub fn new(args: DiskCacheArgs, state_root: &Path) -> DiskCacheConfig {
        DiskCacheConfig {
            size: args.disk_cache,
            is_named: args.disk_cache_dir.is_some(),
            root: args
                .disk_cache_dir
                .unwrap_or_else(|| state_root.join(DIRECTORY)),
        }
    }

    /// Opens the cache of a volume. Where the directory was not named, a mount goes on without, and
    /// says so once.
    ///
    /// # Errors
    /// [`Exit::CacheDirectory`]: the directory that was named cannot be used.
    pub fn open(&self, volume: VolumeId, plan: DiskPlan) -> Result<Option<DiskCache>, CliError> {
        match DiskCache::open(&self.root, &volume.to_string(), plan) {
            Ok(cache) => Ok(Some(cache)),
            Err(error) if self.is_named => Err(CliError::new(
                Exit::CacheDirectory,
                format!("the disk cache cannot be kept in {error}"),
                "name another directory with --disk-cache-dir, or leave it away",
            )),
            Err(error) => {
                tracing::warn!("there is no disk cache: {error}");
                Ok(None)
            }
        }
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
