//! The options of `strongroom mount`.

use std::{path::PathBuf, time::Duration};

use clap::Args;

use super::{
    args::{AcceptArgs, LogArgs, SecretArgs, StateArgs, StoreArgs},
    disk_cache::DiskCacheArgs,
    record_args::RecordArgs,
    values::{parse_duration, parse_follow_every, parse_memory, parse_size},
};
use crate::session::{Durability, Fingerprint, KernelFlag, MemorySize, metrics::MetricsAddress};

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

    /// The memory that the whole process stays below: a size of at least 128MiB, or a percentage of
    /// what the machine or its control group has [default: 512MiB, or what the group allows]
    #[arg(long, value_name = "SIZE", value_parser = parse_memory)]
    pub memory: Option<MemorySize>,

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

    /// The size that `df` shows. What would make the volume larger fails with ENOSPC; without it a
    /// volume grows as long as the bucket takes it
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub capacity: Option<u64>,

    /// Mount for reading only, also beside a writer; its durable changes appear as they come
    #[arg(long)]
    pub read_only: bool,

    /// How often a read-only mount looks for the writer's durable changes; each look is one request
    /// while nothing happens
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = parse_follow_every)]
    pub follow_every: Duration,

    /// Let other users see the mount
    #[arg(long)]
    pub allow_other: bool,

    /// Take the volume from a mount that is dead. One that lives after all stops with EIO and loses
    /// what was not durable
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

    /// Give metrics in the OpenMetrics format over HTTP, to whoever reaches this address: IP:PORT,
    /// such as 127.0.0.1:9464 (path /metrics), or unix:PATH
    #[arg(long, value_name = "ADDRESS")]
    pub metrics_listen: Option<MetricsAddress>,

    #[command(flatten)]
    pub record: RecordArgs,

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

    /// Name paths in the log, beside the inodes that 'strongroom which URL ino:N' names
    #[arg(long, help_heading = "Log")]
    pub log_paths: bool,

    /// Flags from `-o` that the kernel keeps.
    #[arg(skip)]
    pub kernel_flags: Vec<KernelFlag>,
}
