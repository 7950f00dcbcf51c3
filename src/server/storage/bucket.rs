//! Buckets: made, listed, deleted.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::time::SystemTime;

use super::{Bucket, BucketDirs, Refusal, Storage, files};

impl Storage {
    /// Makes a bucket.
    pub(in crate::server) fn create_bucket(&self, name: &str) -> Result<(), Refusal> {
        let temp = self.temp_path();
        for dir in ["objects", "uploads", "parts"] {
            fs::create_dir_all(temp.join(dir))?;
        }
        if self.syncs() {
            files::sync_dir(&temp)?;
        }
        let buckets = self.root.join("buckets");
        let path = buckets.join(name);
        {
            let mut state = self.state.write();
            if state.buckets.contains_key(name) {
                drop(state);
                fs::remove_dir_all(&temp)?;
                return Err(Refusal::BucketExists);
            }
            fs::rename(&temp, &path)?;
            let bucket = Bucket {
                created: SystemTime::now(),
                dirs: Arc::new(BucketDirs::new(&path, self.sync)),
                objects: BTreeMap::new(),
                uploads: BTreeMap::new(),
            };
            state.buckets.insert(name.to_owned(), bucket);
        }
        if self.syncs() {
            files::sync_dir(&buckets)?;
        }
        Ok(())
    }

    /// Deletes a bucket without objects; its unfinished uploads go with it.
    pub(in crate::server) fn delete_bucket(&self, name: &str) -> Result<(), Refusal> {
        let buckets = self.root.join("buckets");
        let temp = self.temp_path();
        {
            let mut state = self.state.write();
            if !state.bucket(name)?.objects.is_empty() {
                return Err(Refusal::BucketNotEmpty);
            }
            fs::rename(buckets.join(name), &temp)?;
            state.buckets.remove(name);
        }
        if self.syncs() {
            files::sync_dir(&buckets)?;
        }
        fs::remove_dir_all(&temp)?;
        Ok(())
    }

    /// Refuses when there is no such bucket.
    pub(in crate::server) fn head_bucket(&self, name: &str) -> Result<(), Refusal> {
        self.read().bucket(name).map(|_| ())
    }

    /// Names and times of all buckets, in order.
    pub(in crate::server) fn list_buckets(&self) -> Vec<(String, SystemTime)> {
        self.read()
            .buckets
            .iter()
            .map(|(name, bucket)| (name.clone(), bucket.created))
            .collect()
    }
}
