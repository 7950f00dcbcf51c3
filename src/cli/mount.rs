//! `strongroom mount`: from the command line to a mount that answers, and from there to its end.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Args;

use super::{
    args::{AcceptArgs, LogArgs, SecretArgs, StateArgs, StoreArgs},
    daemon::{self, Reporter, Side},
    disk_cache::DiskCacheArgs,
    mount_options,
    observer::TerminalObserver,
    runtime, secret,
    values::{parse_duration, parse_follow_every, parse_size},
};
use crate::{
    fuse,
    seal::{keys::make_process_undumpable, volume::Secret},
    session::{self, Durability, Failure, Fingerprint, KernelFlag, SessionConfig, errors},
};

/// `strongroom mount URL DIR`
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  strongroom mount s3://bucket/laptop /mnt/vault --passphrase-file pass
  strongroom mount s3://bucket/laptop /mnt/vault --read-only --key-file key
  strongroom mount s3://bucket/laptop /mnt/vault -o passphrase-file=/etc/pass,memory=256MiB,allow_other

In /etc/fstab (with mount.strongroom in /sbin):
  s3://bucket/laptop /mnt/vault strongroom passphrase-file=/etc/pass,_netdev,nofail 0 0")]
pub struct MountArgs {
    /// The volume: s3://bucket/prefix
    #[arg(value_name = "URL")]
    pub url: String,

    /// The directory to mount it on
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,

    /// Stay in the foreground and log to standard error
    #[arg(long, short)]
    pub foreground: bool,

    /// The memory that the whole process stays below; at least 128MiB
    #[arg(long, value_name = "SIZE", default_value = "512MiB", value_parser = parse_size)]
    pub memory: u64,

    /// When `close` returns: at once as on a local disk, or when the file is durable
    #[arg(long, value_enum, value_name = "WHEN", default_value = "fsync")]
    pub durability: Durability,

    /// How long written data waits unless a program syncs it. A longer delay saves uploads of data
    /// that is soon overwritten, and loses more in a crash. A file that is overwritten again and
    /// again may wait six times as long, up to 30s
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = parse_duration)]
    pub upload_delay: Duration,

    /// How long a request that the store refuses (credentials withdrawn, access denied) is tried
    /// again before the program that waits gets an error
    #[arg(long, value_name = "DURATION", default_value = "2m", value_parser = parse_duration)]
    pub refusal_timeout: Duration,

    /// Mount for reading only; needs no lease, follows the writer
    #[arg(long)]
    pub read_only: bool,

    /// How often a read-only mount looks for what the writer made durable; each look is one request
    /// while nothing happens
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = parse_follow_every)]
    pub follow_every: Duration,

    /// Let other users see the mount
    #[arg(long)]
    pub allow_other: bool,

    /// Take the volume from a mount that is dead; a living one is fenced off
    #[arg(long)]
    pub takeover: bool,

    /// Mount only if the volume is in the state with this fingerprint, or in a later one; `umount`,
    /// `status` and `info` show it
    #[arg(long, value_name = "FINGERPRINT", help_heading = "Trust")]
    pub expect: Option<Fingerprint>,

    #[command(flatten)]
    pub accept: AcceptArgs,

    /// Fail an operation that has waited this long for the store; 0 waits for ever
    #[arg(long, value_name = "DURATION", default_value = "15m", value_parser = parse_duration)]
    pub timeout: Duration,

    #[command(flatten)]
    pub disk_cache: DiskCacheArgs,

    #[command(flatten)]
    pub state: StateArgs,

    /// Mount options as mount(8) passes them
    #[arg(short = 'o', value_name = "OPTIONS")]
    pub options: Vec<String>,

    #[command(flatten)]
    pub secret: SecretArgs,

    #[command(flatten)]
    pub store: StoreArgs,

    #[command(flatten)]
    pub log: LogArgs,

    /// Flags from `-o` that the kernel keeps.
    #[arg(skip)]
    pub kernel_flags: Vec<KernelFlag>,
}

/// Runs the command. No thread exists yet.
pub fn run(mut args: MountArgs) -> Result<(), Failure> {
    mount_options::apply(&mut args)?;
    let url = session::parse_url(&args.url)?;
    session::memory::check_floor(args.memory)?;
    let mount_point = fuse::check_mount_point(&args.dir).map_err(|error| errors::mount(&error))?;
    fuse::check_device().map_err(|error| errors::mount(&error))?;
    // If the system refuses, the mount is as safe as any other program's memory.
    let _ = make_process_undumpable();
    let secret = secret::unlock_secret(&args.secret)?;
    absolute_paths(&mut args)?;
    let state_root = args.state.root()?;
    let config = SessionConfig {
        url,
        store: args.store.settings(),
        mount_point,
        memory_bytes: args.memory,
        durability: args.durability,
        upload_delay: args.upload_delay,
        refusal_timeout: args.refusal_timeout,
        read_only: args.read_only,
        follow_every: args.follow_every,
        allow_other: args.allow_other,
        takeover: args.takeover,
        accept: args.accept.into(),
        expect: args.expect,
        timeout: args.timeout,
        disk_cache: args.disk_cache.config(&state_root),
        state_root,
        kernel_flags: args.kernel_flags,
    };
    if args.foreground {
        return work(config, secret, &args.log, &Reporter::terminal());
    }
    match daemon::detach()? {
        Side::Parent(outcome) => outcome,
        Side::Child(reporter) => {
            let outcome = work(config, secret, &args.log, &reporter);
            if let Err(error) = &outcome {
                tracing::error!("{error}");
                reporter.failed(error);
            }
            outcome
        }
    }
}

/// The process in the background leaves the directory that it was started in.
fn absolute_paths(args: &mut MountArgs) -> Result<(), Failure> {
    let paths = [
        &mut args.state.state_dir,
        &mut args.log.log_file,
        &mut args.store.ca_bundle,
        &mut args.disk_cache.disk_cache_dir,
    ];
    for path in paths.into_iter().flatten() {
        *path = absolute(path)?;
    }
    Ok(())
}

fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path).map_err(|error| {
        Failure::usage(
            format!("path {}: {error}", path.display()),
            "give another path",
        )
    })
}

/// Everything after the fork.
fn work(
    config: SessionConfig,
    secret: Secret,
    log: &LogArgs,
    reporter: &Reporter,
) -> Result<(), Failure> {
    runtime::block_on(async {
        let observer = TerminalObserver::start(reporter, log)?;
        session::mount_and_serve(config, secret, &observer).await
    })
}
