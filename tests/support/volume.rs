//! A volume in a fresh bucket of an embedded server, opened and mounted inside this process.

use std::{sync::Arc, time::Duration};

use strongroom::{
    budget::Governor,
    data::{Data, DataConfig, MEMORY_MIN_BYTES, MemoryPlan},
    disk::{self, DiskCache},
    fs::{Fs, FsConfig},
    fuse::MountOptions,
    meta::{Meta, MetaConfig},
    seal::{
        keys::{VolumeId, VolumeKeys},
        object_store::SealedObjectStore,
    },
    store::{Retry, Store, StoreConfig},
};

use super::{
    opened::{MountedVolume, Opened, mount_opened},
    server::{TestServer, unconnected},
};

/// A server with one volume. Its directory goes with it.
pub struct TestVolume {
    pub server: TestServer,
    pub keys: Arc<VolumeKeys>,
}

impl TestVolume {
    pub async fn new() -> TestVolume {
        TestVolume::with_keys(VolumeKeys::generate(VolumeId::generate())).await
    }

    /// A volume that is sealed with these keys.
    pub async fn with_keys(keys: Arc<VolumeKeys>) -> TestVolume {
        let volume = TestVolume {
            server: TestServer::start().await,
            keys,
        };
        let store = volume.connect(volume.server.endpoint_url()).await;
        store.create_bucket().await.unwrap();
        Meta::format(volume.sealed(&store), 0, 0).await.unwrap();
        volume
    }

    async fn connect(&self, endpoint_url: String) -> Store {
        let config = StoreConfig {
            endpoint_url: Some(endpoint_url),
            stall_timeout: Duration::from_secs(2),
            retry: Retry::Forever,
            ..unconnected()
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

    /// Opens the volume as a process of its own would: nothing is shared with others that have it
    /// open.
    pub async fn open_with(&self, config: FsConfig) -> Opened {
        self.open_planned(config, MemoryPlan::for_memory(MEMORY_MIN_BYTES))
            .await
    }

    /// Opens the volume with other sizes and times than those of a mount.
    pub async fn open_planned(&self, config: FsConfig, plan: MemoryPlan) -> Opened {
        self.open_at(self.server.endpoint_url(), config, plan).await
    }

    /// Opens the volume through another endpoint (a proxy), and with other intervals.
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

    /// As [`TestVolume::open_planned`], by another way to the server.
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
            let root = self.server.directory.path().join("disk");
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

    pub async fn mount(&self) -> MountedVolume {
        self.mount_with(FsConfig::default(), MountOptions::default())
            .await
    }

    /// Checks a mount, unmounts it, and checks the next mount of the volume.
    pub async fn holds_over_a_remount(&self, at: MountedVolume, check: impl Fn(&MountedVolume)) {
        check(&at);
        at.unmount().await;
        let at = self.mount().await;
        check(&at);
        at.unmount().await;
    }

    pub async fn mount_with(&self, config: FsConfig, options: MountOptions) -> MountedVolume {
        mount_opened(self.open_with(config).await, options).await
    }
}
