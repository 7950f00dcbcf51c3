//! Looks at the whole volume: what is there, and whether all that counts is counted right.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    time::Duration,
};

use strongroom::meta::{ExtentSource, FileKind, Ino, MetaError, ObjectId, SessionId};

use crate::{attributes, client::Client, found::Found, network::Network};

const PAGE: usize = 100;
const EXTENTS_MAX: usize = 100_000;
const DATA: &str = "volume/data/";
const READERS: &str = "volume/readers/";

/// Ten minutes of silence, and the rounds of the writer before and after them.
const SILENT_NOTES_PASSED_OVER: Duration = Duration::from_secs(12 * 60);

/// The tree with all contents, as somebody sees it who lists and reads everything.
pub async fn look(client: &Client) -> Result<Found, String> {
    let fail = |error: strongroom::fs::FsError| error.to_string();
    let mut found = Found::default();
    let mut dirs = vec![Ino::ROOT];
    while let Some(dir) = dirs.pop() {
        let mut below = vec![dir.0];
        let fh = client.fs.opendir(dir).await.map_err(fail)?;
        let mut cookie = 0;
        loop {
            let page = client.fs.read_dir(fh, cookie, true).await.map_err(fail)?;
            let Some(last) = page.last() else { break };
            cookie = last.cookie;
            for listed in page {
                if listed.name == "." || listed.name == ".." {
                    continue;
                }
                let name = String::from_utf8(listed.name.to_vec()).unwrap();
                let is_dir = listed.kind == FileKind::Directory;
                let number = listed.ino.0;
                let place = (dir.0, name);
                if found
                    .names
                    .insert(place.clone(), (number, is_dir))
                    .is_some()
                {
                    return Err(format!("{place:?} is listed twice"));
                }
                if is_dir {
                    dirs.push(listed.ino);
                } else if let Entry::Vacant(contents) = found.contents.entry(number) {
                    let read = client.read(listed.ino).await;
                    let bytes = read.map_err(|why| format!("{place:?}: {why}"))?;
                    let size = listed.attributes.map(|attributes| attributes.size);
                    if size != Some(bytes.len() as u64) {
                        return Err(format!("{place:?}: {size:?}, read {}", bytes.len()));
                    }
                    contents.insert(bytes);
                    below.push(number);
                }
            }
        }
        client.fs.releasedir(fh);
        if client.habits.attributes {
            for number in below {
                let attributes = attributes::read(client, number).await.map_err(fail)?;
                found.attributes.insert(number, attributes);
            }
        }
    }
    Ok(found)
}

/// The object whose key this is.
fn object_of(key: &str) -> Option<ObjectId> {
    let (session, number) = key.strip_prefix(DATA)?.split_once('/')?;
    let session = data_encoding::HEXLOWER.decode(session.as_bytes()).ok()?;
    Some(ObjectId {
        session: SessionId(session.try_into().ok()?),
        number: u64::from_str_radix(number, 16).ok()?,
    })
}

fn key_of(object: ObjectId) -> String {
    let session = data_encoding::HEXLOWER.encode(&object.session.0);
    format!("{DATA}{session}/{:016x}", object.number)
}

/// Sums over the records of all inodes.
#[derive(Default)]
struct Counted {
    inodes: u64,
    bytes: u64,
    /// Bytes that extents name, by object.
    live: BTreeMap<ObjectId, u64>,
    wrong: Vec<String>,
}

async fn count(client: &Client) -> Result<Counted, MetaError> {
    let meta = &client.meta;
    let mut counted = Counted::default();
    let mut links: BTreeMap<Ino, u32> = BTreeMap::new();
    let mut files = BTreeSet::new();
    let mut dirs = vec![(Ino::ROOT, Ino::ROOT)];
    while let Some((dir, parent)) = dirs.pop() {
        counted.inodes += 1;
        let (mut entries, mut below, mut cookie) = (0u64, 0u32, 0);
        loop {
            let page = meta.read_dir(dir, cookie, PAGE).await?;
            let Some(last) = page.last() else { break };
            cookie = last.cookie;
            for entry in page {
                entries += 1;
                if entry.kind == FileKind::Directory {
                    below += 1;
                    dirs.push((entry.ino, dir));
                } else {
                    *links.entry(entry.ino).or_default() += 1;
                    files.insert(entry.ino);
                }
            }
        }
        let Some(record) = meta.inode(dir).await? else {
            counted
                .wrong
                .push(format!("directory {} has no record", dir.0));
            continue;
        };
        if (record.entries, record.nlink, record.parent) != (entries, below + 2, parent) {
            counted.wrong.push(format!(
                "directory {}: {entries} entries, {below} directories, below {}, but {record:?}",
                dir.0, parent.0
            ));
        }
    }
    for ino in files {
        counted.inodes += 1;
        let Some(record) = meta.inode(ino).await? else {
            counted.wrong.push(format!("inode {} has no record", ino.0));
            continue;
        };
        if record.nlink != links[&ino] {
            counted.wrong.push(format!(
                "inode {}: {} names, {} links",
                ino.0, links[&ino], record.nlink
            ));
        }
        let extents = meta.extents(ino, 0..u64::MAX - 1, EXTENTS_MAX).await?;
        let (mut end, mut bytes) = (0, 0);
        for extent in &extents {
            if extent.offset < end || extent.offset + extent.len > record.size {
                counted.wrong.push(format!(
                    "inode {} of {} bytes: extent at {} of {} after one that ends at {end}",
                    ino.0, record.size, extent.offset, extent.len
                ));
            }
            end = extent.offset + extent.len;
            bytes += extent.len;
            if let ExtentSource::Object { object, at } = extent.source {
                *counted.live.entry(object).or_default() += extent.len;
                let record = meta.object(object).await?;
                if record.is_none_or(|record| at + extent.len > record.plaintext_len) {
                    counted.wrong.push(format!(
                        "inode {}: {extent:?} lies beyond its object",
                        ino.0
                    ));
                }
            }
        }
        counted.bytes += bytes;
        if record.allocated != bytes {
            counted.wrong.push(format!(
                "inode {}: extents of {bytes} bytes, {} allocated",
                ino.0, record.allocated
            ));
        }
    }
    Ok(counted)
}

/// Where a follower crashed, its note keeps what dies after it until the writer has seen it silent
/// for ten minutes. The writer looks at notes only while it has something to delete, which may be
/// an object that was repacked when the dead sessions were forgotten, after 2 h 22 min.
pub async fn dead_followers_are_passed_over(network: &Network) {
    if network.with_s3(|s3| s3.objects().keys().any(|key| key.starts_with(READERS))) {
        tokio::time::sleep(SILENT_NOTES_PASSED_OVER).await;
    }
}

/// Whether every count is exact. Nothing may be dirty. With `cleared`, what dead sessions left and
/// what died must be gone from the store too; these are the sessions that ended with an unmount,
/// whose uploads without parts nobody looks for (docs/architecture.md, Known limits).
pub async fn audit(
    client: &Client,
    network: &Network,
    cleared: Option<&BTreeSet<SessionId>>,
) -> Result<(), String> {
    let checked = check(client, network, cleared).await;
    let mut wrong = checked.map_err(|error| format!("looking at the volume: {error}"))?;
    wrong.extend(network.with_s3(|s3| s3.witness.faults.clone()));
    match wrong.is_empty() {
        true => Ok(()),
        false => Err(wrong.join("\n")),
    }
}

async fn check(
    client: &Client,
    network: &Network,
    cleared: Option<&BTreeSet<SessionId>>,
) -> Result<Vec<String>, MetaError> {
    let meta = &client.meta;
    meta.flush().await?;
    let Counted {
        inodes,
        bytes,
        live,
        mut wrong,
    } = count(client).await?;
    let totals = meta.totals();
    if (totals.inodes, totals.bytes) != (inodes, bytes) {
        wrong.push(format!("{inodes} inodes, {bytes} bytes, but {totals:?}"));
    }
    let garbage: BTreeSet<ObjectId> = meta
        .garbage(i64::MAX, EXTENTS_MAX)
        .await?
        .into_iter()
        .map(|garbage| garbage.object)
        .collect();
    let (stored, uploads): (BTreeSet<String>, Vec<(String, bool)>) = network.with_s3(|s3| {
        let keys = s3.objects().keys().filter(|key| key.starts_with(DATA));
        let uploads = s3.uploads();
        let uploads = uploads.map(|(key, has_parts)| (key.to_owned(), has_parts));
        (keys.cloned().collect(), uploads.collect())
    });
    for (object, bytes) in &live {
        let key = key_of(*object);
        match meta.object(*object).await? {
            None => wrong.push(format!("{key} is named and has no record")),
            Some(record) if record.live_bytes != *bytes => wrong.push(format!(
                "{key}: extents name {bytes} bytes, its record {}",
                record.live_bytes
            )),
            Some(_) => {}
        }
        if !stored.contains(&key) {
            wrong.push(format!("{key} is named and not in the store"));
        }
        if garbage.contains(object) {
            wrong.push(format!("{key} is named and garbage"));
        }
    }
    for key in &stored {
        let Some(object) = object_of(key) else {
            wrong.push(format!("{key} is nobody's key"));
            continue;
        };
        if live.contains_key(&object) {
            continue;
        }
        match meta.object(object).await? {
            Some(record) if record.live_bytes > 0 => wrong.push(format!(
                "{key}: no extent names it, its record has {} live bytes",
                record.live_bytes
            )),
            Some(_) if !garbage.contains(&object) => {
                wrong.push(format!("{key} is dead and not in the garbage list"));
            }
            _ if cleared.is_some() => wrong.push(format!("{key} is left in the store")),
            _ => {}
        }
    }
    if let Some(unmounted) = cleared {
        for (key, has_parts) in uploads {
            let session = object_of(&key).map(|object| object.session);
            if has_parts || session.is_none_or(|session| !unmounted.contains(&session)) {
                wrong.push(format!("an upload of {key} is left"));
            }
        }
        let left = garbage.iter();
        wrong.extend(left.map(|object| format!("{} is garbage still", key_of(*object))));
    }
    Ok(wrong)
}
