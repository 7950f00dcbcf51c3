//! `strongroom init`: a new volume in an empty prefix.

use std::{io::Write, path::PathBuf, sync::Arc};

use clap::Args;

use super::{
    args::{StateArgs, StoreArgs},
    runtime, secret,
};
use crate::{
    meta::Meta,
    seal::{
        keys::make_process_undumpable,
        object_store::SealedObjectStore,
        volume::{Argon2Params, COPY_KEY, PRIMARY_KEY, SaveError, Secret, VolumeHeader},
    },
    session::{
        self, Accept, Exit, Failure, client, errors,
        state::{Known, Trust},
    },
    store::{
        Condition, S3Url, Store, StoreErrorKind,
        probe::{ProbeFailure, prefix_is_empty, probe},
    },
    telemetry::Metrics,
};

/// Connections while a volume is made.
const CONNECTIONS: usize = 8;

/// The metadata's cache while its first objects are written.
const CACHE_BYTES: u64 = 1 << 20;

/// `strongroom init URL`
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  strongroom init s3://bucket/laptop
  strongroom init s3://bucket/laptop --passphrase-file pass --recovery-key-file recovery
  strongroom init s3://bucket/laptop --key-file key --create-bucket --endpoint-url https://s3.example.com")]
pub struct InitArgs {
    /// The volume: s3://bucket/prefix; nothing may be there yet
    url: String,

    /// Make the bucket too
    #[arg(long)]
    create_bucket: bool,

    /// Read the passphrase from this file (one line break at its end does not count)
    #[arg(long, value_name = "FILE", help_heading = "Key", conflicts_with_all = ["passphrase_command", "key_file"])]
    passphrase_file: Option<PathBuf>,

    /// Take the passphrase from what this shell command prints
    #[arg(
        long,
        value_name = "COMMAND",
        help_heading = "Key",
        conflicts_with = "key_file"
    )]
    passphrase_command: Option<String>,

    /// Lock with this key file (at least 32 random bytes) instead of a passphrase
    #[arg(long, value_name = "FILE", help_heading = "Key")]
    key_file: Option<PathBuf>,

    /// Make a recovery key too and write it to this file, which must not exist
    #[arg(long, value_name = "FILE", help_heading = "Key")]
    recovery_key_file: Option<PathBuf>,

    #[command(flatten)]
    store: StoreArgs,

    #[command(flatten)]
    state: StateArgs,
}

/// Runs the command.
pub fn run(args: InitArgs) -> Result<(), Failure> {
    let url = session::parse_url(&args.url)?;
    // If the system refuses, the secrets are as safe as in any other program's memory.
    let _ = make_process_undumpable();
    let secret = match &args.key_file {
        Some(file) => secret::key_file(file)?,
        None => secret::first_passphrase(
            args.passphrase_file.as_deref(),
            args.passphrase_command.as_deref(),
        )?,
    };
    runtime::block_on(init(args, &url, secret))
}

async fn init(args: InitArgs, url: &S3Url, secret: Secret) -> Result<(), Failure> {
    let state_root = args.state.root()?;
    let store = client(
        url,
        &args.store.settings(),
        CONNECTIONS,
        Arc::new(Metrics::default()),
    )
    .await?;
    if args.create_bucket {
        make_bucket(&store).await?;
    } else {
        store
            .check_bucket()
            .await
            .map_err(|error| errors::store(&error, url))?;
    }
    refuse_occupied(&store).await?;
    probe(&store).await.map_err(|failure| match failure {
        ProbeFailure::Lacks { capability, detail } => Failure::new(
            Exit::StoreUnfit,
            format!("the store at {url} lacks {capability} ({detail})"),
            "use a store that has it; docs/operations.md lists what a volume needs",
        ),
        ProbeFailure::Store(error) => errors::store(&error, url),
    })?;
    let recovery = match &args.recovery_key_file {
        Some(file) => Some(secret::make_recovery_key(file, &args.url)?),
        None => None,
    };
    let header = match make_volume(&store, secret, recovery).await {
        Ok(header) => header,
        Err(error) => {
            if let Some(file) = &args.recovery_key_file {
                // A key to a volume that was not made would only confuse.
                let _ = std::fs::remove_file(file);
            }
            return Err(error);
        }
    };
    // The earlier knowledge of this place was about a volume that is gone.
    Trust::new(&state_root, &store, Accept::default()).replace(&Known::of_header(&header));
    let mut out = std::io::stdout();
    let _ = writeln!(out, "made volume {} at {url}", header.volume());
    if let Some(file) = &args.recovery_key_file {
        let _ = writeln!(
            out,
            "the recovery key is in {}: print it and keep it elsewhere",
            file.display()
        );
    }
    Ok(())
}

async fn make_bucket(store: &Store) -> Result<(), Failure> {
    match store.check_bucket().await {
        Err(error) if error.kind == StoreErrorKind::NoBucket => {}
        outcome => return outcome.map_err(|error| errors::store(&error, store.url())),
    }
    store
        .create_bucket()
        .await
        .map_err(|error| errors::store(&error, store.url()))
}

async fn refuse_occupied(store: &Store) -> Result<(), Failure> {
    let url = store.url();
    for key in [PRIMARY_KEY, COPY_KEY] {
        match store.head(key).await {
            Ok(_) => {
                return Err(Failure::new(
                    Exit::VolumeExists,
                    format!("there is a volume at {url} already"),
                    "mount it, or choose another prefix",
                ));
            }
            Err(error) if error.kind == StoreErrorKind::NotFound => {}
            Err(error) => return Err(errors::store(&error, url)),
        }
    }
    if prefix_is_empty(store)
        .await
        .map_err(|error| errors::store(&error, url))?
    {
        return Ok(());
    }
    Err(Failure::new(
        Exit::NotEmpty,
        format!("{url} is not empty"),
        "choose an empty prefix, such as one more path segment",
    ))
}

/// Makes a volume in an empty prefix. The header comes first, because exactly one of two that race
/// can write it.
///
/// # Errors
/// Another `init` made one at the same time; the store's errors.
pub async fn make_volume(
    store: &Store,
    secret: Secret,
    recovery: Option<Secret>,
) -> Result<VolumeHeader, Failure> {
    let url = store.url();
    let made = tokio::task::spawn_blocking(move || {
        let (mut header, unlocked) = VolumeHeader::create(&secret, Argon2Params::default())?;
        if let Some(recovery) = recovery {
            header.add_slot(&unlocked.master, &recovery, Argon2Params::default())?;
        }
        Ok((header, unlocked))
    });
    let (header, unlocked) = made
        .await
        .map_err(|error| Failure::unexpected(format!("deriving the key failed: {error}")))?
        .map_err(|error: crate::seal::volume::SlotError| Failure::unexpected(error.to_string()))?;
    header
        .save(store, Condition::Absent)
        .await
        .map_err(|error| match error {
            SaveError::Conflict => Failure::new(
                Exit::VolumeExists,
                format!("somebody else makes a volume at {url} at this moment"),
                "mount that one, or choose another prefix",
            ),
            SaveError::Store(error) => errors::store(&error, url),
        })?;
    let sealed = SealedObjectStore::new(store.clone(), Arc::clone(&unlocked.keys), CACHE_BYTES);
    let (uid, gid) = (
        nix::unistd::getuid().as_raw(),
        nix::unistd::getgid().as_raw(),
    );
    if let Err(error) = Meta::format(Arc::new(sealed), uid, gid).await {
        // Without metadata it is no volume: the header is taken back, so that the next try finds no
        // half of one.
        let _ = store
            .delete(&[PRIMARY_KEY.to_owned(), COPY_KEY.to_owned()])
            .await;
        return Err(errors::meta(&error, "the volume's metadata cannot be made"));
    }
    Ok(header)
}
