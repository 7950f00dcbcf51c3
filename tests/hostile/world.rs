//! A volume behind a lying store, and what tests do to files on it without ever waiting for ever.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    net::SocketAddr,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::Command,
    sync::mpsc,
    time::{Duration, Instant},
};

use tempfile::TempDir;

use crate::support::{
    bucket::Bucket,
    lying::LyingStore,
    mount::Mount,
    server::{ServerThread, server_config},
    site::{Site, Transport},
    wait::holds,
};

pub const EIO: i32 = 5;

/// A server with a volume, and the liar that its clients speak to.
pub struct World {
    pub store: LyingStore,
    pub site: Site,
}

impl World {
    /// With an empty volume.
    pub fn start() -> World {
        let world = World::without_volume();
        world.site.make_volume();
        world
    }

    pub fn without_volume() -> World {
        let mut site = Site::without_volume(Transport::Plain);
        site.memory = "128MiB";
        let store = LyingStore::before(site.server().local_addr());
        site.endpoint = store.endpoint();
        World { store, site }
    }

    /// The server's files as they are now, served by a server of their own.
    pub fn past(&self) -> Past {
        let dir = TempDir::with_prefix("strongroom-past-").expect("directory");
        copy(&self.site.path().join("server"), dir.path());
        Past::serve(dir)
    }

    /// A mount in the foreground with this state directory (so, with the memory of this machine),
    /// not waited for.
    pub fn begin_mount(&self, state: &Path, options: &[&str]) -> Mount<'_> {
        let state = state.to_str().expect("path");
        let options = [&["--state-dir", state], options].concat();
        self.site.begin_mount(&options)
    }
}

/// A copy of a server's state.
pub struct Past {
    dir: TempDir,
    server: ServerThread,
}

impl Past {
    fn serve(dir: TempDir) -> Past {
        let server = ServerThread::start(server_config(dir.path().to_owned()));
        Past { dir, server }
    }

    /// Another copy of the same state, with changes of its own.
    pub fn branch(&self) -> Past {
        let dir = TempDir::with_prefix("strongroom-past-").expect("directory");
        copy(self.dir.path(), dir.path());
        Past::serve(dir)
    }

    pub fn address(&self) -> SocketAddr {
        self.server.local_addr()
    }

    /// The bucket as its provider sees it.
    pub fn bucket(&self) -> Bucket<'_> {
        Bucket::new(&self.server, &self.server.endpoint_url())
    }
}

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp")
        .arg("-a")
        .arg(from.join("."))
        .arg(to)
        .status();
    assert!(
        copied.expect("cp").success(),
        "cannot copy {}",
        from.display()
    );
}

/// The end of an operation on the mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    Ok,
    Errno(i32),
    /// It still waits.
    Hangs,
}

impl Ended {
    fn of<T>(result: io::Result<T>) -> Ended {
        match result {
            Ok(_) => Ended::Ok,
            Err(error) => Ended::Errno(error.raw_os_error().unwrap_or(0)),
        }
    }
}

/// Runs it in a thread of its own and waits no longer than `patience`.
pub fn within<T: Send + 'static>(
    patience: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let (done, wait) = mpsc::channel();
    std::thread::spawn(move || {
        let _ = done.send(work());
    });
    wait.recv_timeout(patience).ok()
}

/// Writes a file; how its fsync ended (or what came before it).
pub fn write_synced(path: &Path, contents: Vec<u8>, patience: Duration) -> Ended {
    let path = path.to_owned();
    let write = move || -> io::Result<()> {
        let mut file = File::create(path)?;
        file.write_all(&contents)?;
        file.sync_all()
    };
    within(patience, write).map_or(Ended::Hangs, Ended::of)
}

/// fsync of a file that is there.
pub fn sync(path: &Path, patience: Duration) -> Ended {
    let path = path.to_owned();
    let sync = move || OpenOptions::new().write(true).open(path)?.sync_all();
    within(patience, sync).map_or(Ended::Hangs, Ended::of)
}

/// The contents of a file, compared with those that were written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holds {
    Right,
    Wrong,
    /// A part of what was written, from its beginning, or nothing.
    Shorter,
    Missing,
    Errno(i32),
    Hangs,
}

/// Compares a file with what was written to it, past the page cache.
pub fn compare(path: &Path, contents: Vec<u8>, patience: Duration) -> Holds {
    let path = path.to_owned();
    within(patience, move || match read_direct(&path) {
        Ok(found) if found == contents => Holds::Right,
        Ok(found) if contents.starts_with(&found) => Holds::Shorter,
        Ok(_) => Holds::Wrong,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Holds::Missing,
        Err(error) => Holds::Errno(error.raw_os_error().unwrap_or(0)),
    })
    .unwrap_or(Holds::Hangs)
}

/// Reads a file past the page cache.
pub fn read_direct(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = OpenOptions::new()
        .read(true)
        .custom_flags(nix::libc::O_DIRECT)
        .open(path)?;
    let mut found = Vec::new();
    file.read_to_end(&mut found)?;
    Ok(found)
}

/// The end of a mount, or that it did not end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    Mounted,
    Ended(i32),
    Hangs,
}

/// Waits until a mount answers or ends.
pub fn wait_start(mount: &mut Mount<'_>, patience: Duration) -> Start {
    holds(patience, || mount.is_mounted() || mount.has_ended());
    if mount.is_mounted() {
        return Start::Mounted;
    }
    match mount.has_ended() {
        true => Start::Ended(mount.wait_gone()),
        false => Start::Hangs,
    }
}

/// `fusermount3 -uz`: the kernel lets go whoever still has files open.
pub fn let_go_lazily(dir: &Path) -> Duration {
    let began = Instant::now();
    let left = Command::new("fusermount3").arg("-uz").arg(dir).output();
    assert!(left.expect("fusermount3").status.success());
    began.elapsed()
}

/// The process' exit code after an unmount, if it ends in time.
pub fn exit_code(mut mount: Mount<'_>, patience: Duration) -> Option<i32> {
    let_go_lazily(&mount.dir);
    holds(patience, || mount.has_ended()).then(|| mount.wait_gone())
}

/// A name below a mount.
pub fn at(mount: &Mount<'_>, name: impl AsRef<Path>) -> PathBuf {
    mount.dir.join(name)
}

/// Makes a name durable too.
pub fn sync_dir(dir: &Path) {
    let _ = fs::File::open(dir).and_then(|dir| dir.sync_all());
}
