//! A volume that is open inside this process, and mounted.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use strongroom::{
    data::Data,
    fs::{Caller, Fs},
    fuse::{MountOptions, Mounted, mount},
    meta::Meta,
    store::Store,
    telemetry::Metrics,
};
use tempfile::TempDir;

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

/// The volume, opened: as one mount sees it, without the kernel.
pub struct Opened {
    pub fs: Fs,
    pub data: Data,
    pub meta: Meta,
    pub metrics: Arc<Metrics>,
    pub store: Store,
}

/// The volume, mounted.
pub struct MountedVolume {
    pub mounted: Mounted,
    pub opened: Opened,
    dir: TempDir,
}

/// Mounts what was opened.
pub async fn mount_opened(opened: Opened, options: MountOptions) -> MountedVolume {
    let dir = tempfile::tempdir().unwrap();
    let mounted = mount(
        opened.fs.clone(),
        Arc::clone(&opened.metrics),
        options,
        dir.path(),
    )
    .await
    .unwrap();
    MountedVolume {
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

impl MountedVolume {
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
