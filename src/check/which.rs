//! The objects of a file, and the files of an object.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use tokio::sync::mpsc::Sender;

use super::{
    Answer, CheckError, Inventory, Target,
    kinds::{KeyShape, shape_of},
    plan::FAULTS_AT_ONCE,
};
use crate::{
    data::object_key,
    meta::{Extent, ExtentSource, FileKind, Ino, Inode, ObjectId, ObjectRow},
    store::StoreErrorKind,
    telemetry::moment,
};

/// Extents that are read at a time.
const EXTENTS_AT_ONCE: usize = 512;
/// Objects of one file that are counted at a time, some 80 bytes each. The extents of a file in
/// more objects are read once for each such part of them.
const OBJECTS_AT_ONCE: usize = 20_000;
/// Paths in one part of an answer, so that it fits into a line of the control socket however long
/// and odd they are.
const PATHS_AT_ONCE: usize = 8;

/// Bytes of a file in one object.
#[derive(Clone, Copy, Debug, Default)]
struct Share {
    bytes: u64,
    extents: u64,
}

impl Share {
    fn add(&mut self, extent: &Extent) {
        self.bytes += extent.len;
        self.extents += 1;
    }
}

impl Inventory {
    /// Answers part by part. An end of the receiver ends this too.
    ///
    /// # Errors
    /// [`CheckError::NotThere`] if the volume has no such thing; the store or the metadata fails.
    pub async fn which(&self, target: &Target, answers: &Sender<Answer>) -> Result<(), CheckError> {
        match target {
            Target::Path(path) => {
                let (ino, path) = self.resolve(path).await?;
                self.tell_file(ino, Some(path), answers).await
            }
            Target::Inode(ino) => self.tell_file(Ino(*ino), None, answers).await,
            Target::Object(key) => self.tell_object(key, answers).await,
        }
    }

    /// The inode at a path from the volume's root, and the path as it is printed. Symbolic links
    /// are not followed.
    async fn resolve(&self, path: &[u8]) -> Result<(Ino, Bytes), CheckError> {
        let (mut at, mut shown) = (Ino::ROOT, Vec::new());
        let components = path.split(|byte| *byte == b'/');
        for name in components.filter(|name| !name.is_empty() && *name != b".") {
            shown.push(b'/');
            shown.extend_from_slice(name);
            let found = self.meta.lookup(at, name).await?;
            at = found.map(|dentry| dentry.ino).ok_or_else(|| {
                let shown = String::from_utf8_lossy(&shown);
                CheckError::NotThere(format!("there is no {shown} in the volume"))
            })?;
        }
        if shown.is_empty() {
            shown.push(b'/');
        }
        Ok((at, shown.into()))
    }

    async fn tell_file(
        &self,
        ino: Ino,
        path: Option<Bytes>,
        answers: &Sender<Answer>,
    ) -> Result<(), CheckError> {
        let found = self.meta.inode(ino).await?;
        let inode = found
            .ok_or_else(|| CheckError::NotThere(format!("the volume has no inode {}", ino.0)))?;
        let paths = match path {
            // A file with one name has no other path.
            Some(path) if inode.nlink == 1 || inode.kind == FileKind::Directory => vec![path],
            _ => {
                self.progress.begin("looking for names", 0);
                let inos = BTreeSet::from([ino]);
                let mut located = self.meta.locate(&inos).await?;
                located.remove(&ino).unwrap_or_default().paths
            }
        };
        self.progress.begin("reading extents", 0);
        let mut after = None;
        let mut is_told = false;
        loop {
            let (shares, inline_bytes) = self.shares_of(ino, after).await?;
            if !is_told {
                is_told = true;
                let (first, rest) = split(&paths);
                let told = file(&inode, inline_bytes, first);
                send(answers, told).await?;
                tell_more(ino, rest, answers).await?;
            }
            let is_last = shares.len() < OBJECTS_AT_ONCE;
            for (object, share) in shares {
                after = Some(object);
                let told = Answer::Object {
                    object: self.store.url().full_key(&object_key(object)),
                    bytes: share.bytes,
                    extents: share.extents,
                };
                send(answers, told).await?;
            }
            if is_last {
                return Ok(());
            }
        }
    }

    /// The objects after `after` that hold bytes of a file, at most [`OBJECTS_AT_ONCE`] and the
    /// first of all; and the bytes of it that are in the metadata.
    async fn shares_of(
        &self,
        ino: Ino,
        after: Option<ObjectId>,
    ) -> Result<(BTreeMap<ObjectId, Share>, u64), CheckError> {
        let (mut shares, mut inline_bytes) = (BTreeMap::<ObjectId, Share>::new(), 0);
        self.each_extent(ino, |extent| match &extent.source {
            ExtentSource::Inline(_) => inline_bytes += extent.len,
            ExtentSource::Object { object, .. } if after < Some(*object) => {
                shares.entry(*object).or_default().add(extent);
                if shares.len() > OBJECTS_AT_ONCE {
                    shares.pop_last();
                }
            }
            ExtentSource::Object { .. } => {}
        })
        .await?;
        Ok((shares, inline_bytes))
    }

    async fn each_extent(
        &self,
        ino: Ino,
        mut visit: impl FnMut(&Extent),
    ) -> Result<(), CheckError> {
        let mut from = 0;
        loop {
            let range = from..u64::MAX;
            let extents = self.meta.extents(ino, range, EXTENTS_AT_ONCE).await?;
            extents.iter().for_each(&mut visit);
            match extents.last() {
                Some(last) if extents.len() == EXTENTS_AT_ONCE => from = last.offset + last.len,
                _ => return Ok(()),
            }
        }
    }

    async fn tell_object(&self, key: &str, answers: &Sender<Answer>) -> Result<(), CheckError> {
        let stored_bytes = match self.store.head(key).await {
            Ok(head) => Some(head.size),
            Err(error) if error.kind == StoreErrorKind::NotFound => None,
            Err(error) => return Err(error.into()),
        };
        let KeyShape::Data(object) = shape_of(key) else {
            let (is, what) = self.purpose(key);
            return self
                .tell_key(key, is, what, stored_bytes, None, answers)
                .await;
        };
        let row = self.meta.object_row(object).await?;
        let Some(row) = row else {
            let sessions = self.meta.sessions();
            let known = sessions.iter().find(|one| one.session == object.session);
            let (is, what) = match self.writing.may_write(object.session, known.copied()) {
                true => (
                    "uncommitted",
                    "contents that a mount has stored and not committed yet",
                ),
                false => (
                    "leftovers",
                    "left over: no file has or had it; 'strongroom gc' deletes it",
                ),
            };
            let what = what.to_owned();
            return self
                .tell_key(key, is, what, stored_bytes, None, answers)
                .await;
        };
        let inos = self.meta.files_of(object).await?;
        let (is, what) = standing(&row, stored_bytes.is_some(), inos.len());
        self.tell_key(key, is, what, stored_bytes, Some(&row), answers)
            .await?;
        for inos in inos.chunks(FAULTS_AT_ONCE) {
            self.tell_holders(object, inos, answers).await?;
        }
        Ok(())
    }

    async fn tell_holders(
        &self,
        object: ObjectId,
        inos: &[Ino],
        answers: &Sender<Answer>,
    ) -> Result<(), CheckError> {
        self.progress.begin("reading extents", 0);
        let mut holders = BTreeMap::new();
        for ino in inos {
            let mut share = Share::default();
            self.each_extent(*ino, |extent| match extent.source {
                ExtentSource::Object { object: named, .. } if named == object => share.add(extent),
                _ => {}
            })
            .await?;
            if share.extents > 0 {
                holders.insert(*ino, share);
            }
        }
        if holders.is_empty() {
            return Ok(());
        }
        self.progress.begin("looking for names", 0);
        let mut located = self.meta.locate(&holders.keys().copied().collect()).await?;
        for (ino, share) in holders {
            let paths = located.remove(&ino).unwrap_or_default().paths;
            let (first, rest) = split(&paths);
            let told = Answer::Holder {
                ino: ino.0,
                bytes: share.bytes,
                extents: share.extents,
                paths: first,
            };
            send(answers, told).await?;
            tell_more(ino, rest, answers).await?;
        }
        Ok(())
    }

    /// The kind of an object that holds no contents, and a sentence about it.
    fn purpose(&self, key: &str) -> (&'static str, String) {
        let (is, what) = match shape_of(key) {
            KeyShape::Log(number) => match number > self.meta.database_objects().log_until {
                true => ("log", "the metadata's log, which the next mount reads"),
                false => ("log", "the metadata's log, superseded by its tables"),
            },
            KeyShape::Table(name) => match self.meta.database_objects().tables.contains(&name) {
                true => ("tables", "a table of the metadata, in use"),
                false => (
                    "tables",
                    "a table of the metadata that the present state does not need",
                ),
            },
            KeyShape::Manifest => ("manifests", "a manifest: a state of the metadata"),
            KeyShape::Upkeep => ("upkeep", "a note of the metadata about its own upkeep"),
            KeyShape::Header => ("header", "the volume header, with the key slots"),
            KeyShape::Lease => ("lease", "the lease: who has the volume mounted for writing"),
            KeyShape::Note => ("notes", "the note of a read-only mount"),
            KeyShape::Foreign | KeyShape::Data(_) => {
                ("foreign", "nothing that Strongroom has made")
            }
        };
        (is, what.to_owned())
    }

    async fn tell_key(
        &self,
        key: &str,
        is: &str,
        what: String,
        stored_bytes: Option<u64>,
        row: Option<&ObjectRow>,
        answers: &Sender<Answer>,
    ) -> Result<(), CheckError> {
        let object = self.store.url().full_key(key);
        if stored_bytes.is_none() && row.is_none() {
            let why = format!("there is no object {object}, and nothing needs it");
            return Err(CheckError::NotThere(why));
        }
        let live_bytes = row.map_or(0, |row| row.record.live_bytes);
        let plaintext_len = row.map_or(0, |row| row.record.plaintext_len);
        let told = Answer::Key {
            object,
            is: is.to_owned(),
            what,
            stored_bytes,
            live_bytes,
            dead_bytes: plaintext_len.saturating_sub(live_bytes),
        };
        send(answers, told).await
    }
}

/// The standing of an object with a record.
fn standing(row: &ObjectRow, is_there: bool, files: usize) -> (&'static str, String) {
    match (row.died_unix_seconds, is_there) {
        (Some(died), true) => (
            "waiting",
            format!(
                "no file has a byte of it since {}; a mount deletes it two minutes after that, or when no read-only mount needs it",
                moment(died)
            ),
        ),
        (Some(died), false) => (
            "missing",
            format!("deleted: no file has a byte of it since {}", moment(died)),
        ),
        (None, false) => (
            "missing",
            "not in the bucket, and the files below need it".to_owned(),
        ),
        (None, true) if files > 1 => ("packs", "contents of several files".to_owned()),
        (None, true) => ("single", "contents of one file".to_owned()),
    }
}

fn file(inode: &Inode, inline_bytes: u64, paths: Vec<String>) -> Answer {
    let is = match inode.kind {
        FileKind::File => "file",
        FileKind::Directory => "directory",
        FileKind::Symlink => "symlink",
        FileKind::Fifo => "fifo",
        FileKind::Socket => "socket",
        FileKind::CharDevice | FileKind::BlockDevice => "device",
    };
    Answer::File {
        ino: inode.ino.0,
        is: is.to_owned(),
        size: inode.size,
        allocated_bytes: inode.allocated,
        inline_bytes,
        paths,
    }
}

/// The paths for the first part of an answer, and the rest.
fn split(paths: &[Bytes]) -> (Vec<String>, &[Bytes]) {
    let (first, rest) = paths.split_at(paths.len().min(PATHS_AT_ONCE));
    (texts(first), rest)
}

fn texts(paths: &[Bytes]) -> Vec<String> {
    let text = |path: &Bytes| String::from_utf8_lossy(path).into_owned();
    paths.iter().map(text).collect()
}

async fn tell_more(ino: Ino, rest: &[Bytes], answers: &Sender<Answer>) -> Result<(), CheckError> {
    for paths in rest.chunks(PATHS_AT_ONCE) {
        let told = Answer::Paths {
            ino: ino.0,
            paths: texts(paths),
        };
        send(answers, told).await?;
    }
    Ok(())
}

async fn send(answers: &Sender<Answer>, answer: Answer) -> Result<(), CheckError> {
    let sent = answers.send(answer).await;
    sent.map_err(|_| CheckError::Internal("nobody reads the answer".to_owned()))
}
