//! Somebody who uses a mount: makes files, writes, syncs, renames, removes, and looks all the time
//! whether the mount shows what was done.

mod contents;
mod names;

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use strongroom::{fs::FsError, meta::Ino};
use tokio::task::JoinSet;

use crate::{
    client::{Client, ROOT},
    found::{Number, Place},
    model::{Entry, Model},
    network::Network,
    rng::{Rng, mix},
};

const NAMES: [&str; 7] = ["a", "b", "c", "d", "e", "f", "g"];
const DIRS: [&str; 2] = ["x", "y"];
const SIZE_MAX: u64 = 1 << 20;
const HANDLES_MAX: usize = 6;
/// Steps of a thousand that overwrite, where the life has that habit.
const OVERWRITES: u32 = 150;
const PUNCH_HOLE: i32 = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
/// An operation that takes longer hangs.
pub const PATIENCE: Duration = Duration::from_secs(2 * 3600);

pub type SharedModel = Arc<Mutex<Model>>;

pub struct Worker {
    pub client: Arc<Client>,
    pub model: SharedModel,
    pub(crate) network: Network,
    pub(crate) rng: Rng,
    /// Open files: the handle and the inode, which may have lost its name.
    handles: Vec<(u64, Number)>,
    syncs: JoinSet<Result<(), String>>,
    pub(crate) stamp: u64,
    /// The directory that it works in. Nobody else does.
    pub(crate) root: Number,
}

pub type Step = Result<(), String>;

/// Bytes that tell where they belong and who wrote them; none is zero, as a hole is.
pub fn pattern(stamp: u64, offset: u64, len: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(len as usize + 8);
    let mut word = 0;
    while (bytes.len() as u64) < len {
        let mixed = mix(stamp.wrapping_mul(0x9e37_79b9) ^ (offset + word)) | 0x0101_0101_0101_0101;
        bytes.extend_from_slice(&mixed.to_le_bytes());
        word += 8;
    }
    bytes.truncate(len as usize);
    bytes
}

fn shown(place: &Place) -> String {
    format!("{}/{}", place.0, place.1)
}

impl Worker {
    pub fn new(client: Arc<Client>, model: SharedModel, network: Network, rng: Rng) -> Worker {
        let root = model.lock().root;
        Worker {
            root,
            client,
            model,
            network,
            rng,
            handles: Vec::new(),
            syncs: JoinSet::new(),
            stamp: 0,
        }
    }

    /// No sync of its goes on, and nothing is open.
    pub async fn stop(&mut self) {
        self.syncs.shutdown().await;
        for (fh, _) in self.handles.drain(..) {
            self.client.fs.release(fh);
        }
    }

    fn files(&self) -> Vec<(Place, Number)> {
        let model = self.model.lock();
        let names = model.names().iter();
        let files = names.filter(|(_, entry)| !entry.is_dir);
        files
            .filter_map(|(place, entry)| Some((place.clone(), entry.number?)))
            .collect()
    }

    fn some_file(&mut self) -> Option<(Place, Number)> {
        let files = self.files();
        self.rng.pick(&files).cloned()
    }

    fn dirs(&self) -> Vec<Place> {
        let model = self.model.lock();
        let names = model.names().iter();
        let dirs = names.filter(|(_, entry)| entry.is_dir);
        dirs.map(|(place, _)| place.clone()).collect()
    }

    fn some_place(&mut self) -> Place {
        let dirs: Vec<Number> = {
            let model = self.model.lock();
            let dirs = model.names().values().filter(|entry| entry.is_dir);
            dirs.filter_map(|entry| entry.number).collect()
        };
        let dir = match self.rng.permille(300) {
            true => self.rng.pick(&dirs).copied().unwrap_or(self.root),
            false => self.root,
        };
        (dir, (*self.rng.pick(&NAMES).unwrap()).to_owned())
    }

    pub(crate) fn did(&self, line: String) {
        self.network.count(|stats| stats.operations += 1);
        self.network.note(line);
    }

    pub(crate) fn failed(&self, what: &str, error: FsError) -> String {
        let why = format!("{what}: {error}");
        self.network.note(why.clone());
        why
    }

    /// One thing that somebody does. An error: nobody knows whether it was done.
    pub async fn step(&mut self) -> Step {
        while let Some(synced) = self.syncs.try_join_next() {
            synced.map_err(|error| error.to_string())??;
        }
        if self.client.habits.attributes && self.rng.permille(250) {
            self.attribute().await?;
        }
        if self.client.habits.overwrites && self.rng.permille(OVERWRITES) {
            self.overwrite().await?;
        }
        match self.rng.below(100) {
            0..12 => self.create().await?,
            12..34 => self.write().await?,
            34..38 => self.write_anew().await?,
            38..44 => self.replace().await?,
            44..48 => self.truncate().await?,
            48..51 => self.punch().await?,
            51..63 => self.sync().await?,
            63..66 => self.sync_names().await?,
            66..72 => self.rename().await?,
            72..74 => self.exchange().await?,
            74..77 => self.link().await?,
            77..83 => self.unlink().await?,
            83..86 => self.directory().await?,
            86..89 => self.handle().await?,
            89..95 => self.look_at_one().await?,
            95..97 => self.list().await?,
            _ => self.wait_long().await,
        }
        let pause = 1 << self.rng.below(12);
        tokio::time::sleep(Duration::from_millis(pause)).await;
        Ok(())
    }

    async fn wait_long(&mut self) {
        let seconds = self.rng.within(5..150);
        self.did(format!("wait {seconds} s"));
        tokio::time::sleep(Duration::from_secs(seconds)).await;
    }

    async fn create(&mut self) -> Step {
        let place = self.some_place();
        match self.model.lock().entry(&place) {
            Some(_) => return Ok(()),
            None => self.did(format!("create {}", shown(&place))),
        }
        self.create_at(&place).await?;
        if self.rng.permille(700) {
            let number = self.model.lock().names()[&place].number.unwrap();
            self.write_to(number).await?;
        }
        Ok(())
    }

    pub(crate) async fn create_at(&mut self, place: &Place) -> Step {
        let entry = Entry {
            number: None,
            is_dir: false,
        };
        self.model.lock().change_names(|state| {
            state.names.insert(place.clone(), entry);
        });
        let (dir, name) = (Ino(place.0), place.1.as_bytes());
        let flags = libc::O_RDWR | libc::O_EXCL;
        let created = self.client.fs.create(ROOT, dir, name, 0o644, flags).await;
        let created = created.map_err(|error| self.failed("create", error))?;
        let number = created.attributes.ino.0;
        self.model.lock().made(place, number);
        match self.handles.len() < HANDLES_MAX && self.rng.permille(200) {
            true => self.handles.push((created.fh, number)),
            false => self.close(created.fh, number).await?,
        }
        Ok(())
    }

    /// A program closes what it has open for writing.
    async fn close(&self, fh: u64, number: Number) -> Step {
        if !self.client.habits.closes {
            self.client.fs.release(fh);
            return Ok(());
        }
        self.network.count(|stats| stats.closes += 1);
        let file = Some((number, fh));
        sync(&self.client, &self.model, &self.network, file, Sync::Close).await
    }

    pub(crate) async fn write_at(&mut self, number: Number, offset: u64, len: u64) -> Step {
        self.stamp += 1;
        let bytes = pattern(self.stamp, offset, len);
        self.did(format!("write {number}: {len} at {offset}"));
        self.model.lock().change_bytes(number, false, |there| {
            let end = (offset + len) as usize;
            there.resize(there.len().max(end), 0);
            there[offset as usize..end].copy_from_slice(&bytes);
        });
        self.client.write(Ino(number), offset, &bytes).await
    }

    pub(crate) async fn sync_of(&mut self, number: Number) -> Step {
        let fh = self.opened(number).await?;
        let file = Some((number, fh));
        sync(&self.client, &self.model, &self.network, file, Sync::Fsync).await
    }

    async fn sync_names(&mut self) -> Step {
        sync(&self.client, &self.model, &self.network, None, Sync::Fsync).await
    }

    async fn all_syncs(&mut self) -> Step {
        while let Some(synced) = self.syncs.join_next().await {
            synced.map_err(|error| error.to_string())??;
        }
        Ok(())
    }

    pub(crate) async fn unlink_at(&mut self, place: &Place) -> Step {
        let number = self.model.lock().names()[place].number.unwrap();
        self.model.lock().unlink(place);
        let (dir, name) = (Ino(place.0), place.1.as_bytes());
        let unlinked = self.client.fs.unlink(dir, name).await;
        unlinked.map_err(|error| self.failed("unlink", error))?;
        // The kernel forgets inodes sooner or later.
        self.client.fs.forget(Ino(number));
        Ok(())
    }

    async fn opened(&self, number: Number) -> Result<u64, String> {
        let opened = self.client.fs.open(ROOT, Ino(number), libc::O_RDWR).await;
        let opened = opened.map_err(|error| self.failed("open", error))?;
        Ok(opened.fh)
    }

    async fn open(&mut self, number: Number) -> Step {
        let fh = self.opened(number).await?;
        self.handles.push((fh, number));
        Ok(())
    }

    /// Opens, reads through, or closes one of the open files.
    async fn handle(&mut self) -> Step {
        if self.handles.len() < HANDLES_MAX && self.rng.permille(400) {
            if let Some((_, number)) = self.some_file() {
                self.open(number).await?;
            }
            return Ok(());
        }
        if self.handles.is_empty() {
            return Ok(());
        }
        let index = self.rng.below(self.handles.len() as u64) as usize;
        let (fh, number) = self.handles[index];
        if self.rng.permille(500) {
            self.handles.swap_remove(index);
            self.did(format!("release {number}"));
            return self.close(fh, number).await;
        }
        self.did(format!("read {number} through a handle"));
        let read = self.client.read_through(fh).await;
        self.compare(number, read)
    }
}

/// Closed when it goes, also where a sync that nobody waits for is dropped at the end of a mount:
/// what it has open would never be deleted.
struct Handle<'a> {
    client: &'a Client,
    fh: u64,
}

impl Drop for Handle<'_> {
    fn drop(&mut self) {
        self.client.fs.release(self.fh);
    }
}

/// The call that waits until a file is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sync {
    Fsync,
    /// Under `--durability close`.
    Close,
}

/// Syncs a file through a handle that it closes, or all names, and notes that in the model.
async fn sync(
    client: &Client,
    model: &SharedModel,
    network: &Network,
    file: Option<(Number, u64)>,
    how: Sync,
) -> Step {
    let number = file.map(|(number, _)| number);
    let point = model.lock().sync_begins(number);
    network.note(format!("sync {number:?} begins"));
    network.count(|stats| stats.operations += 1);
    let synced = async {
        let Some((_, fh)) = file else {
            return client.fs.fsyncdir().await;
        };
        let handle = Handle { client, fh };
        match how {
            Sync::Fsync => client.fs.fsync_through(handle.fh).await,
            Sync::Close => client.fs.flush(handle.fh).await,
        }
    };
    match tokio::time::timeout(PATIENCE, synced).await {
        Ok(Ok(())) => {
            model.lock().synced(point);
            network.count(|stats| stats.syncs += 1);
            network.note(format!("sync {number:?} done"));
            Ok(())
        }
        Ok(Err(error)) if !network.is_calm() && client.data.trouble().is_some() => {
            network.note(format!("sync {number:?}: {error}"));
            Ok(())
        }
        Ok(Err(error)) => Err(format!("sync of {number:?}: {error}")),
        Err(_) => panic!("sync of {number:?} hangs"),
    }
}
