//! A volume behind a store that lies when it is told to.

use std::time::Duration;

use strongroom::{budget::Owner, data::MemoryPlan, fs::FsConfig, meta::Ino};

use crate::support::{
    files::{create, sync, write},
    lying::LyingStore,
    opened::Opened,
    volume::TestVolume,
    wait::eventually,
};

/// See the module's head.
pub struct LiedVolume {
    pub volume: TestVolume,
    /// Taken out only when this is dropped.
    store: Option<LyingStore>,
}

impl LiedVolume {
    pub async fn new() -> LiedVolume {
        let volume = TestVolume::new().await;
        let upstream = volume.server.local_addr();
        // It has a runtime of its own, which is not made inside another.
        let store = std::thread::spawn(move || LyingStore::before(upstream));
        LiedVolume {
            volume,
            store: Some(store.join().unwrap()),
        }
    }

    pub fn store(&self) -> &LyingStore {
        self.store.as_ref().unwrap()
    }

    /// Opens the volume as a mount through the store that lies.
    pub async fn open(&self, plan: MemoryPlan) -> Opened {
        let endpoint = self.store().endpoint();
        self.volume
            .open_at(endpoint, FsConfig::default(), plan)
            .await
    }

    /// Makes a file of these bytes, past the store that lies. The local disk has nothing of it.
    pub async fn durable_file(&self, bytes: &[u8]) -> Ino {
        let opened = self.volume.open().await;
        let file = create(&opened, "file").await;
        write(&opened, &file, 0, bytes).await;
        sync(&opened, &file).await.unwrap();
        opened.fs.release(file.fh);
        opened.close().await;
        file.ino
    }
}

impl Drop for LiedVolume {
    fn drop(&mut self) {
        let store = self.store.take();
        drop(std::thread::spawn(move || drop(store)).join());
    }
}

/// Nothing is dirty, on its way or being read any more, and nothing has a claim to memory for it.
pub async fn all_given_back(opened: &Opened, of: &str) {
    let governor = opened.data.governor();
    let owners = [Owner::Dirty, Owner::Upload, Owner::Read, Owner::Parked];
    eventually(&format!("memory is given back: {of}"), async || {
        owners.iter().all(|owner| governor.used_bytes(*owner) == 0)
    })
    .await;
}

/// Returns when all is durable. What was under way when the store became honest may be refused
/// still.
pub async fn drained(opened: &Opened) {
    while opened.data.drain().await.is_err() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// No file has a refused upload. Trouble that single requests met is shown for a while too, and
/// does not count here.
pub fn no_file_is_refused(opened: &Opened) -> bool {
    opened.data.trouble().is_none_or(|(ino, _)| ino.is_none())
}

/// Waits for what must come within minutes, also where the machine has other work.
pub async fn in_time<T>(what: &str, work: impl Future<Output = T>) -> T {
    let ended = tokio::time::timeout(Duration::from_secs(180), work).await;
    ended.unwrap_or_else(|_| panic!("within three minutes: {what}"))
}
