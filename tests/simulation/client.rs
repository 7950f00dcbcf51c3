//! A mount, as far as it goes without a kernel: the real layers over the simulated network.

use std::{path::Path, sync::Arc, time::Duration};

use strongroom::{
    budget::{Governor, Owner},
    data::{Data, MEMORY_MIN_BYTES, MemoryPlan, WriteBuffer},
    fs::{Caller, Fs},
    meta::{Ino, Meta, MetaConfig},
    seal::{keys::VolumeKeys, object_store::SealedObjectStore},
    session::lease::{self, Lease, LeaseRequest},
    store::{Rates, Retry, S3Url, Store, StoreConfig},
    telemetry::Metrics,
};

use crate::{
    connector::line,
    habits::{Habits, PART_BYTES},
    network::Network,
};

pub const ROOT: Caller = Caller {
    uid: 0,
    gid: 0,
    pid: 0,
    umask: 0o022,
};

const OBJECT_BYTES_MAX: u64 = 800 << 10;
/// A mount's patience with a store that refuses.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(120);
const STALL_TIMEOUT: Duration = Duration::from_secs(20);
/// The time between two looks of a follower.
pub const FOLLOW_EVERY: Duration = Duration::from_secs(4);
const READ_LEN: u32 = 256 << 10;

/// The volume, open.
pub struct Client {
    pub number: u32,
    /// Writers only.
    pub lease: Option<Lease>,
    pub fs: Fs,
    pub data: Data,
    pub meta: Meta,
    pub habits: Habits,
    pub metrics: Arc<Metrics>,
    network: Network,
}

pub async fn connect(network: &Network, client: u32) -> Store {
    let config = StoreConfig {
        url: "s3://bucket/volume".parse::<S3Url>().unwrap(),
        endpoint_url: Some("https://s3.simulated".to_owned()),
        region: Some("us-east-1".to_owned()),
        profile: None,
        ca_bundle: None,
        path_style: None,
        stall_timeout: STALL_TIMEOUT,
        connections_max: 16,
        rates: Rates::default(),
        retry: Retry::Outlasting(REFUSAL_TIMEOUT),
    };
    Store::connect_through(line(network, client), config, Arc::default())
        .await
        .unwrap()
}

pub fn sealed(
    store: &Store,
    keys: &Arc<VolumeKeys>,
    cache_bytes_max: u64,
) -> Arc<SealedObjectStore> {
    Arc::new(SealedObjectStore::new(
        store.clone(),
        Arc::clone(keys),
        cache_bytes_max,
    ))
}

/// Takes the lease as a mount with `--takeover`: whoever has the volume loses it.
async fn take_lease(
    store: &Store,
    keys: &Arc<VolumeKeys>,
    log: &SealedObjectStore,
) -> Result<Lease, String> {
    let fail = |error: strongroom::session::Failure| error.to_string();
    let found = lease::look(store, keys).await.map_err(fail)?;
    let request = LeaseRequest {
        store,
        keys,
        socket: Path::new("/nowhere"),
        takeover: true,
        log,
        tell: &|_| {},
    };
    lease::acquire(request, found).await.map_err(fail)
}

impl Client {
    pub async fn open(
        network: &Network,
        number: u32,
        keys: &Arc<VolumeKeys>,
        habits: Habits,
        read_only: bool,
    ) -> Result<Client, String> {
        let store = connect(network, number).await;
        let mut plan = MemoryPlan::for_memory(MEMORY_MIN_BYTES);
        plan.data.part_bytes = PART_BYTES;
        plan.data.object_bytes_max = OBJECT_BYTES_MAX;
        habits.limit(&mut plan);
        let meta_config = MetaConfig {
            read_only,
            follow_every: FOLLOW_EVERY,
            memory_bytes: plan.meta_bytes,
        };
        let sealed = sealed(&store, keys, habits.cache_bytes_max());
        let lease = match read_only {
            true => None,
            false => Some(take_lease(&store, keys, &sealed).await?),
        };
        let meta = Meta::open(sealed, meta_config).await;
        let meta = meta.map_err(|error| error.to_string())?;
        let data = Data::start(
            plan.data,
            Governor::new(plan.shares),
            store.clone(),
            Arc::clone(keys),
            meta.clone(),
            None,
        );
        match read_only {
            true => data.start_telling(),
            false => data.start_reclaim(),
        }
        let metrics: Arc<Metrics> = Arc::clone(store.metrics());
        let fs = Fs::new(
            meta.clone(),
            data.clone(),
            Arc::clone(&metrics),
            habits.fs_config(read_only),
        );
        Ok(Client {
            number,
            lease,
            fs,
            data,
            meta,
            habits,
            metrics,
            network: network.clone(),
        })
    }

    /// Drains and closes, as an unmount does.
    pub async fn close(&self) -> Result<(), String> {
        self.fs.shutdown().await;
        let drained = self.data.finish().await;
        self.data.shutdown().await;
        drained.map_err(|error| error.to_string())?;
        let closed = self.meta.close().await;
        closed.map_err(|error| error.to_string())?;
        self.all_given_back()?;
        match &self.lease {
            Some(lease) => lease.release().await.map_err(|error| error.to_string()),
            None => Ok(()),
        }
    }

    /// Nothing is under way any more, so nobody has a claim to memory but what is kept in case it
    /// is wanted again.
    fn all_given_back(&self) -> Result<(), String> {
        let usage = self.data.governor().usage().into_iter();
        let mut held = usage.filter(|usage| usage.owner != Owner::Cache && usage.current_bytes > 0);
        match held.next() {
            None => Ok(()),
            Some(usage) => Err(format!("reserved after an unmount: {usage:?}")),
        }
    }

    pub async fn write(&self, ino: Ino, offset: u64, bytes: &[u8]) -> Result<(), String> {
        let mut at = offset;
        for piece in bytes.chunks(128 << 10) {
            let buffer = match self.data.try_buffer(piece) {
                Some(buffer) => buffer,
                None => self.buffer_in_time(piece).await?,
            };
            let written = self.fs.write(ino, at, buffer, false).await;
            written.map_err(|error| error.to_string())?;
            at += piece.len() as u64;
        }
        Ok(())
    }

    /// Waits for a buffer as the kernel's requests wait: beside the room for dirty data, as long as
    /// there is a place.
    async fn buffer_in_time(&self, piece: &[u8]) -> Result<WriteBuffer, String> {
        self.network.count(|stats| stats.waits += 1);
        let admission = match self.data.admit(piece) {
            Some(admission) => admission,
            None => self.data.admit_in_line(piece).await,
        };
        let room = self.data.permit(admission).await;
        room.map_err(|error| error.to_string())
    }

    /// All of a file, through a handle of its own.
    pub async fn read(&self, ino: Ino) -> Result<Vec<u8>, String> {
        let fail = |error: strongroom::fs::FsError| error.to_string();
        let opened = self.fs.open(ROOT, ino, libc::O_RDONLY).await;
        let fh = opened.map_err(fail)?.fh;
        let bytes = self.read_through(fh).await;
        self.fs.release(fh);
        bytes
    }

    pub async fn read_through(&self, fh: u64) -> Result<Vec<u8>, String> {
        let mut bytes = Vec::new();
        loop {
            let read = self.fs.read(fh, bytes.len() as u64, READ_LEN).await;
            let read = read.map_err(|error| error.to_string())?;
            if read.bytes.is_empty() {
                return Ok(bytes);
            }
            bytes.extend_from_slice(&read.bytes);
        }
    }
}
