//! Names that pass through files which nobody has committed: what a sync of one of those files
//! promises of the name, whatever happens meanwhile and whenever the mount dies.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use nix::{errno::Errno, fcntl::RenameFlags};
use strongroom::{
    data::{MEMORY_MIN_BYTES, MemoryPlan},
    fs::{FsConfig, FsError},
    meta::Ino,
    server::Faults,
};
use tokio::time::Instant;

use crate::{
    lied_volume::LiedVolume,
    support::{
        files::{File, contents, create, sync, write},
        lying::{Form, Kind, Lie, Op, Rule},
        opened::{Opened, ROOT},
        random::Random,
        volume::TestVolume,
    },
};

/// The contents that a name has had, and may have after a crash.
#[derive(Default)]
struct Name {
    /// The contents it stood for, oldest first. The last may be those of a rename that has not
    /// returned.
    versions: Vec<Vec<u8>>,
    /// Renames that have returned, and so the version that the name stands for now, or the one
    /// before that which is being made.
    now: usize,
    /// Somebody was told that nothing older than this version is left.
    floor: usize,
}

/// Counts of the operations that were tried.
#[derive(Default)]
struct Tried {
    /// Syncs that returned before the crash, of a file whose name had been given on.
    given_on: AtomicU64,
    directories: AtomicU64,
    /// Names that were found to be older than the last version at the crash.
    behind: AtomicU64,
}

struct Round {
    opened: Opened,
    names: Vec<Mutex<Name>>,
    tried: Arc<Tried>,
    number: u64,
}

/// In the metadata, in a pack, and in an object of its own.
const LENS: [u64; 5] = [300, 3000, 20_000, 200_000, 6 << 20];

/// Writes a new file and renames it over `name`.
async fn replace(
    opened: &Opened,
    temporary: &str,
    name: &str,
    bytes: &[u8],
) -> Result<File, FsError> {
    let (fs, root, flags) = (&opened.fs, Ino::ROOT, libc::O_RDWR);
    let (from, to) = (temporary.as_bytes(), name.as_bytes());
    let created = fs.create(ROOT, root, from, 0o644, flags).await?;
    let ino = created.attributes.ino;
    for (piece, at) in bytes.chunks(256 << 10).zip((0..).step_by(256 << 10)) {
        let buffer = opened.data.buffer(piece).await;
        fs.write(ino, at, buffer, false).await?;
    }
    fs.rename(root, from, root, to, RenameFlags::empty())
        .await?;
    Ok(File {
        ino,
        fh: created.fh,
    })
}

impl Round {
    fn name(&self, index: usize) -> String {
        format!("file-{}-{index}", self.number)
    }

    /// Each name stands for something that is durable.
    async fn begin(&self, random: &mut Random) {
        for (index, name) in self.names.iter().enumerate() {
            let file = create(&self.opened, &self.name(index)).await;
            let len = LENS[random.below(3) as usize];
            let old = random.noise(len);
            write(&self.opened, &file, 0, &old).await;
            sync(&self.opened, &file).await.unwrap();
            self.opened.fs.release(file.fh);
            name.lock().unwrap().versions.push(old);
        }
    }

    /// The name passes through two to five files, some of which are synced meanwhile or afterwards,
    /// by whoever gives the name on or by somebody beside.
    async fn give_on(self: Arc<Self>, index: usize, mut random: Random) -> Result<(), FsError> {
        let mut files = Vec::new();
        let mut beside = tokio::task::JoinSet::new();
        for pass in 0..2 + random.below(4) {
            let kind = (1 + random.below(31)).trailing_zeros() as usize;
            let bytes = random.noise(LENS[kind]);
            let temporary = format!("{}-{pass}~", self.name(index));
            let version = {
                let mut name = self.names[index].lock().unwrap();
                name.versions.push(bytes.clone());
                name.versions.len() - 1
            };
            let file = replace(&self.opened, &temporary, &self.name(index), &bytes).await?;
            self.names[index].lock().unwrap().now = version;
            files.push((version, Arc::new(file)));
            tokio::time::sleep(Duration::from_millis(random.below(3) * random.below(15))).await;
            for _ in 0..random.below(3) {
                let (version, file) = &files[random.below(files.len() as u64) as usize];
                let synced = self.clone().sync_one(index, *version, file.clone());
                match random.below(3) {
                    0 => synced.await,
                    1 => drop(beside.spawn(synced)),
                    _ => drop(beside.spawn(self.clone().sync_names())),
                }
            }
        }
        while beside.join_next().await.is_some() {}
        Ok(())
    }

    async fn sync_one(self: Arc<Self>, index: usize, version: usize, file: Arc<File>) {
        // The mount may be over by now.
        if sync(&self.opened, &file).await.is_ok() {
            let mut name = self.names[index].lock().unwrap();
            if version < name.now {
                self.tried.given_on.fetch_add(1, Ordering::Relaxed);
            }
            name.floor = name.floor.max(version);
        }
    }

    async fn sync_names(self: Arc<Self>) {
        let now = |name: &Mutex<Name>| name.lock().unwrap().now;
        let before: Vec<_> = self.names.iter().map(now).collect();
        if self.opened.fs.fsyncdir().await.is_ok() {
            self.tried.directories.fetch_add(1, Ordering::Relaxed);
            for (name, before) in self.names.iter().zip(before) {
                let mut name = name.lock().unwrap();
                name.floor = name.floor.max(before);
            }
        }
    }

    /// Somebody who has nothing to do with those names, and makes all that may be durable so.
    async fn sync_others(self: Arc<Self>, mut random: Random) -> Result<(), FsError> {
        let names = ["other", "another"].map(|name| format!("{name}-{}", self.number));
        loop {
            let len = 1 + random.below(50_000);
            let bytes = random.noise(len);
            let other = replace(&self.opened, &names[0], &names[1], &bytes).await?;
            let synced = sync(&self.opened, &other).await;
            self.opened.fs.release(other.fh);
            synced?;
            tokio::time::sleep(Duration::from_millis(random.below(20))).await;
        }
    }

    /// The contents found under each name after the crash are some that may be there.
    async fn check(&self, after: &Opened) {
        for (index, name) in self.names.iter().enumerate() {
            let found = contents(after, &self.name(index)).await;
            let name = name.lock().unwrap();
            let version = name.versions.iter().position(|bytes| *bytes == found);
            let Some(version) = version else {
                panic!("{}: {} bytes of nobody", self.name(index), found.len());
            };
            assert!(
                version >= name.floor,
                "{}: version {version} of {}, and {} was synced",
                self.name(index),
                name.versions.len(),
                name.floor
            );
            if version < name.now {
                self.tried.behind.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// Names pass through files that nobody has committed, several at a time, while some of those files
/// are synced, the directory is, and something else is; and the process dies at any moment.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_syncs_a_file_whose_name_was_given_on_finds_nothing_older_whenever_it_crashes() {
    const ROUNDS: u64 = 50;
    const NAMES: u64 = 4;
    let volume = TestVolume::new().await;
    let tried = Arc::new(Tried::default());
    let mut random = Random(29);
    for number in 0..ROUNDS {
        let wait = Duration::from_millis([20, 200, 5000][random.below(3) as usize]);
        let opened = volume
            .open_through(
                volume.server.endpoint_url(),
                FsConfig::default(),
                |config| {
                    config.write_back_after = wait;
                },
            )
            .await;
        let names = (0..NAMES).map(|_| Mutex::default()).collect();
        let round = Arc::new(Round {
            opened,
            names,
            tried: tried.clone(),
            number,
        });
        round.begin(&mut random).await;
        let mut tasks = tokio::task::JoinSet::new();
        for index in 0..NAMES {
            let random = Random(random.below(u64::MAX) + 1);
            tasks.spawn(round.clone().give_on(index as usize, random));
        }
        tasks.spawn(
            round
                .clone()
                .sync_others(Random(random.below(u64::MAX) + 1)),
        );
        let lives_until = Instant::now() + Duration::from_millis(random.below(500));
        while let Ok(Some(ended)) = tokio::time::timeout_at(lives_until, tasks.join_next()).await {
            ended.unwrap().unwrap();
        }

        // Another mount takes over: what the first had in memory only is gone.
        let after = volume.open().await;
        round.check(&after).await;
        after.close().await;
        tasks.shutdown().await;
        round.opened.data.shutdown().await;
    }
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let tried = [&tried.given_on, &tried.directories, &tried.behind].map(count);
    println!("{tried:?}");
    assert!(tried.iter().all(|count| *count > 10), "{tried:?}");
}

/// The store refuses what is sent for contents. That it keeps it all the same is of no use.
fn refusal() -> Rule {
    Rule::on([Op::Put, Op::UploadPart])
        .of([Kind::Data])
        .always(Lie::RefuseAfter(403, Form::Code("AccessDenied")))
}

fn plan() -> MemoryPlan {
    MemoryPlan::for_memory(MEMORY_MIN_BYTES)
}

/// A synced file whose name went to `first` and then to `second`, neither of them synced. `first`
/// lies in the metadata, so that the store refuses nothing of it.
async fn twice_replaced(opened: &Opened, name: &str) -> (File, File) {
    let old = create(opened, name).await;
    write(opened, &old, 0, &[1; 20_000]).await;
    sync(opened, &old).await.unwrap();
    let first = replace(opened, "first", name, &[2; 300]).await.unwrap();
    let second = replace(opened, "second", name, &[3; 20_000]).await;
    (first, second.unwrap())
}

/// The file that has the name now is refused by the store, so a sync of the one that had it before
/// cannot promise that nothing older is found. It says so, and what is older is found after a
/// crash. Once the store takes it, a sync succeeds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sync_reports_that_the_file_that_has_the_name_now_is_refused() {
    let lied = LiedVolume::new().await;
    for crashes in [true, false] {
        let name = format!("file-{crashes}");
        let opened = lied.open(plan()).await;
        let (first, second) = twice_replaced(&opened, &name).await;
        lied.store().lie(refusal());
        let told = sync(&opened, &first).await.unwrap_err();
        assert_eq!(told.errno, Errno::EIO);
        let (ino, why) = opened.data.trouble().unwrap();
        assert_eq!(ino, Some(second.ino), "{why}");
        // Again as long as it is so, and the directory too; whoever closes the first has heard of
        // it.
        assert!(sync(&opened, &first).await.is_err());
        assert!(opened.fs.fsyncdir().await.is_err());
        opened.fs.flush(first.fh).await.unwrap();
        assert!(opened.fs.flush(second.fh).await.is_err());
        if crashes {
            let after = lied.volume.open().await;
            assert!(contents(&after, &name).await == [1; 20_000]);
            after.close().await;
            drop(opened);
            lied.store().heal();
            continue;
        }
        lied.store().heal();
        sync(&opened, &first).await.unwrap();
        assert!(opened.data.trouble().is_none());
        opened.fs.flush(second.fh).await.unwrap();
        assert!(contents(&opened, &name).await == [3; 20_000]);
        let after = lied.volume.open().await;
        assert!(contents(&after, &name).await == [3; 20_000]);
        after.close().await;
        drop(opened);
    }
}

/// The refused file loses the name while somebody waits for it: what has the name then is what
/// counts, and it is stored.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sync_does_not_report_a_refused_file_that_has_lost_the_name_meanwhile() {
    let lied = LiedVolume::new().await;
    let far = Faults {
        latency: Duration::from_millis(600),
        ..Faults::default()
    };
    for moment_ms in [0, 20, 100, 200] {
        let name = format!("file-{moment_ms}");
        let opened = lied.open(plan()).await;
        let (first, second) = twice_replaced(&opened, &name).await;
        lied.store().lie(refusal());
        // The refusal takes a while, in which the name goes on.
        lied.volume.server.set_faults(far.clone());
        let give_on = async {
            tokio::time::sleep(Duration::from_millis(moment_ms)).await;
            replace(&opened, "third", &name, &[4; 300]).await.unwrap()
        };
        let (synced, third) = tokio::join!(sync(&opened, &first), give_on);
        lied.volume.server.set_faults(Faults::default());
        synced.unwrap();
        let after = lied.volume.open().await;
        assert!(contents(&after, &name).await == [4; 300]);
        after.close().await;
        drop((opened, second, third));
        lied.store().heal();
    }
}
