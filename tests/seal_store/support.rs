//! A server with a bucket, stores over it, and the ways to look at and to damage what is in it.

use std::{
    sync::{Arc, Once},
    time::Duration,
};

use bytes::Bytes;
use strongroom::{
    seal::{
        keys::{VolumeId, VolumeKeys},
        object_store::SealedObjectStore,
    },
    server::{Server, ServerConfig, SyncPolicy},
    store::{Condition, Retry, Store, StoreConfig},
    telemetry::Metrics,
};
use tempfile::TempDir;

const ACCESS_KEY: &str = "seal-test";
const SECRET_KEY: &str = "seal-test-secret";

/// Gives this process its credentials, and keeps the machine's own settings out.
fn set_environment() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        for (name, value) in [
            ("AWS_ACCESS_KEY_ID", ACCESS_KEY),
            ("AWS_SECRET_ACCESS_KEY", SECRET_KEY),
            ("AWS_CONFIG_FILE", "/dev/null"),
            ("AWS_SHARED_CREDENTIALS_FILE", "/dev/null"),
        ] {
            // SAFETY: before any other thread of this process reads the environment.
            unsafe { std::env::set_var(name, value) };
        }
    });
}

pub struct Bucket {
    pub server: Server,
    pub store: Store,
    pub keys: Arc<VolumeKeys>,
    _directory: TempDir,
}

impl Bucket {
    pub async fn start() -> Bucket {
        set_environment();
        let directory = TempDir::new().unwrap();
        let mut config = ServerConfig::new(directory.path(), ACCESS_KEY, SECRET_KEY.into());
        config.sync = SyncPolicy::Never;
        let server = Server::start(config).await.unwrap();
        let store = connect(server.endpoint_url()).await;
        let keys = VolumeKeys::generate(VolumeId::generate());
        Bucket {
            server,
            store,
            keys,
            _directory: directory,
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
        url: "s3://bucket/some/volume".parse().unwrap(),
        endpoint_url: Some(endpoint_url),
        region: None,
        profile: None,
        ca_bundle: None,
        path_style: None,
        stall_timeout: Duration::from_secs(10),
        connections_max: 16,
        retry: Retry::Attempts(3),
    };
    Store::connect(config, Arc::new(Metrics::default()))
        .await
        .unwrap()
}

/// Bytes that differ from each other everywhere.
pub fn pattern(len: usize) -> Vec<u8> {
    (0..len as u32)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect()
}
