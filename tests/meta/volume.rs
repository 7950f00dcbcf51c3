//! A volume's metadata on an object store in memory that counts requests, takes its time and can be
//! away.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures::{StreamExt, stream::BoxStream};
use parking_lot::Mutex;
use slatedb::object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    ObjectStoreExt, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
    memory::InMemory, path::Path,
};
use strongroom::{
    meta::{
        ContentCommit, Extent, ExtentSource, FileKind, Ino, Inode, Meta, MetaConfig, NewInode,
        NewObject, ObjectId, Timestamp,
    },
    seal::{
        codec::{ObjectKind, SealParams},
        keys::Epoch,
    },
};

/// The kind of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    Put,
    Get,
    List,
    Delete,
}

/// Counts what passes.
#[derive(Debug, Default)]
pub struct CountingStore {
    inner: InMemory,
    log: Mutex<Vec<(Verb, String)>>,
    latency: Mutex<Duration>,
    away: AtomicBool,
}

impl fmt::Display for CountingStore {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("counting")
    }
}

impl CountingStore {
    pub fn new() -> Arc<CountingStore> {
        Arc::default()
    }

    /// Each request takes this long.
    pub fn set_latency(&self, latency: Duration) {
        *self.latency.lock() = latency;
    }

    /// While away every request fails in a way that is worth another try.
    pub fn set_away(&self, away: bool) {
        self.away.store(away, Ordering::SeqCst);
    }

    /// How many requests came since the last [`CountingStore::take`].
    pub fn asked(&self) -> usize {
        self.log.lock().len()
    }

    /// Requests since the last call.
    pub fn take(&self) -> Vec<(Verb, String)> {
        std::mem::take(&mut self.log.lock())
    }

    async fn pass(&self, verb: Verb, location: &Path) -> Result<()> {
        self.log.lock().push((verb, location.to_string()));
        let latency = *self.latency.lock();
        if !latency.is_zero() {
            tokio::time::sleep(latency).await;
        }
        if self.away.load(Ordering::SeqCst) {
            return Err(slatedb::object_store::Error::Generic {
                store: "counting",
                source: "away".into(),
            });
        }
        Ok(())
    }

    /// A store of its own with the same objects: the state that a crash at this moment leaves.
    pub async fn fork(&self) -> Arc<CountingStore> {
        let copy = CountingStore::default();
        let mut objects = self.inner.list(None);
        while let Some(object) = objects.next().await {
            let location = object.unwrap().location;
            // An object that is deleted meanwhile is not there.
            if let Ok(found) = self.inner.get(&location).await {
                copy.inner
                    .put(&location, found.bytes().await.unwrap().into())
                    .await
                    .unwrap();
            }
        }
        Arc::new(copy)
    }
}

/// Counts the requests of a kind whose key begins so.
pub fn count(requests: &[(Verb, String)], verb: Verb, prefix: &str) -> usize {
    requests
        .iter()
        .filter(|(is, path)| *is == verb && path.starts_with(prefix))
        .count()
}

#[async_trait::async_trait]
impl ObjectStore for CountingStore {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        opts: PutOptions,
    ) -> Result<PutResult> {
        self.pass(Verb::Put, location).await?;
        self.inner.put_opts(location, payload, opts).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.pass(Verb::Put, location).await?;
        self.inner.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.pass(Verb::Get, location).await?;
        self.inner.get_opts(location, options).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        self.log.lock().push((Verb::Delete, String::new()));
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.log.lock().push((
            Verb::List,
            prefix.map(ToString::to_string).unwrap_or_default(),
        ));
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.log.lock().push((
            Verb::List,
            prefix.map(ToString::to_string).unwrap_or_default(),
        ));
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.pass(Verb::Put, to).await?;
        self.inner.copy_opts(from, to, options).await
    }
}

/// The configuration at `--memory 128MiB`.
pub const CONFIG: MetaConfig = MetaConfig {
    read_only: false,
    follow_every: Duration::from_secs(1),
    memory_bytes: 40 << 20,
};

pub async fn open(store: &Arc<CountingStore>) -> Meta {
    Meta::open_on(store.clone(), CONFIG).await.unwrap()
}

pub async fn follow(store: &Arc<CountingStore>) -> Meta {
    follow_every(store, CONFIG.follow_every).await
}

pub async fn follow_every(store: &Arc<CountingStore>, follow_every: Duration) -> Meta {
    Meta::open_on(
        store.clone(),
        MetaConfig {
            read_only: true,
            follow_every,
            ..CONFIG
        },
    )
    .await
    .unwrap()
}

/// A new volume, open.
pub async fn volume() -> (Arc<CountingStore>, Meta) {
    let store = CountingStore::new();
    Meta::format_on(store.clone(), 1000, 1000).await.unwrap();
    let meta = open(&store).await;
    (store, meta)
}

/// A moment; later ones have larger numbers.
pub fn at(seconds: i64) -> Timestamp {
    Timestamp { seconds, nanos: 7 }
}

pub fn new(kind: FileKind, now: i64) -> NewInode {
    NewInode {
        kind,
        mode: 0o640,
        uid: 1,
        gid: 2,
        rdev: 0,
        target: Bytes::new(),
        now: at(now),
        xattrs: Vec::new(),
    }
}

pub async fn file(meta: &Meta, dir: Ino, name: &str) -> Inode {
    meta.create(dir, name.as_bytes(), new(FileKind::File, 10))
        .await
        .unwrap()
}

pub async fn directory(meta: &Meta, dir: Ino, name: &str) -> Inode {
    meta.create(dir, name.as_bytes(), new(FileKind::Directory, 10))
        .await
        .unwrap()
}

pub async fn get(meta: &Meta, ino: Ino) -> Inode {
    meta.inode(ino).await.unwrap().expect("the inode is there")
}

pub async fn names(meta: &Meta, dir: Ino) -> Vec<String> {
    let mut names = Vec::new();
    let mut cookie = 0;
    loop {
        let page = meta.read_dir(dir, cookie, 7).await.unwrap();
        let Some(last) = page.last() else {
            return names;
        };
        cookie = last.cookie;
        names.extend(
            page.iter()
                .map(|entry| String::from_utf8(entry.name.to_vec()).unwrap()),
        );
    }
}

pub fn object(meta: &Meta, number: u64, plaintext_len: u64) -> NewObject {
    let params = SealParams {
        salt: [number as u8; 32],
        epoch: Epoch(1),
        frame_log2: 16,
        kind: ObjectKind::Data,
    };
    NewObject {
        object: ObjectId {
            session: meta.session(),
            number,
        },
        params,
        plaintext_len,
    }
}

pub fn extent(offset: u64, len: u64, object: &NewObject, at: u64) -> Extent {
    Extent {
        offset,
        len,
        source: ExtentSource::Object {
            object: object.object,
            at,
        },
    }
}

/// A commit of a file's contents that changes nothing but extents and size.
pub fn contents(ino: Ino, extents: Vec<Extent>, size: u64) -> ContentCommit {
    ContentCommit::new(ino, extents, size)
}
