//! Somebody who uses a mount: makes files, writes, syncs, renames, removes, and looks all the time
//! whether the mount shows what was done.

use std::{sync::Arc, time::Duration};

use nix::fcntl::RenameFlags;
use parking_lot::Mutex;
use strongroom::{
    fs::{FsError, SetAttributes},
    meta::Ino,
};
use tokio::task::JoinSet;

use crate::{
    client::{Client, ROOT},
    model::{Entry, Model, Number, Place},
    network::Network,
    rng::{Rng, mix},
};

const NAMES: [&str; 7] = ["a", "b", "c", "d", "e", "f", "g"];
const DIRS: [&str; 2] = ["x", "y"];
const SIZE_MAX: u64 = 1 << 20;
const HANDLES_MAX: usize = 6;
/// Of a thousand steps, where the life has that habit.
const OVERWRITES: u32 = 150;
const PUNCH_HOLE: i32 = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
/// What takes longer hangs.
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

    async fn write(&mut self) -> Step {
        let Some((_, number)) = self.some_file() else {
            return Ok(());
        };
        self.write_to(number).await?;
        if self.client.habits.closes && self.rng.permille(400) {
            let fh = self.opened(number).await?;
            self.close(fh, number).await?;
        }
        Ok(())
    }

    fn some_len(&mut self) -> u64 {
        // Where there is little memory, one write in two wants most of it.
        if self.client.habits.scarce && self.rng.permille(500) {
            return 1 + self.rng.below(500_000);
        }
        match self.rng.below(20) {
            0..9 => 1 + self.rng.below(5000),
            9..17 => 1 + self.rng.below(70_000),
            _ => 1 + self.rng.below(500_000),
        }
    }

    async fn write_to(&mut self, number: Number) -> Step {
        let size = self.model.lock().bytes(number).len() as u64;
        let len = self.some_len();
        let offset = match self.rng.below(3) {
            0 => size,
            1 => self.rng.below(size + 1),
            _ => self.rng.below(size + 100_000),
        };
        self.write_at(number, offset.min(SIZE_MAX), len).await
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

    /// `> file` and new contents.
    async fn write_anew(&mut self) -> Step {
        let Some((_, number)) = self.some_file() else {
            return Ok(());
        };
        // Whoever syncs an empty file finds it empty.
        self.all_syncs().await?;
        let len = self.some_len();
        self.stamp += 1;
        let bytes = pattern(self.stamp, 0, len);
        self.did(format!("empty {number} and write {len}"));
        self.model
            .lock()
            .change_bytes(number, true, |there| *there = bytes.clone());
        let flags = libc::O_WRONLY | libc::O_TRUNC;
        let opened = self.client.fs.open(ROOT, Ino(number), flags).await;
        let opened = opened.map_err(|error| self.failed("open", error))?;
        let written = self.client.write(Ino(number), 0, &bytes).await;
        let closed = self.close(opened.fh, number).await;
        written.and(closed)
    }

    /// Writes a new file and renames it over another, as editors do.
    async fn replace(&mut self) -> Step {
        let Some((target, old)) = self.some_file() else {
            return Ok(());
        };
        let temporary = (target.0, format!("{}~", target.1));
        if self.model.lock().entry(&temporary).is_some() {
            return Ok(());
        }
        self.did(format!("replace {} ({old})", shown(&target)));
        self.create_at(&temporary).await?;
        let number = self.model.lock().names()[&temporary].number.unwrap();
        let len = self.some_len();
        self.write_at(number, 0, len).await?;
        if self.rng.permille(300) {
            self.sync_of(number).await?;
        }
        self.rename_to(&temporary, &target).await
    }

    async fn truncate(&mut self) -> Step {
        let Some((_, number)) = self.some_file() else {
            return Ok(());
        };
        let size = self.model.lock().bytes(number).len() as u64;
        let size = match self.rng.below(4) {
            0 => 0,
            1 => size + self.rng.below(50_000),
            _ => self.rng.below(size + 1),
        };
        self.did(format!("truncate {number} to {size}"));
        self.model
            .lock()
            .change_bytes(number, false, |there| there.resize(size as usize, 0));
        let set = SetAttributes {
            size: Some(size),
            ..SetAttributes::default()
        };
        let set = self.client.fs.setattr(ROOT, Ino(number), set).await;
        set.map(drop)
            .map_err(|error| self.failed("truncate", error))
    }

    async fn punch(&mut self) -> Step {
        let Some((_, number)) = self.some_file() else {
            return Ok(());
        };
        let size = self.model.lock().bytes(number).len() as u64;
        if size < 2 {
            return Ok(());
        }
        let from = self.rng.below(size - 1);
        let len = 1 + self.rng.below(size);
        self.did(format!("punch {number}: {len} at {from}"));
        self.model.lock().change_bytes(number, false, |there| {
            let end = ((from + len) as usize).min(there.len());
            there[from as usize..end].fill(0);
        });
        let fs = &self.client.fs;
        let punched = fs.fallocate(ROOT, Ino(number), from, len, PUNCH_HOLE).await;
        punched.map_err(|error| self.failed("punch", error))
    }

    async fn sync(&mut self) -> Step {
        let Some((_, number)) = self.some_file() else {
            return Ok(());
        };
        match self.rng.permille(500) {
            true => self.sync_of(number).await,
            false => self.sync_beside(number).await,
        }
    }

    async fn sync_beside(&mut self, number: Number) -> Step {
        let fh = self.opened(number).await?;
        let (client, model) = (self.client.clone(), self.model.clone());
        let network = self.network.clone();
        self.syncs.spawn(async move {
            sync(&client, &model, &network, Some((number, fh)), Sync::Fsync).await
        });
        Ok(())
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

    async fn rename(&mut self) -> Step {
        let dirs = self.dirs();
        if self.rng.permille(150)
            && let Some(from) = self.rng.pick(&dirs).cloned()
        {
            let to = (self.root, (*self.rng.pick(&DIRS).unwrap()).to_owned());
            if self.model.lock().entry(&to).is_none() {
                return self.rename_to(&from, &to).await;
            }
            return Ok(());
        }
        let Some((from, number)) = self.some_file() else {
            return Ok(());
        };
        let to = self.some_place();
        let there = self.model.lock().entry(&to);
        let fits = there.is_none_or(|there| !there.is_dir && there.number != Some(number));
        match fits && from != to {
            true => self.rename_to(&from, &to).await,
            false => Ok(()),
        }
    }

    async fn rename_to(&mut self, from: &Place, to: &Place) -> Step {
        self.did(format!("rename {} to {}", shown(from), shown(to)));
        let replaced = self.model.lock().entry(to);
        self.model.lock().rename(from, to);
        self.rename_with(from, to, RenameFlags::empty()).await?;
        if let Some(number) = replaced.and_then(|replaced| replaced.number) {
            self.client.fs.forget(Ino(number));
        }
        Ok(())
    }

    async fn rename_with(&mut self, from: &Place, to: &Place, flags: RenameFlags) -> Step {
        let fs = &self.client.fs;
        let (from_name, to_name) = (from.1.as_bytes(), to.1.as_bytes());
        let renamed = fs.rename(Ino(from.0), from_name, Ino(to.0), to_name, flags);
        renamed.await.map_err(|error| self.failed("rename", error))
    }

    async fn exchange(&mut self) -> Step {
        let (Some((one, first)), Some((other, second))) = (self.some_file(), self.some_file())
        else {
            return Ok(());
        };
        if first == second {
            return Ok(());
        }
        self.did(format!("exchange {} and {}", shown(&one), shown(&other)));
        self.model.lock().exchange(&one, &other);
        self.rename_with(&one, &other, RenameFlags::RENAME_EXCHANGE)
            .await
    }

    async fn link(&mut self) -> Step {
        let Some((_, number)) = self.some_file() else {
            return Ok(());
        };
        let place = self.some_place();
        if self.model.lock().entry(&place).is_some() {
            return Ok(());
        }
        self.did(format!("link {number} to {}", shown(&place)));
        let entry = Entry {
            number: Some(number),
            is_dir: false,
        };
        self.model.lock().change_names(|state| {
            state.names.insert(place.clone(), entry);
        });
        let fs = &self.client.fs;
        let linked = fs.link(Ino(number), Ino(place.0), place.1.as_bytes()).await;
        linked.map(drop).map_err(|error| self.failed("link", error))
    }

    async fn unlink(&mut self) -> Step {
        let Some((place, number)) = self.some_file() else {
            return Ok(());
        };
        if self.handles.len() < HANDLES_MAX && self.rng.permille(300) {
            self.open(number).await?;
        }
        self.did(format!("unlink {} ({number})", shown(&place)));
        self.unlink_at(&place).await
    }

    pub(crate) async fn unlink_at(&mut self, place: &Place) -> Step {
        let number = self.model.lock().names()[place].number.unwrap();
        self.model.lock().unlink(place);
        let (dir, name) = (Ino(place.0), place.1.as_bytes());
        let unlinked = self.client.fs.unlink(dir, name).await;
        unlinked.map_err(|error| self.failed("unlink", error))?;
        // As the kernel does, sooner or later.
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

    async fn directory(&mut self) -> Step {
        let place = (self.root, (*self.rng.pick(&DIRS).unwrap()).to_owned());
        let there = self.model.lock().entry(&place);
        let (dir, name) = (Ino(place.0), place.1.as_bytes());
        let Some(there) = there else {
            self.did(format!("mkdir {}", shown(&place)));
            let entry = Entry {
                number: None,
                is_dir: true,
            };
            self.model.lock().change_names(|state| {
                state.names.insert(place.clone(), entry);
            });
            let made = self.client.fs.mkdir(ROOT, dir, name, 0o755).await;
            let made = made.map_err(|error| self.failed("mkdir", error))?;
            self.model.lock().made(&place, made.ino.0);
            return Ok(());
        };
        let is_empty = {
            let model = self.model.lock();
            !model
                .names()
                .keys()
                .any(|(dir, _)| Some(*dir) == there.number)
        };
        self.did(format!("rmdir {}", shown(&place)));
        if is_empty {
            self.model.lock().unlink(&place);
        }
        let removed = self.client.fs.rmdir(dir, name).await;
        match removed {
            Err(error) if error.errno == nix::errno::Errno::ENOTEMPTY && !is_empty => Ok(()),
            Ok(()) if !is_empty => panic!("{place:?} was removed and is not empty"),
            Ok(()) => {
                self.client.fs.forget(Ino(there.number.unwrap()));
                Ok(())
            }
            other => other.map_err(|error| self.failed("rmdir", error)),
        }
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

    async fn look_at_one(&mut self) -> Step {
        let Some((place, number)) = self.some_file() else {
            return Ok(());
        };
        self.did(format!("read {} ({number})", shown(&place)));
        let found = self
            .client
            .fs
            .lookup(Ino(place.0), place.1.as_bytes())
            .await;
        let found = found.map_err(|error| self.failed("lookup", error))?;
        let size = self.model.lock().bytes(number).len() as u64;
        match found {
            Some(found) if (found.ino.0, found.size) == (number, size) => {}
            other => panic!("{place:?} is {other:?}, not {number} of {size} bytes"),
        }
        let read = self.client.read(Ino(number)).await;
        self.compare(number, read)
    }

    /// In bad weather a read may fail, but never be wrong.
    fn compare(&mut self, number: Number, read: Result<Vec<u8>, String>) -> Step {
        self.network.count(|stats| stats.reads += 1);
        let there = self.model.lock().bytes(number);
        match read {
            Ok(read) if read == *there => Ok(()),
            Ok(read) => {
                let first = read.iter().zip(there.iter()).position(|(a, b)| a != b);
                panic!(
                    "file {number}: read {} bytes of {}, first other at {first:?}",
                    read.len(),
                    there.len()
                );
            }
            Err(why) if self.network.is_calm() => Err(format!("read of {number}: {why}")),
            Err(why) => {
                self.network.note(format!("read of {number}: {why}"));
                Ok(())
            }
        }
    }

    async fn list(&mut self) -> Step {
        self.did("list".to_owned());
        let mut expected: Vec<(String, Option<Number>)> = {
            let model = self.model.lock();
            let names = model.names().iter();
            let root = names.filter(|((dir, _), _)| *dir == self.root);
            root.map(|((_, name), entry)| (name.clone(), entry.number))
                .collect()
        };
        expected.sort();
        let fs = &self.client.fs;
        let fh = fs.opendir(Ino(self.root)).await;
        let fh = fh.map_err(|error| self.failed("opendir", error))?;
        let (mut listed, mut cookie) = (Vec::new(), 0);
        loop {
            let page = fs.read_dir(fh, cookie, false).await;
            let page = page.map_err(|error| self.failed("read_dir", error))?;
            let Some(last) = page.last() else { break };
            cookie = last.cookie;
            listed.extend(page.into_iter().filter_map(|entry| {
                let name = String::from_utf8(entry.name.to_vec()).unwrap();
                (name != "." && name != "..").then_some((name, Some(entry.ino.0)))
            }));
        }
        fs.releasedir(fh);
        listed.sort();
        assert_eq!(listed, expected, "the listing is another");
        Ok(())
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

/// What waits until a file is durable.
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
