//! Objects come, are replaced, and go: conditions and change under one lock, durable before the
//! answer.

use std::fs;
use std::io;
use std::sync::Arc;
use std::time::SystemTime;

use super::{
    BucketDirs, Checksums, Headers, Object, ObjectRecord, Refusal, Storage, TempFile, files,
};

/// One condition on an object's ETag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::server) enum Expectation {
    /// `*`: any version at all.
    Any,
    /// This version (without quotes).
    ETag(String),
}

impl Expectation {
    fn is_met_by(&self, object: Option<&ObjectRecord>) -> bool {
        match (self, object) {
            (_, None) => false,
            (Self::Any, Some(_)) => true,
            (Self::ETag(etag), Some(object)) => *etag == object.etag,
        }
    }
}

/// The conditions of a change.
#[derive(Clone, Debug, Default)]
pub(in crate::server) struct Conditions {
    /// The present version must be this one.
    pub(in crate::server) if_match: Option<Expectation>,
    /// The present version must not be this one; `Any`: there must be none.
    pub(in crate::server) if_none_match: Option<Expectation>,
    /// The present version must have this size in bytes.
    pub(in crate::server) if_size: Option<u64>,
}

impl Conditions {
    /// Whether they hold. As with S3, `If-Match` on a key that is not there is `NoSuchKey`.
    pub(super) fn check(&self, object: Option<&ObjectRecord>) -> Result<(), Refusal> {
        if let Some(expectation) = &self.if_match {
            if object.is_none() {
                return Err(Refusal::NoSuchKey);
            }
            if !expectation.is_met_by(object) {
                return Err(Refusal::PreconditionFailed);
            }
        }
        if self
            .if_none_match
            .as_ref()
            .is_some_and(|expectation| expectation.is_met_by(object))
        {
            return Err(Refusal::PreconditionFailed);
        }
        if self
            .if_size
            .is_some_and(|size| object.is_some_and(|object| object.size != size))
        {
            return Err(Refusal::PreconditionFailed);
        }
        Ok(())
    }
}

impl Storage {
    /// Makes the data in `temp` the object `key`, if the conditions hold.
    pub(in crate::server) fn put_object(
        &self,
        bucket: &str,
        key: &str,
        (temp, size): (TempFile, u64),
        headers: Headers,
        checksums: Checksums,
        conditions: &Conditions,
    ) -> Result<ObjectRecord, Refusal> {
        let record = ObjectRecord {
            key: key.to_owned(),
            etag: format!("{}-1", files::random_id()?),
            size,
            modified: SystemTime::now(),
            headers,
            checksums,
            upload: None,
        };
        temp.seal(size, &record, self.syncs())?;
        let replaced = {
            let mut state = self.state.write();
            let bucket = state.bucket_mut(bucket)?;
            conditions.check(bucket.objects.get(key).map(|object| &object.record))?;
            temp.publish(&bucket.dirs.object(key))?;
            let dirs = Arc::clone(&bucket.dirs);
            let object = Object::new(record.clone(), Arc::clone(&dirs));
            Gone {
                object: bucket.objects.insert(key.to_owned(), object),
                dirs,
            }
        };
        replaced.bury()?;
        Ok(record)
    }

    /// Deletes the object if it is there and the conditions hold.
    pub(in crate::server) fn delete_object(
        &self,
        bucket: &str,
        key: &str,
        conditions: &Conditions,
    ) -> Result<(), Refusal> {
        self.unlink(bucket, key, conditions)?.bury()?;
        Ok(())
    }

    /// Deletes many objects with one sync; one answer each.
    pub(in crate::server) fn delete_objects(
        &self,
        bucket: &str,
        keys: &[(String, Conditions)],
    ) -> Result<Vec<Result<(), Refusal>>, Refusal> {
        self.head_bucket(bucket)?;
        let mut gone = Vec::new();
        let mut answers = Vec::new();
        for (key, conditions) in keys {
            answers.push(
                self.unlink(bucket, key, conditions)
                    .map(|unlinked| gone.push(unlinked)),
            );
        }
        if let Some(first) = gone.first() {
            first.dirs.objects.sync()?;
        }
        for unlinked in gone {
            unlinked.doom();
        }
        Ok(answers)
    }

    fn unlink(&self, bucket: &str, key: &str, conditions: &Conditions) -> Result<Gone, Refusal> {
        let mut state = self.state.write();
        let bucket = state.bucket_mut(bucket)?;
        let dirs = Arc::clone(&bucket.dirs);
        let Some(object) = bucket.objects.get(key) else {
            return match conditions.if_match {
                Some(_) => Err(Refusal::NoSuchKey),
                None => Ok(Gone { object: None, dirs }),
            };
        };
        conditions.check(Some(&object.record))?;
        fs::remove_file(dirs.object(key))?;
        Ok(Gone {
            object: bucket.objects.remove(key),
            dirs,
        })
    }
}

/// A version that was replaced or deleted, in the index but not yet durably.
pub(super) struct Gone {
    pub(super) object: Option<Arc<Object>>,
    pub(super) dirs: Arc<BucketDirs>,
}

impl Gone {
    /// Makes the change durable, then gives the old version's parts up.
    pub(super) fn bury(self) -> io::Result<()> {
        self.dirs.objects.sync()?;
        self.doom();
        Ok(())
    }

    fn doom(self) {
        if let Some(object) = self.object {
            object.doom();
        }
    }
}
