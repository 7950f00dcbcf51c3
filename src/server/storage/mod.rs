//! Buckets, objects and uploads in a directory.
//!
//! ```text
//! <root>/lock                            held while a server runs
//! <root>/tmp/                            files and buckets under construction, emptied at start
//! <root>/buckets/<bucket>/objects/<h>    an object: data and record, or the record of one in parts
//! <root>/buckets/<bucket>/uploads/<id>   an upload that has not ended
//! <root>/buckets/<bucket>/parts/<id>.<n> a part, of an upload or of the object it became
//! ```
//!
//! `<h>` is the SHA-256 of the key. The commit of any change is one rename or unlink under one lock
//! ([`Storage::state`]), which also guards the index and the check of conditions: so conditional
//! writes have one winner, and a reader that opens an object under it gets one whole version. Slow
//! work (data, fsync) happens before the lock is taken or after it is released.
//!
//! Completing an upload copies nothing: the object's record lists the parts. They are deleted with
//! the object, once its last reader has let go. At its start the server deletes files that nothing
//! refers to.
//!
//! All functions block; callers are on blocking threads.

mod bucket;
mod checksum;
mod commit;
mod files;
mod list;
mod multipart;
mod read;
mod record;
mod scan;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::SystemTime;

use parking_lot::{RwLock, RwLockReadGuard};

use super::config::SyncPolicy;

pub(super) use checksum::CRC32;
pub(super) use commit::{Conditions, Expectation};
pub(super) use files::TempFile;
pub(super) use list::{Listing, ListingQuery};
pub(super) use multipart::{CompletedPart, Completion, NewUpload};
pub(super) use read::{BufferPool, Reader};
pub(super) use record::{Checksums, Headers, ObjectRecord, PartRecord, UploadRecord};

use files::SyncedDir;

/// The directory can't be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot use {path} as S3 storage: {source}")]
pub struct StorageError {
    path: PathBuf,
    source: io::Error,
}

impl StorageError {
    pub(super) fn new(path: &Path, source: io::Error) -> Self {
        Self {
            path: path.to_owned(),
            source,
        }
    }
}

/// Why a request was not carried out; the S3 layer makes an error code of it.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    #[error("no such bucket")]
    NoSuchBucket,
    #[error("the bucket exists")]
    BucketExists,
    #[error("the bucket is not empty")]
    BucketNotEmpty,
    #[error("no such key")]
    NoSuchKey,
    #[error("no such upload")]
    NoSuchUpload,
    #[error("a condition does not hold")]
    PreconditionFailed,
    #[error("part {0} is missing or has another ETag")]
    InvalidPart(i32),
    #[error("the parts are not in ascending order")]
    InvalidPartOrder,
    #[error("part {number} has {size} bytes, less than the minimum of 5 MiB")]
    PartTooSmall { number: u16, size: u64 },
    #[error("the CRC32 checksum given is not that of the parts")]
    ChecksumMismatch,
    #[error("the object would have {actual} bytes and not {expected}")]
    SizeMismatch { actual: u64, expected: u64 },
    #[error("storage failed: {0}")]
    Io(#[from] io::Error),
}

/// Buckets, objects and uploads.
pub(super) struct Storage {
    root: PathBuf,
    sync: SyncPolicy,
    temp_names: AtomicU64,
    buffers: Arc<BufferPool>,
    state: RwLock<State>,
    /// Keeps other servers out of the directory for as long as it is open.
    _lock: File,
}

#[derive(Default)]
struct State {
    buckets: BTreeMap<String, Bucket>,
}

impl State {
    fn bucket(&self, name: &str) -> Result<&Bucket, Refusal> {
        self.buckets.get(name).ok_or(Refusal::NoSuchBucket)
    }

    fn bucket_mut(&mut self, name: &str) -> Result<&mut Bucket, Refusal> {
        self.buckets.get_mut(name).ok_or(Refusal::NoSuchBucket)
    }
}

/// One bucket's index.
struct Bucket {
    created: SystemTime,
    dirs: Arc<BucketDirs>,
    objects: BTreeMap<String, Arc<Object>>,
    /// By key, then upload id: the order they are listed in.
    uploads: BTreeMap<(String, String), Upload>,
}

/// Where a bucket's files are.
struct BucketDirs {
    objects: SyncedDir,
    uploads: SyncedDir,
    parts: SyncedDir,
}

impl BucketDirs {
    fn new(bucket: &Path, sync: SyncPolicy) -> Self {
        let dir = |name: &str| SyncedDir::new(bucket.join(name), sync == SyncPolicy::Always);
        Self {
            objects: dir("objects"),
            uploads: dir("uploads"),
            parts: dir("parts"),
        }
    }

    fn object(&self, key: &str) -> PathBuf {
        self.objects.path().join(files::name_of(key))
    }

    fn upload(&self, id: &str) -> PathBuf {
        self.uploads.path().join(id)
    }

    fn part(&self, id: &str, number: u16) -> PathBuf {
        self.parts.path().join(part_name(id, number))
    }
}

fn part_name(id: &str, number: u16) -> String {
    format!("{id}.{number:05}")
}

/// An object's version: its record, and its parts if its data is in parts.
pub(super) struct Object {
    pub(super) record: ObjectRecord,
    dirs: Arc<BucketDirs>,
    /// The object is deleted: its last user deletes its parts.
    doomed: AtomicBool,
}

impl Object {
    fn new(record: ObjectRecord, dirs: Arc<BucketDirs>) -> Arc<Self> {
        Arc::new(Self {
            record,
            dirs,
            doomed: AtomicBool::new(false),
        })
    }

    /// Has the parts deleted once no reader has them open. Only after the object's end is durable.
    fn doom(&self) {
        self.doomed.store(true, Ordering::Release);
    }
}

impl Drop for Object {
    fn drop(&mut self) {
        let Some(upload) = self
            .record
            .upload
            .as_ref()
            .filter(|_| self.doomed.load(Ordering::Acquire))
        else {
            return;
        };
        for part in &upload.parts {
            // A part that is left is deleted at the next start.
            let _left_behind = fs::remove_file(self.dirs.part(&upload.id, part.number));
        }
    }
}

/// An upload that has not ended, and its parts by number.
struct Upload {
    record: UploadRecord,
    parts: BTreeMap<u16, PartRecord>,
}

impl Storage {
    /// Opens or makes the directory and reads its index.
    pub(super) fn open(root: &Path, sync: SyncPolicy) -> Result<Self, StorageError> {
        let failed = |source| StorageError::new(root, source);
        fs::create_dir_all(root.join("buckets")).map_err(failed)?;
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(root.join("lock"))
            .map_err(failed)?;
        lock.try_lock().map_err(|error| match error {
            fs::TryLockError::WouldBlock => failed(io::Error::other("another server has it open")),
            fs::TryLockError::Error(source) => failed(source),
        })?;
        let temp = root.join("tmp");
        match fs::remove_dir_all(&temp) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => fs::create_dir(&temp).map_err(failed)?,
        }
        let state = scan::scan(&root.join("buckets"), sync).map_err(failed)?;
        if sync == SyncPolicy::Always {
            files::sync_dir(root).map_err(failed)?;
        }
        Ok(Self {
            root: root.to_owned(),
            sync,
            temp_names: AtomicU64::new(0),
            buffers: Arc::default(),
            state: RwLock::new(state),
            _lock: lock,
        })
    }

    /// A new temporary file for data to come.
    pub(super) fn temp_file(&self) -> io::Result<TempFile> {
        TempFile::create(self.temp_path())
    }

    fn temp_path(&self) -> PathBuf {
        self.root
            .join("tmp")
            .join(self.temp_names.fetch_add(1, Ordering::Relaxed).to_string())
    }

    fn syncs(&self) -> bool {
        self.sync == SyncPolicy::Always
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read()
    }
}
