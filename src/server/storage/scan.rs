//! Reads the index from the directory at start, and deletes files that nothing refers to.
//!
//! Never deletes a file that it can't read: it says so in the log and leaves it alone.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use serde::de::DeserializeOwned;

use super::record::{self, ObjectRecord, PartRecord, UploadRecord};
use super::{Bucket, BucketDirs, Object, State, Upload, part_name};
use crate::server::config::SyncPolicy;

/// Reads all buckets.
pub(super) fn scan(buckets: &Path, sync: SyncPolicy) -> io::Result<State> {
    let mut state = State::default();
    for entry in fs::read_dir(buckets)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        let metadata = entry.metadata()?;
        if metadata.is_dir() {
            let created = metadata
                .created()
                .or_else(|_| metadata.modified())
                .unwrap_or_else(|_| SystemTime::now());
            state
                .buckets
                .insert(name, scan_bucket(&entry.path(), created, sync)?);
        }
    }
    Ok(state)
}

fn scan_bucket(path: &Path, created: SystemTime, sync: SyncPolicy) -> io::Result<Bucket> {
    let dirs = Arc::new(BucketDirs::new(path, sync));
    let mut bucket = Bucket {
        created,
        dirs: Arc::clone(&dirs),
        objects: BTreeMap::new(),
        uploads: BTreeMap::new(),
    };

    let mut completed = HashSet::new();
    let mut damaged = false;
    for (_, record) in read_records::<ObjectRecord>(dirs.objects.path(), &mut damaged)? {
        if let Some(upload) = &record.upload {
            completed.insert(upload.id.clone());
        }
        bucket
            .objects
            .insert(record.key.clone(), Object::new(record, Arc::clone(&dirs)));
    }

    for (name, record) in read_records::<UploadRecord>(dirs.uploads.path(), &mut damaged)? {
        if completed.contains(&record.id) {
            // Killed between the commit and its tidying up.
            fs::remove_file(dirs.uploads.path().join(name))?;
        } else {
            let place = (record.key.clone(), record.id.clone());
            bucket.uploads.insert(
                place,
                Upload {
                    record,
                    parts: BTreeMap::new(),
                },
            );
        }
    }

    if damaged {
        tracing::error!(bucket = %path.display(), "damaged records: parts that nothing refers to are kept");
    }
    scan_parts(&mut bucket, !damaged)?;
    // A killed server may have renamed and not synced; the state that is shown from now on must
    // last.
    for dir in [&dirs.objects, &dirs.uploads, &dirs.parts] {
        dir.sync()?;
    }
    Ok(bucket)
}

/// Gives the parts to their uploads; deletes those of no upload and no object.
fn scan_parts(bucket: &mut Bucket, delete_strays: bool) -> io::Result<()> {
    let dirs = Arc::clone(&bucket.dirs);
    let in_objects: HashSet<String> = bucket
        .objects
        .values()
        .filter_map(|object| object.record.upload.as_ref())
        .flat_map(|upload| {
            upload
                .parts
                .iter()
                .map(|part| part_name(&upload.id, part.number))
        })
        .collect();
    let mut uploads: HashMap<&str, &mut Upload> = bucket
        .uploads
        .iter_mut()
        .map(|((_, id), upload)| (id.as_str(), upload))
        .collect();
    for entry in fs::read_dir(dirs.parts.path())? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        if in_objects.contains(&name) {
            continue;
        }
        let upload = name.split_once('.').and_then(|(id, _)| uploads.get_mut(id));
        match upload {
            Some(upload) => match read_record::<PartRecord>(&entry.path()) {
                Ok(part) => {
                    upload.parts.insert(part.number, part);
                }
                Err(error) => tracing::error!(file = %entry.path().display(), %error, "skipped"),
            },
            None if delete_strays => fs::remove_file(entry.path())?,
            None => {}
        }
    }
    Ok(())
}

fn read_records<T: DeserializeOwned>(
    dir: &Path,
    damaged: &mut bool,
) -> io::Result<Vec<(String, T)>> {
    let mut records = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        match read_record(&entry.path()) {
            Ok(record) => records.push((name, record)),
            Err(error) => {
                *damaged = true;
                tracing::error!(file = %entry.path().display(), %error, "skipped");
            }
        }
    }
    Ok(records)
}

fn read_record<T: DeserializeOwned>(path: &Path) -> io::Result<T> {
    record::load(&File::open(path)?)
}
