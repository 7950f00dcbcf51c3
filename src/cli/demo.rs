//! `strongroom demo`: the embedded server, a volume and a mount in one process.
//!
//! Promises: everything it makes is below one directory and is gone when it ends; it listens on
//! loopback only, with a key pair made for this run. Never: removes a directory that it did not
//! make, or anything while the mount is still there.

use std::{
    fs,
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use clap::Args;
use zeroize::Zeroizing;

use super::{
    args::LogArgs, daemon::Reporter, observer::TerminalObserver, runtime, sys, values::parse_memory,
};
use crate::{
    fuse,
    seal::{keys::make_process_undumpable, volume::Secret},
    server::{SecretString, Server, ServerConfig, SyncPolicy},
    session::{
        self, Accept, Durability, Exit, Failure, MemorySize, SessionConfig, StoreSettings, create,
        disk_cache::DiskCacheConfig, errors,
    },
    telemetry::Metrics,
};

/// Where the demo's volume is.
const URL: &str = "s3://demo/vault";

/// The store is in this process, so a longer wait saves nothing.
const UPLOAD_DELAY: Duration = Duration::from_secs(1);
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(120);

/// The demo's mount writes, so it follows nobody.
const FOLLOW_EVERY: Duration = Duration::from_secs(1);

const TIMEOUT: Duration = Duration::from_secs(60);

/// Connections while the volume is made.
const CONNECTIONS: usize = 8;

/// `strongroom demo [DIR]`
#[derive(Args, Debug)]
pub struct DemoArgs {
    /// The directory that holds everything; made, and removed at the end
    #[arg(default_value = "demo")]
    dir: PathBuf,

    /// The memory that the mount, the store and all stay below: a size of at least 128MiB, or a
    /// percentage [default: 512MiB, or what the control group allows]
    #[arg(long, value_name = "SIZE", value_parser = parse_memory)]
    memory: Option<MemorySize>,

    #[command(flatten)]
    log: LogArgs,
}

/// The paths of the demo below its directory.
struct Place {
    dir: PathBuf,
    mount_point: PathBuf,
    objects: PathBuf,
    state: PathBuf,
    passphrase: PathBuf,
    environment: PathBuf,
    log: PathBuf,
}

/// Runs the command. No thread exists yet.
pub fn run(args: DemoArgs) -> Result<(), Failure> {
    let memory_bytes = session::memory_bytes(args.memory)?;
    fuse::check_device().map_err(|error| errors::mount(&error))?;
    let _ = make_process_undumpable();
    let (access_key, secret_key, passphrase) = (random_text()?, random_text()?, random_text()?);
    // The demo's own client finds the key pair where every client looks for it.
    sys::set_environment("AWS_ACCESS_KEY_ID", &access_key)?;
    sys::set_environment("AWS_SECRET_ACCESS_KEY", &secret_key)?;
    sys::remove_environment("AWS_SESSION_TOKEN")?;
    let place = Place::make(&args.dir)?;
    let secrets = Secrets {
        access_key,
        secret_key,
        passphrase,
    };
    let outcome = runtime::block_on(demo(&args.log, memory_bytes, &place, secrets));
    match place.remove() {
        Ok(()) => outcome,
        Err(error) => outcome.and(Err(Failure::new(
            Exit::Unexpected,
            format!("{} could not be removed: {error}", place.dir.display()),
            "remove it yourself once nothing uses it",
        ))),
    }
}

struct Secrets {
    access_key: Zeroizing<String>,
    secret_key: Zeroizing<String>,
    passphrase: Zeroizing<String>,
}

fn random_text() -> Result<Zeroizing<String>, Failure> {
    let mut bytes = Zeroizing::new([0_u8; 20]);
    getrandom::fill(bytes.as_mut())
        .map_err(|error| Failure::unexpected(format!("no randomness: {error}")))?;
    Ok(Zeroizing::new(
        data_encoding::HEXLOWER.encode(bytes.as_ref()),
    ))
}

async fn demo(
    log: &LogArgs,
    memory_bytes: u64,
    place: &Place,
    secrets: Secrets,
) -> Result<(), Failure> {
    let secret_key = SecretString::from(secrets.secret_key.as_str());
    let mut config = ServerConfig::new(&place.objects, secrets.access_key.as_str(), secret_key);
    config.sync = SyncPolicy::Never;
    let server = Server::start(config)
        .await
        .map_err(|error| Failure::unexpected(format!("the store cannot start: {error}")))?;
    let outcome = volume(log, memory_bytes, place, &secrets, &server.endpoint_url()).await;
    server.shutdown().await;
    outcome
}

async fn volume(
    log: &LogArgs,
    memory_bytes: u64,
    place: &Place,
    secrets: &Secrets,
    endpoint: &str,
) -> Result<(), Failure> {
    let url = session::parse_url(URL)?;
    let store = StoreSettings {
        endpoint_url: Some(endpoint.to_owned()),
        region: Some("us-east-1".to_owned()),
        ..StoreSettings::default()
    };
    let secret = || {
        let bytes = Zeroizing::new(secrets.passphrase.as_bytes().to_vec());
        Secret::passphrase(bytes).map_err(|error| Failure::unexpected(error.to_string()))
    };
    let client = session::client(&url, &store, CONNECTIONS, Arc::new(Metrics::default())).await?;
    client
        .create_bucket()
        .await
        .map_err(|error| errors::store(&error, &url))?;
    create::make_volume(&client, secret()?, None).await?;
    drop(client);
    place.write_secrets(secrets, endpoint)?;
    let config = SessionConfig {
        metrics: None,
        recording: None,
        log_paths: false,
        url,
        store,
        mount_point: place.mount_point.clone(),
        memory_bytes,
        durability: Durability::Fsync,
        upload_delay: UPLOAD_DELAY,
        refusal_timeout: REFUSAL_TIMEOUT,
        capacity: None,
        read_only: false,
        follow_every: FOLLOW_EVERY,
        allow_other: false,
        takeover: false,
        accept: Accept::default(),
        expect: None,
        timeout: TIMEOUT,
        // Without it, the demo's user sees that reads fetch.
        disk_cache: DiskCacheConfig::off(),
        state_root: place.state.clone(),
        kernel_flags: Vec::new(),
    };
    let mut log = log.clone();
    log.log_file.get_or_insert_with(|| place.log.clone());
    let greeting = place.greeting(endpoint);
    let reporter = Reporter::terminal_with_greeting(greeting);
    let observer = TerminalObserver::start(&reporter, &log)?;
    session::mount_and_serve(config, secret()?, &observer).await
}

impl Place {
    fn make(dir: &Path) -> Result<Place, Failure> {
        let failed = |error: io::Error| {
            Failure::usage(
                format!("the demo cannot use {}: {error}", dir.display()),
                "choose a directory that can be written",
            )
        };
        let dir = std::path::absolute(dir).map_err(failed)?;
        match fs::create_dir(&dir) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                if fs::read_dir(&dir).map_err(failed)?.next().is_some() {
                    return Err(Failure::new(
                        Exit::NotEmpty,
                        format!("{} is not empty", dir.display()),
                        "choose a directory that does not exist, or remove the files of an earlier demo",
                    ));
                }
            }
            outcome => outcome.map_err(failed)?,
        }
        let dir = fs::canonicalize(&dir).map_err(failed)?;
        let below = |name: &str| dir.join(name);
        let place = Place {
            mount_point: below("mnt"),
            objects: below("objects"),
            state: below("state"),
            passphrase: below("passphrase"),
            environment: below("demo.env"),
            log: below("mount.log"),
            dir,
        };
        fs::create_dir(&place.mount_point).map_err(failed)?;
        Ok(place)
    }

    /// Writes the files by which a second shell uses the same volume.
    fn write_secrets(&self, secrets: &Secrets, endpoint: &str) -> Result<(), Failure> {
        let write = |path: &Path, text: &str| {
            let mut file = fs::OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(path)?;
            file.write_all(text.as_bytes())
        };
        let environment = Zeroizing::new(format!(
            "export AWS_ACCESS_KEY_ID='{}'\nexport AWS_SECRET_ACCESS_KEY='{}'\nexport AWS_ENDPOINT_URL_S3='{endpoint}'\n\
             export AWS_REGION=us-east-1\nexport STRONGROOM_PASSPHRASE_FILE='{}'\n",
            secrets.access_key.as_str(),
            secrets.secret_key.as_str(),
            self.passphrase.display()
        ));
        write(&self.passphrase, &secrets.passphrase)
            .and_then(|()| write(&self.environment, &environment))
            .map_err(|error| {
                Failure::unexpected(format!("cannot write to {}: {error}", self.dir.display()))
            })
    }

    fn greeting(&self, endpoint: &str) -> String {
        let (mount_point, objects, environment) = (
            self.mount_point.display(),
            self.objects.display(),
            self.environment.display(),
        );
        format!(
            "\
A volume is mounted on {mount_point}
Its bucket is served at {endpoint}; the objects are below {objects}

Try:
  cp -a /usr/share/doc {mount_point}/            and look what the bucket holds: find {objects}
  restic -r {mount_point}/restic init          a repository on the mount
  strongroom status {mount_point}
  . {environment} && strongroom info {URL}

Everything here goes away at the end. Stop with Ctrl-C."
        )
    }

    /// Removes the demo's files. The mount point goes first, and only if it is empty and not a
    /// mount.
    fn remove(&self) -> io::Result<()> {
        let gone = |outcome: io::Result<()>| match outcome {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            outcome => outcome,
        };
        gone(fs::remove_dir(&self.mount_point))?;
        for tree in [&self.objects, &self.state] {
            gone(fs::remove_dir_all(tree))?;
        }
        for file in [&self.passphrase, &self.environment, &self.log] {
            gone(fs::remove_file(file))?;
        }
        gone(fs::remove_dir(&self.dir))
    }
}
