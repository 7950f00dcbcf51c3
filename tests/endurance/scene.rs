//! A volume, its server's process, and the store between them that lies.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Output,
    sync::Mutex,
    time::{Duration, Instant},
};

use crate::support::{
    bucket::{BUCKET, Listed, list, sdk_client},
    commands::said,
    lying::{LyingStore, answer::REFUSED_ON_PURPOSE},
    mount::Mount,
    random::noise,
    server_process::ServerProcess,
    site::{Site, Transport},
};

/// The limit of each mount.
pub const MEMORY_LIMIT: u64 = 128 << 20;

/// A mount answers within this, also where the one before it has to be found dead first.
const MOUNTED_WITHIN: Duration = Duration::from_secs(300);

/// Log lines of a mount that met an outage, or was denied access.
const OF_THE_WEATHER: [&str; 3] = [
    REFUSED_ON_PURPOSE,
    "the store is out of order",
    "the store does not answer",
];

/// After so long such a mount is tried again.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

pub struct Scene {
    pub store: LyingStore,
    pub server: Mutex<ServerProcess>,
    pub site: Site,
    key: PathBuf,
}

/// The contents of the bucket, counted.
#[derive(Clone, Copy, Debug, Default)]
pub struct Held {
    pub objects: u64,
    pub bytes: u64,
    /// The objects among them below `data/`.
    pub data_objects: u64,
    pub data_bytes: u64,
}

impl Scene {
    /// With an empty volume, which a key file opens: that costs no derivation.
    pub fn set() -> Scene {
        let mut site = Site::without_volume(Transport::Plain);
        site.memory = "128MiB";
        let server = ServerProcess::start(site.scratch("objects"), "127.0.0.1:0");
        let store = LyingStore::before(server.address);
        site.endpoint = store.endpoint();
        let key = site.path().join("key");
        fs::write(&key, noise(99, 64)).expect("key file");
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).expect("chmod");
        let scene = Scene {
            store,
            server: Mutex::new(server),
            site,
            key,
        };
        let made = scene.command("init", &["--create-bucket"]);
        assert!(made.status.success(), "{}", said(&made));
        scene
    }

    /// `strongroom NAME URL OPTIONS`, past the lies.
    pub fn command(&self, name: &str, options: &[&str]) -> Output {
        let state = self.site.scratch("state-of-commands");
        let url = self.site.url();
        let endpoint = format!("http://{}", self.server.lock().expect("server").address);
        let mut args = vec![name, &url, "--endpoint-url", &endpoint, "--key-file"];
        args.push(self.key.to_str().expect("path"));
        args.extend(["--state-dir", state.to_str().expect("path")]);
        args.extend(options);
        self.site.strongroom(&args).output()
    }

    /// Mounts as the machine of this name, which remembers what it has seen of the volume. A mount
    /// that meets an outage, or is denied access, gives up after some tries and says so: it is
    /// begun again, as its user would.
    pub fn mount(&self, machine: &str, options: &[&str]) -> Result<Mount<'_>, String> {
        let state = self.site.scratch(machine);
        let mut all = vec!["--key-file", self.key.to_str().expect("path")];
        all.extend(["--state-dir", state.to_str().expect("path")]);
        all.extend(options);
        let began = Instant::now();
        let mut mount = self.site.begin_mount_of(&self.site.url(), &all);
        while !mount.is_mounted() {
            let is_late = began.elapsed() > MOUNTED_WITHIN;
            let has_ended = mount.has_ended();
            let log = mount.log_text();
            let of_the_weather = OF_THE_WEATHER.iter().any(|said| log.contains(said));
            if !is_late && has_ended && of_the_weather {
                drop(mount);
                std::thread::sleep(AGAIN_AFTER);
                mount = self.site.begin_mount_of(&self.site.url(), &all);
            } else if is_late || has_ended {
                return Err(format!("no mount: {log}"));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(mount)
    }

    /// `fsck --data` must find nothing; returns its summary.
    pub fn fsck(&self) -> Result<serde_json::Value, String> {
        let output = self.command("fsck", &["--data", "--json"]);
        let summary = String::from_utf8_lossy(&output.stdout)
            .lines()
            .last()
            .and_then(|line| serde_json::from_str(line).ok());
        match (output.status.code(), summary) {
            (Some(0), Some(summary)) => Ok(summary),
            _ => Err(format!("fsck --data: {}", said(&output))),
        }
    }

    /// `gc --json`; nobody may have the volume mounted, unless it is a dry run.
    pub fn gc(&self, options: &[&str]) -> Result<serde_json::Value, String> {
        let output = self.command("gc", &[&["--json"], options].concat());
        let swept = serde_json::from_slice(&output.stdout).ok();
        match (output.status.code(), swept) {
            (Some(0), Some(swept)) => Ok(swept),
            _ => Err(format!("gc {options:?}: {}", said(&output))),
        }
    }

    /// Lists the bucket as the provider sees it, past the lies; `None` while the server is away.
    pub fn held(&self) -> Option<Held> {
        let mut held = Held::default();
        let client = self.client();
        let listed = self.block_on(async { list(&client).await.ok() })?;
        for Listed { key, bytes, .. } in listed {
            held.objects += 1;
            held.bytes += bytes;
            if key.contains("/data/") {
                held.data_objects += 1;
                held.data_bytes += bytes;
            }
        }
        Some(held)
    }

    /// Multipart uploads that the provider still keeps.
    pub fn uploads(&self) -> Option<usize> {
        let client = self.client();
        let listed = async move {
            let listed = client.list_multipart_uploads().bucket(BUCKET).send().await;
            listed.ok().map(|listed| listed.uploads().len())
        };
        self.block_on(listed)
    }

    fn block_on<T>(&self, work: impl Future<Output = Option<T>>) -> Option<T> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let in_time = async { tokio::time::timeout(Duration::from_secs(20), work).await };
        runtime.expect("runtime").block_on(in_time).ok().flatten()
    }

    fn client(&self) -> aws_sdk_s3::Client {
        let address = self.server.lock().expect("server").address;
        sdk_client(&format!("http://{address}"))
    }

    /// Keeps what explains a failure: the bucket, the mounts' logs and the programs'.
    pub fn keep_evidence(&self, dir: &Path) {
        let _ = fs::create_dir_all(dir);
        let _ = std::process::Command::new("bash")
            .args(["-c", "cp -a objects *.log scratch/*.log \"$1\"", "bash"])
            .arg(dir)
            .current_dir(self.site.path())
            .status();
    }
}
