//! A server, a volume in it, and the real binary with what it takes to reach them.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

use strongroom::server::{Server, StatsSnapshot};
use tempfile::TempDir;

use super::{
    bucket::{BUCKET, Bucket},
    certificates::certificates,
    commands::BINARY,
    credentials::{ACCESS_KEY, SECRET_KEY},
    mount::Mount,
    server::{ServerThread, server_config},
};

pub const PASSPHRASE: &str = "canary-passphrase-correct-horse";

/// The client's way to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    Plain,
    /// TLS with a certificate authority of our own.
    Tls,
}

/// A server with one volume.
pub struct Site {
    dir: TempDir,
    server: ServerThread,
    /// Where the client finds S3: our server, unless a test says otherwise.
    pub endpoint: String,
    transport: Transport,
    mounts_made: AtomicU32,
    pub memory: &'static str,
    /// `--disk-cache`: off, unless a test is about it, so that what is read again is fetched again.
    pub disk_cache: &'static str,
    /// Mounts are started through this command line, if there is one (a cgroup).
    pub wrapper: Vec<String>,
    pub log_level: &'static str,
}

impl Site {
    /// Starts a server and makes a volume.
    pub fn start(transport: Transport) -> Site {
        let site = Site::without_volume(transport);
        site.make_volume();
        site
    }

    /// `strongroom init`.
    pub fn make_volume(&self) {
        let made = self.strongroom(&["init", &self.url(), "--create-bucket"]);
        let made = made.with_passphrase(self).output();
        assert!(
            made.status.success(),
            "init: {}",
            String::from_utf8_lossy(&made.stderr)
        );
    }

    pub fn without_volume(transport: Transport) -> Site {
        let dir = TempDir::with_prefix("strongroom-e2e-").expect("a temporary directory");
        fs::write(dir.path().join("pass"), PASSPHRASE).expect("passphrase file");
        fs::set_permissions(dir.path().join("pass"), fs::Permissions::from_mode(0o600))
            .expect("chmod");
        let mut config = server_config(dir.path().join("server"));
        if transport == Transport::Tls {
            config.tls = Some(certificates(dir.path()).0);
        }
        let server = ServerThread::start(config);
        Site {
            endpoint: server.endpoint_url(),
            dir,
            server,
            transport,
            mounts_made: AtomicU32::new(0),
            memory: "512MiB",
            disk_cache: "off",
            wrapper: Vec::new(),
            log_level: "info",
        }
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// A fresh directory under the site's.
    pub fn scratch(&self, name: &str) -> PathBuf {
        let dir = self.path().join(name);
        fs::create_dir_all(&dir).expect("scratch directory");
        dir
    }

    pub fn url(&self) -> String {
        format!("s3://{BUCKET}/laptop")
    }

    pub fn server(&self) -> &Server {
        &self.server
    }

    pub fn stats(&self) -> StatsSnapshot {
        self.server().stats()
    }

    /// The binary with the environment that reaches this server.
    pub fn strongroom(&self, args: &[&str]) -> Run {
        let mut command = match self.wrapper.split_first() {
            Some((program, rest)) if args.first() == Some(&"mount") => {
                let mut command = Command::new(program);
                command.args(rest).arg(BINARY);
                command
            }
            _ => Command::new(BINARY),
        };
        command.args(args);
        for (name, _) in std::env::vars()
            .filter(|(name, _)| name.starts_with("AWS_") || name.starts_with("STRONGROOM_"))
        {
            command.env_remove(name);
        }
        command
            .env("AWS_ACCESS_KEY_ID", ACCESS_KEY)
            .env("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
            .env("AWS_ENDPOINT_URL_S3", &self.endpoint)
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("HOME", self.path())
            // Ports are used again: nothing is to be known of the volume that another test had at
            // this address.
            .env("STRONGROOM_STATE_DIR", self.path().join("state"))
            .stdin(Stdio::null());
        if self.transport == Transport::Tls {
            command.env("AWS_CA_BUNDLE", self.path().join("authority.pem"));
        }
        Run { command }
    }

    /// An S3 client of the SDK for looking at the bucket from outside.
    pub fn bucket(&self) -> Bucket<'_> {
        assert_eq!(self.transport, Transport::Plain);
        Bucket::new(&self.server, &self.endpoint)
    }

    /// Mounts with a state directory of its own: as from another machine.
    pub fn mount(&self) -> Mount<'_> {
        self.mount_with(&[])
    }

    pub fn mount_with(&self, options: &[&str]) -> Mount<'_> {
        let mount = self.begin_mount(options);
        mount.wait_ready();
        mount
    }

    /// Starts a mount without waiting until it answers.
    pub fn begin_mount(&self, options: &[&str]) -> Mount<'_> {
        let pass = self.path().join("pass");
        let mut all = vec!["--passphrase-file", pass.to_str().expect("path")];
        all.extend(options);
        self.begin_mount_of(&self.url(), &all)
    }

    /// A disk cache writes nothing where less than a tenth of the filesystem is free: without this,
    /// a test of it would fail for a reason that it does not tell.
    fn assert_room_for_a_disk_cache(&self) {
        let space = nix::sys::statvfs::statvfs(self.path()).expect("statvfs");
        let free = space.blocks_available() * space.fragment_size();
        let wanted = space.blocks() * space.fragment_size() / 10 + (2 << 30);
        assert!(
            free >= wanted,
            "tests of the disk cache need {} GiB of free space in {}, there are {}",
            wanted >> 30,
            self.path().display(),
            free >> 30
        );
    }

    /// Starts a mount of any volume; the options say how it is unlocked.
    pub fn begin_mount_of(&self, url: &str, options: &[&str]) -> Mount<'_> {
        if self.disk_cache != "off" {
            self.assert_room_for_a_disk_cache();
        }
        let number = self.mounts_made.fetch_add(1, Ordering::Relaxed);
        let dir = self.scratch(&format!("mnt{number}"));
        let state = self.scratch(&format!("state{number}"));
        let log = self.path().join(format!("mount{number}.log"));
        let log_file = fs::File::create(&log).expect("log file");
        let mut run = self.strongroom(&["mount", url, dir.to_str().expect("path"), "--foreground"]);
        run.command
            .args(["--log-level", self.log_level])
            .args(["--disk-cache", self.disk_cache])
            .args(options)
            .stdout(log_file.try_clone().expect("log file"))
            .stderr(log_file);
        if !self.memory.is_empty() {
            run.command.args(["--memory", self.memory]);
        }
        if !options.contains(&"--state-dir") {
            run.command.arg("--state-dir").arg(&state);
        }
        let child = run.command.spawn().expect("strongroom mount");
        Mount::new(dir, state, log, child)
    }
}

/// A command under construction.
pub struct Run {
    pub command: Command,
}

impl Run {
    pub fn with_passphrase(mut self, site: &Site) -> Run {
        self.command
            .arg("--passphrase-file")
            .arg(site.path().join("pass"));
        self
    }

    pub fn output(mut self) -> Output {
        self.command.output().expect("runs")
    }
}
