//! The settings of the cache on the local disk, and the failure if it cannot be had.

use std::path::{Path, PathBuf};

use super::{exit::Exit, failure::Failure};
use crate::{
    data::DiskAdmission,
    disk::{DiskCache, DiskPlan},
    seal::keys::VolumeId,
};

/// The directory below the state directory.
const DIRECTORY: &str = "cache";

/// How large a cache is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskCacheSize {
    /// There is none.
    Off,
    /// No size was given: [`DEFAULT_BYTES`], and data that is read or written in order is left out
    /// where the store is as fast as a disk.
    Default,
    /// At most this many bytes, of all that is fetched or uploaded.
    Bytes(u64),
}

const DEFAULT_BYTES: u64 = 1 << 30;

/// The settings of the disk cache of a session.
#[derive(Clone, Debug)]
pub struct DiskCacheConfig {
    /// Its size.
    pub size: DiskCacheSize,
    /// The directory of all volumes.
    root: PathBuf,
    /// The user named the directory.
    is_named: bool,
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

    /// A cache in `directory`, or else in one below the state directory.
    pub fn new(
        size: DiskCacheSize,
        directory: Option<PathBuf>,
        state_root: &Path,
    ) -> DiskCacheConfig {
        DiskCacheConfig {
            size,
            is_named: directory.is_some(),
            root: directory.unwrap_or_else(|| state_root.join(DIRECTORY)),
        }
    }

    /// The directory of all volumes' caches.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Opens the cache of a volume. Where the directory was not named, a mount goes on without a
    /// cache, and says so once.
    ///
    /// # Errors
    /// [`Exit::CacheDirectory`]: the directory that was named cannot be used.
    pub fn open(&self, volume: VolumeId, plan: DiskPlan) -> Result<Option<DiskCache>, Failure> {
        match DiskCache::open(&self.root, &volume.to_string(), plan) {
            Ok(cache) => Ok(Some(cache)),
            Err(error) if self.is_named => Err(Failure::new(
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
