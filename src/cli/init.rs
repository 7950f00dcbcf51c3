//! `strongroom init`: a new volume in an empty prefix.

use std::{
    io::{IsTerminal, Write, stderr},
    path::PathBuf,
    sync::Arc,
};

use clap::Args;

use super::{
    args::{StateArgs, StoreArgs},
    runtime, secret,
};
use crate::{
    seal::{keys::make_process_undumpable, volume::Secret},
    session::{
        self, Accept, Failure, client,
        create::Creation,
        state::{Known, Trust},
    },
    store::S3Url,
    telemetry::Metrics,
};

/// Connections while a volume is made: as many requests as the trial of the store sends at once.
const CONNECTIONS: usize = 24;

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

    /// Take the passphrase from the output of this shell command
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
    let shows = stderr().is_terminal();
    let tell = move |line: &str| {
        if shows {
            let _ = writeln!(stderr(), "{line}");
        }
    };
    let mut creation = Creation::begin(&store, &tell)?;
    creation.check_place(args.create_bucket).await?;
    let recovery = match &args.recovery_key_file {
        Some(file) => Some(secret::make_recovery_key(file, &args.url)?),
        None => None,
    };
    let header = match creation.make(secret, recovery).await {
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
