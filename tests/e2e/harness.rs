//! A server, a volume in it, and mounts of it by the real binary.

use std::{
    fs,
    marker::PhantomData,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use strongroom::server::{SecretString, Server, ServerConfig, StatsSnapshot, SyncPolicy, TlsFiles};
use tempfile::TempDir;
use tokio::runtime::Runtime;

pub const BINARY: &str = env!("CARGO_BIN_EXE_strongroom");
pub const PASSPHRASE: &str = "canary-passphrase-correct-horse";
pub const BUCKET: &str = "vault";
pub const ACCESS_KEY: &str = "test-access-key";
pub const SECRET_KEY: &str = "test-secret-key";

/// How the client reaches the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    Plain,
    /// TLS with a certificate authority of our own.
    Tls,
}

/// A server with one volume.
pub struct Site {
    dir: TempDir,
    runtime: Runtime,
    server: Option<Server>,
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
        let mut config = ServerConfig::new(
            dir.path().join("server"),
            ACCESS_KEY,
            SecretString::from(SECRET_KEY),
        );
        // The tests kill the client, never the machine: fsync would only measure this disk.
        config.sync = SyncPolicy::Never;
        if transport == Transport::Tls {
            config.tls = Some(certificates(dir.path()));
        }
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("runtime");
        let server = runtime.block_on(Server::start(config)).expect("server");
        Site {
            endpoint: server.endpoint_url(),
            dir,
            runtime,
            server: Some(server),
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
        self.server.as_ref().expect("runs until the site goes")
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
            command.env("AWS_CA_BUNDLE", self.path().join("ca.pem"));
        }
        Run { command }
    }

    /// An S3 client of the SDK for looking at the bucket from outside.
    pub fn bucket(&self) -> Bucket<'_> {
        Bucket { site: self }
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

    /// The same for any volume; the options say how it is unlocked.
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
            .args(["--memory", self.memory, "--log-level", self.log_level])
            .args(["--disk-cache", self.disk_cache])
            .args(options)
            .stdout(log_file.try_clone().expect("log file"))
            .stderr(log_file);
        if !options.contains(&"--state-dir") {
            run.command.arg("--state-dir").arg(&state);
        }
        let child = run.command.spawn().expect("strongroom mount");
        Mount {
            _site: PhantomData,
            dir,
            state,
            log,
            child: Some(child),
        }
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if let Some(server) = self.server.take() {
            self.runtime.block_on(server.shutdown());
        }
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

/// A mounted volume.
pub struct Mount<'a> {
    _site: PhantomData<&'a Site>,
    pub dir: PathBuf,
    pub state: PathBuf,
    pub log: PathBuf,
    child: Option<Child>,
}

impl Mount<'_> {
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("running").id()
    }

    pub fn is_mounted(&self) -> bool {
        let parent = fs::metadata(self.dir.parent().expect("parent"))
            .expect("parent")
            .dev();
        fs::metadata(&self.dir).is_ok_and(|here| here.dev() != parent)
    }

    /// Has the process ended (though nobody waited for it yet)?
    pub fn has_ended(&self) -> bool {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap_or_default();
        stat.rsplit(')')
            .next()
            .is_none_or(|rest| rest.trim_start().starts_with('Z'))
    }

    pub fn wait_ready(&self) {
        let started = Instant::now();
        while !self.is_mounted() {
            assert!(!self.has_ended(), "the mount ended: {}", self.log_text());
            assert!(
                started.elapsed() < Duration::from_secs(120),
                "no mount: {}",
                self.log_text()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub fn log_text(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// `fusermount3 -u`, returning as soon as the kernel has let go.
    pub fn let_go(&self) {
        let started = Instant::now();
        loop {
            let out = Command::new("fusermount3")
                .arg("-u")
                .arg(&self.dir)
                .output()
                .expect("fusermount3");
            if out.status.success() {
                return;
            }
            let text = String::from_utf8_lossy(&out.stderr).into_owned();
            let busy = text.contains("busy");
            assert!(
                busy && started.elapsed() < Duration::from_secs(10),
                "fusermount3 -u: {text}"
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits until the process has drained and gone; returns its exit code.
    pub fn wait_gone(&mut self) -> i32 {
        let mut child = self.child.take().expect("running");
        let started = Instant::now();
        loop {
            if let Some(status) = child.try_wait().expect("wait") {
                return status.code().unwrap_or(-1);
            }
            if started.elapsed() > Duration::from_secs(180) {
                let _ = child.kill();
                let _ = child.wait();
                panic!("the mount does not end: {}", self.log_text());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Unmounts and waits for the drain.
    pub fn unmount(mut self) {
        self.let_go();
        let code = self.wait_gone();
        assert_eq!(code, 0, "exit code after unmount: {}", self.log_text());
    }

    /// `kill -9`, and clears away the dead mount.
    pub fn kill(mut self) {
        self.kill_process();
    }

    /// `kill -9`; the dead mount stays in the way, and answers ENOTCONN, as long as this lives.
    pub fn kill_process(&mut self) {
        let mut child = self.child.take().expect("running");
        child.kill().expect("kill");
        child.wait().expect("wait");
    }

    /// `strongroom status --json`.
    pub fn status(&self) -> serde_json::Value {
        let dir = self.dir.to_str().expect("UTF-8");
        let output = Command::new(BINARY)
            .args(["status", dir, "--json"])
            .output()
            .expect("status");
        assert!(output.status.success(), "status: {output:?}");
        serde_json::from_slice(&output.stdout).expect("JSON")
    }

    /// Bytes reserved now, over all owners.
    pub fn reserved_bytes(&self) -> u64 {
        let status = self.status();
        let owners = status["memory"]["owners"].as_object().expect("owners");
        let current = owners.values().map(|owner| &owner["current_bytes"]);
        current.map(|bytes| bytes.as_u64().expect("bytes")).sum()
    }

    /// What is resident and no owner explains, in bytes; negative where more is reserved than
    /// resident.
    pub fn unexplained_bytes(&self) -> i64 {
        let status = self.status();
        status["memory"]["unexplained_bytes"]
            .as_i64()
            .expect("bytes")
    }

    /// A field of `/proc/PID/status`, in bytes.
    pub fn memory_bytes(&self, field: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("status");
        let line = status
            .lines()
            .find(|line| line.starts_with(field))
            .expect("field");
        let kib: u64 = line
            .split_whitespace()
            .nth(1)
            .expect("value")
            .parse()
            .expect("number");
        kib * 1024
    }
}

impl Drop for Mount<'_> {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        clear_mount(&self.dir);
        if std::thread::panicking() {
            let text = self.log_text();
            let tail: Vec<&str> = text.lines().rev().take(40).collect();
            eprintln!(
                "--- log of {} (newest first):\n{}",
                self.dir.display(),
                tail.join("\n")
            );
        }
    }
}

fn clear_mount(dir: &Path) {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let path = dir.to_str().expect("path");
    if mounts
        .lines()
        .any(|line| line.split(' ').nth(1) == Some(path))
    {
        let _ = Command::new("umount").arg("-l").arg(dir).status();
    }
}

/// The bucket as the provider sees it.
pub struct Bucket<'a> {
    site: &'a Site,
}

impl Bucket<'_> {
    pub fn client(&self) -> aws_sdk_s3::Client {
        use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region};
        assert_eq!(self.site.transport, Transport::Plain);
        let config = aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .endpoint_url(&self.site.endpoint)
            .credentials_provider(Credentials::new(ACCESS_KEY, SECRET_KEY, None, None, "test"))
            .region(Region::new("us-east-1"))
            .force_path_style(true)
            .build();
        aws_sdk_s3::Client::from_conf(config)
    }

    /// What is in it, and how many bytes each key has.
    pub fn sizes(&self) -> Vec<(String, u64)> {
        let client = self.client();
        self.site.runtime.block_on(async {
            let mut sizes = Vec::new();
            let mut pages = client
                .list_objects_v2()
                .bucket(BUCKET)
                .into_paginator()
                .send();
            while let Some(page) = pages.next().await {
                let page = page.expect("page");
                sizes.extend(page.contents().iter().filter_map(|object| {
                    let bytes = u64::try_from(object.size()?).ok()?;
                    Some((object.key()?.to_owned(), bytes))
                }));
            }
            sizes
        })
    }

    pub fn keys(&self) -> Vec<String> {
        self.sizes().into_iter().map(|(key, _)| key).collect()
    }

    pub fn get(&self, key: &str) -> Vec<u8> {
        let client = self.client();
        self.site.runtime.block_on(async {
            let object = client
                .get_object()
                .bucket(BUCKET)
                .key(key)
                .send()
                .await
                .expect("object");
            object
                .body
                .collect()
                .await
                .expect("body")
                .into_bytes()
                .to_vec()
        })
    }

    pub fn put(&self, key: &str, bytes: Vec<u8>) {
        let client = self.client();
        self.site.runtime.block_on(async {
            client
                .put_object()
                .bucket(BUCKET)
                .key(key)
                .body(bytes.into())
                .send()
                .await
                .expect("put");
        });
    }

    pub fn create(&self) {
        let client = self.client();
        self.site.runtime.block_on(async {
            client
                .create_bucket()
                .bucket(BUCKET)
                .send()
                .await
                .expect("bucket");
        });
    }

    pub fn delete(&self, key: &str) {
        let client = self.client();
        self.site.runtime.block_on(async {
            client
                .delete_object()
                .bucket(BUCKET)
                .key(key)
                .send()
                .await
                .expect("delete");
        });
    }
}

fn certificates(dir: &Path) -> TlsFiles {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
    let authority_key = KeyPair::generate().expect("key");
    let mut authority = CertificateParams::new(Vec::new()).expect("parameters");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority_certificate = authority.self_signed(&authority_key).expect("authority");
    let issuer = Issuer::new(authority, authority_key);
    let key = KeyPair::generate().expect("key");
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let certificate = CertificateParams::new(names)
        .expect("parameters")
        .signed_by(&key, &issuer)
        .expect("certificate");
    let files = TlsFiles {
        cert: dir.join("server.pem"),
        key: dir.join("server.key"),
    };
    fs::write(dir.join("ca.pem"), authority_certificate.pem()).expect("ca");
    fs::write(&files.cert, certificate.pem()).expect("certificate");
    fs::write(&files.key, key.serialize_pem()).expect("key");
    files
}

/// Runs a tool and wants it to succeed; returns what it printed.
pub fn tool(dir: &Path, program: &str, args: &[&str], env: &[(&str, &str)]) -> String {
    let started = Instant::now();
    let out = Command::new(program)
        .args(args)
        .envs(env.iter().copied())
        .current_dir(dir)
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| {
            panic!("{program}: {error} (mount-scripts/test.sh installs what the tests need)")
        });
    let printed = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(
        out.status.success(),
        "{program} {args:?} in {}: {}\n{printed}\n{}",
        dir.display(),
        out.status,
        String::from_utf8_lossy(&out.stderr)
    );
    eprintln!(
        "{:>8.2} s  {program} {}",
        started.elapsed().as_secs_f64(),
        args.join(" ").chars().take(100).collect::<String>()
    );
    printed
}

/// A shell line that must succeed.
pub fn shell(dir: &Path, line: &str) -> String {
    tool(dir, "bash", &["-euo", "pipefail", "-c", line], &[])
}

/// Requests that write, by the server's count.
pub fn puts(stats: &StatsSnapshot) -> u64 {
    [
        "PutObject",
        "UploadPart",
        "CreateMultipartUpload",
        "CompleteMultipartUpload",
    ]
    .iter()
    .map(|operation| stats.count(operation))
    .sum()
}
