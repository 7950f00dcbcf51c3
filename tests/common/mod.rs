//! A volume in a fresh bucket of an embedded server, opened and mounted inside this process.
#![allow(dead_code)]

pub mod files;
pub mod random;

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Once},
    time::Duration,
};

use strongroom::{
    budget::Governor,
    data::{Data, DataConfig, MEMORY_MIN_BYTES, MemoryPlan},
    disk::{self, DiskCache},
    fs::{Caller, Fs, FsConfig},
    fuse::{MountOptions, Mounted, mount},
    meta::{Meta, MetaConfig},
    seal::{
        keys::{VolumeId, VolumeKeys},
        object_store::SealedObjectStore,
    },
    server::{Server, ServerConfig, SyncPolicy},
    store::{Retry, S3Url, Store, StoreConfig},
    telemetry::Metrics,
};
use tempfile::TempDir;

const ACCESS_KEY: &str = "test-access-key";
const SECRET_KEY: &str = "test-secret-key";

pub const ROOT: Caller = Caller {
    uid: 0,
    gid: 0,
    pid: 0,
    umask: 0o022,
};
pub const SOMEBODY: Caller = Caller {
    uid: 1000,
    gid: 1000,
    pid: u32::MAX,
    umask: 0o022,
};

/// A server with one volume. Its directory goes with it.
pub struct World {
    pub server: Server,
    pub dir: TempDir,
    pub keys: Arc<VolumeKeys>,
}

/// The volume, opened: as one mount sees it, without the kernel.
pub struct Opened {
    pub fs: Fs,
    pub data: Data,
    pub meta: Meta,
    pub metrics: Arc<Metrics>,
    pub store: Store,
}

/// The volume, mounted.
pub struct AtMount {
    pub mounted: Mounted,
    pub opened: Opened,
    dir: TempDir,
}

impl World {
    pub async fn new() -> World {
        give_credentials();
        let dir = tempfile::tempdir().unwrap();
        let mut config = ServerConfig::new(dir.path().join("s3"), ACCESS_KEY, SECRET_KEY.into());
        config.sync = SyncPolicy::Never;
        let server = Server::start(config).await.unwrap();
        let world = World {
            server,
            dir,
            keys: VolumeKeys::generate(VolumeId::generate()),
        };
        let store = world.connect(world.server.endpoint_url()).await;
        store.create_bucket().await.unwrap();
        Meta::format(world.sealed(&store), 0, 0).await.unwrap();
        world
    }

    /// The server ends and comes back at the same address, with another secret key if one is given.
    pub async fn restart_server(&mut self, secret: Option<&str>) {
        let address = self.server.local_addr();
        let config = || {
            let mut config = ServerConfig::new(
                self.dir.path().join("s3"),
                ACCESS_KEY,
                secret.unwrap_or(SECRET_KEY).into(),
            );
            config.sync = SyncPolicy::Never;
            config
        };
        let between = Server::start(ServerConfig {
            root: self.dir.path().join("nothing"),
            ..config()
        })
        .await
        .unwrap();
        std::mem::replace(&mut self.server, between)
            .shutdown()
            .await;
        let again = Server::start(ServerConfig {
            listen: address,
            ..config()
        })
        .await
        .unwrap();
        std::mem::replace(&mut self.server, again).shutdown().await;
    }

    async fn connect(&self, endpoint_url: String) -> Store {
        let config = StoreConfig {
            url: "s3://bucket/volume".parse::<S3Url>().unwrap(),
            endpoint_url: Some(endpoint_url),
            region: Some("us-east-1".to_owned()),
            profile: None,
            ca_bundle: None,
            path_style: None,
            stall_timeout: Duration::from_secs(2),
            connections_max: 16,
            retry: Retry::Forever,
        };
        Store::connect(config, Arc::default()).await.unwrap()
    }

    fn sealed(&self, store: &Store) -> Arc<SealedObjectStore> {
        Arc::new(SealedObjectStore::new(
            store.clone(),
            Arc::clone(&self.keys),
            4 << 20,
        ))
    }

    pub async fn open(&self) -> Opened {
        self.open_with(FsConfig::default()).await
    }

    /// As a process of its own would: nothing is shared with others that have it open.
    pub async fn open_with(&self, config: FsConfig) -> Opened {
        self.open_planned(config, MemoryPlan::for_memory(MEMORY_MIN_BYTES))
            .await
    }

    /// With other sizes and times than those of a mount.
    pub async fn open_planned(&self, config: FsConfig, plan: MemoryPlan) -> Opened {
        self.open_at(self.server.endpoint_url(), config, plan).await
    }

    /// With the store behind another endpoint (a proxy), and other intervals.
    pub async fn open_through(
        &self,
        endpoint_url: String,
        config: FsConfig,
        tune: impl FnOnce(&mut DataConfig),
    ) -> Opened {
        let mut plan = MemoryPlan::for_memory(MEMORY_MIN_BYTES);
        tune(&mut plan.data);
        self.open_at(endpoint_url, config, plan).await
    }

    /// As [`World::open_planned`], by another way to the server.
    pub async fn open_at(&self, endpoint: String, config: FsConfig, plan: MemoryPlan) -> Opened {
        let store = self.connect(endpoint).await;
        let meta_config = MetaConfig {
            read_only: config.read_only,
            follow_every: Duration::from_secs(1),
            memory_bytes: plan.meta_bytes,
        };
        let meta = Meta::open(self.sealed(&store), meta_config).await.unwrap();
        let governor = Governor::new(plan.shares);
        let disk = plan.disk.map(|plan| {
            let root = self.dir.path().join("disk");
            disk::own_directory(&root).unwrap();
            DiskCache::open(&root, "volume", plan).unwrap()
        });
        let data = Data::start(
            plan.data,
            governor,
            store.clone(),
            Arc::clone(&self.keys),
            meta.clone(),
            disk,
        );
        let metrics = Arc::clone(store.metrics());
        let fs = Fs::new(meta.clone(), data.clone(), Arc::clone(&metrics), config);
        Opened {
            fs,
            data,
            meta,
            metrics,
            store,
        }
    }

    pub async fn mount(&self) -> AtMount {
        self.mount_with(FsConfig::default(), MountOptions::default())
            .await
    }

    pub async fn mount_with(&self, config: FsConfig, options: MountOptions) -> AtMount {
        at_mount(self.open_with(config).await, options).await
    }
}

/// Mounts what was opened.
pub async fn at_mount(opened: Opened, options: MountOptions) -> AtMount {
    let dir = tempfile::tempdir().unwrap();
    let mounted = mount(
        opened.fs.clone(),
        Arc::clone(&opened.metrics),
        options,
        dir.path(),
    )
    .await
    .unwrap();
    AtMount {
        mounted,
        opened,
        dir,
    }
}

impl Opened {
    /// Everything is durable and nothing runs on after this.
    pub async fn close(self) {
        self.fs.shutdown().await;
        self.data.finish().await.unwrap();
        self.data.shutdown().await;
        self.meta.close().await.unwrap();
    }
}

impl AtMount {
    /// The mount's root.
    pub fn root(&self) -> &Path {
        self.dir.path()
    }

    /// A path below the root.
    pub fn path(&self, below: &str) -> PathBuf {
        self.dir.path().join(below)
    }

    /// Unmounts, drains and closes.
    pub async fn unmount(self) {
        self.mounted.unmount(false).await.unwrap();
        self.mounted.wait_unmounted().await;
        self.opened.close().await;
    }
}

/// Waits until `condition` holds.
pub async fn eventually(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    for _ in 0..200 {
        if condition().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("within ten seconds: {what}");
}

fn give_credentials() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: before anything in this process looks at the environment: each test calls this
        // first.
        unsafe {
            std::env::set_var("AWS_ACCESS_KEY_ID", ACCESS_KEY);
            std::env::set_var("AWS_SECRET_ACCESS_KEY", SECRET_KEY);
        }
    });
}
