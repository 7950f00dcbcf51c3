//! A server with a bucket, stores over it, and the ways to look at and to damage what is in it.

use std::{fmt::Debug, sync::Arc};

use bytes::Bytes;
use object_store::{ObjectStoreExt, path::Path};
use strongroom::{
    seal::{
        keys::{VolumeId, VolumeKeys},
        object_store::SealedObjectStore,
    },
    store::{Condition, Store, StoreConfig},
    telemetry::Metrics,
};

use crate::support::server::{TestServer, unconnected};

pub struct Bucket {
    pub server: TestServer,
    pub store: Store,
    pub keys: Arc<VolumeKeys>,
}

impl Bucket {
    pub async fn start() -> Bucket {
        let server = TestServer::start().await;
        let store = connect(server.endpoint_url()).await;
        let keys = VolumeKeys::generate(VolumeId::generate());
        Bucket {
            server,
            store,
            keys,
        }
    }

    /// With the bucket made.
    pub async fn create() -> Bucket {
        let bucket = Bucket::start().await;
        bucket.store.create_bucket().await.unwrap();
        bucket
    }

    pub fn sealed(&self, cache_bytes_max: u64) -> SealedObjectStore {
        SealedObjectStore::new(self.store.clone(), Arc::clone(&self.keys), cache_bytes_max)
    }

    pub fn failures(&self) -> u64 {
        self.store.metrics().authentication_failures.get()
    }

    pub fn gets(&self) -> u64 {
        self.server.stats().count("GetObject")
    }

    pub async fn read(&self, key: &str) -> Vec<u8> {
        self.store
            .get_bytes(key, None, 1 << 30)
            .await
            .unwrap()
            .1
            .to_vec()
    }

    pub async fn write(&self, key: &str, stored: Vec<u8>) {
        self.store
            .put(key, vec![Bytes::from(stored)], Condition::None, &[])
            .await
            .unwrap();
    }

    pub async fn change(&self, key: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let mut stored = self.read(key).await;
        change(&mut stored);
        self.write(key, stored).await;
    }

    /// All keys that start with `prefix`.
    pub async fn keys_below(&self, prefix: &str) -> Vec<String> {
        let mut keys: Vec<String> = Vec::new();
        loop {
            let page = self
                .store
                .list_page(prefix, keys.last().map(String::as_str))
                .await
                .unwrap();
            if page.is_empty() {
                return keys;
            }
            keys.extend(page.into_iter().map(|entry| entry.key));
        }
    }
}

/// A client of the server, with connections of its own.
pub async fn connect(endpoint_url: String) -> Store {
    let config = StoreConfig {
        endpoint_url: Some(endpoint_url),
        ..unconnected()
    };
    Store::connect(config, Arc::new(Metrics::default()))
        .await
        .unwrap()
}

/// The contents of an object that must be there.
pub async fn read_all(store: &SealedObjectStore, path: &Path) -> Bytes {
    store.get(path).await.unwrap().bytes().await.unwrap()
}

/// An operation on an object that is not there says so.
pub fn assert_missing<T: Debug>(result: object_store::Result<T>) {
    assert!(
        matches!(result, Err(object_store::Error::NotFound { .. })),
        "{result:?}"
    );
}

pub const CACHE: u64 = 8 << 20;

pub fn table(number: usize) -> Path {
    Path::from(format!("compacted/{number:026}.sst"))
}
