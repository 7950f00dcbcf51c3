//! Options that several subcommands share.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum, builder::PossibleValue};

use super::values::{parse_log_level, parse_rate, parse_size};
use crate::{
    session::{
        Accept, Durability, Failure, StoreSettings,
        state::{self, Trust},
    },
    store::{Rates, Store},
    telemetry::{LogFormat, LogTarget},
};

/// Where the store is and how to speak to it. Unset options come from where AWS users have them:
/// the environment, profiles, `AWS_ENDPOINT_URL_S3`, instance roles.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Store")]
pub struct StoreArgs {
    /// The S3 endpoint; by default AWS_ENDPOINT_URL_S3, the profile's, or that of AWS
    #[arg(long, value_name = "URL")]
    pub endpoint_url: Option<String>,

    /// The region; by default AWS_REGION or the profile's
    #[arg(long, value_name = "REGION")]
    pub region: Option<String>,

    /// The profile of the AWS configuration files to use
    #[arg(long, value_name = "NAME")]
    pub profile: Option<String>,

    /// A PEM file of certificate authorities to trust instead of the system's
    #[arg(long, value_name = "FILE")]
    pub ca_bundle: Option<PathBuf>,

    /// Put the bucket's name into the path; by default so where the endpoint is not AWS
    #[arg(long)]
    pub path_style: bool,

    /// The most that is sent to the store, in bytes a second, for instance 5MiB
    #[arg(long, value_name = "SIZE", value_parser = parse_rate)]
    pub max_upload_rate: Option<u64>,

    /// The most that is received from the store, in bytes a second
    #[arg(long, value_name = "SIZE", value_parser = parse_rate)]
    pub max_download_rate: Option<u64>,
}

impl StoreArgs {
    /// Returns these options as the settings that a session takes.
    pub fn settings(&self) -> StoreSettings {
        StoreSettings {
            endpoint_url: self.endpoint_url.clone(),
            region: self.region.clone(),
            profile: self.profile.clone(),
            ca_bundle: self.ca_bundle.clone(),
            path_style: self.path_style,
            rates: Rates {
                upload: self.max_upload_rate,
                download: self.max_download_rate,
            },
        }
    }
}

/// How the volume is unlocked. Without any of these the passphrase comes from
/// STRONGROOM_PASSPHRASE_FILE, from the systemd credential `strongroom.passphrase`, or is asked for
/// on the terminal.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Key")]
#[group(multiple = false)]
pub struct SecretArgs {
    /// Read the passphrase from this file (one line break at its end does not count)
    #[arg(long, value_name = "FILE")]
    pub passphrase_file: Option<PathBuf>,

    /// Take the passphrase from the output of this shell command
    #[arg(long, value_name = "COMMAND")]
    pub passphrase_command: Option<String>,

    /// Unlock with a key file (at least 32 random bytes)
    #[arg(long, value_name = "FILE")]
    pub key_file: Option<PathBuf>,

    /// Unlock with the recovery key in this file
    #[arg(long, value_name = "FILE")]
    pub recovery_key_file: Option<PathBuf>,
}

/// The secret of a slot to be made. Without any of these a new passphrase is asked for on the
/// terminal, twice.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "New slot")]
#[group(multiple = false)]
pub struct NewSecretArgs {
    /// Read the new passphrase from this file
    #[arg(long, value_name = "FILE")]
    pub new_passphrase_file: Option<PathBuf>,

    /// Take the new passphrase from the output of this shell command
    #[arg(long, value_name = "COMMAND")]
    pub new_passphrase_command: Option<String>,

    /// Use this key file (at least 32 random bytes)
    #[arg(long, value_name = "FILE")]
    pub new_key_file: Option<PathBuf>,

    /// Make a recovery key and write it to this file, which must not exist
    #[arg(long, value_name = "FILE")]
    pub new_recovery_key_file: Option<PathBuf>,
}

/// Where the log goes.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Log")]
pub struct LogArgs {
    /// How much is logged: error, warn, info, debug, trace, or a filter such as
    /// `info,strongroom::data=debug`
    #[arg(long, value_name = "LEVEL", value_parser = parse_log_level)]
    pub log_level: Option<String>,

    /// Append the log to this file
    #[arg(long, value_name = "FILE")]
    pub log_file: Option<PathBuf>,

    /// The size at which the log file is begun anew; the one before is kept as FILE.1 (0: never)
    #[arg(long, value_name = "SIZE", default_value = "16MiB", value_parser = parse_size)]
    pub log_max_size: u64,

    /// The shape of the lines: text, or a JSON object each
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "text")]
    pub log_format: LogFormat,
}

impl LogArgs {
    /// The file that is logged to, of this name.
    pub fn target<'a>(&self, path: &'a Path) -> LogTarget<'a> {
        LogTarget {
            path,
            size_max: self.log_max_size,
        }
    }
}

/// Where this machine keeps its knowledge of volumes.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Trust")]
pub struct StateArgs {
    /// Where this machine keeps logs, control sockets and its notes about volumes
    #[arg(long, value_name = "DIR", env = "STRONGROOM_STATE_DIR")]
    pub state_dir: Option<PathBuf>,
}

impl StateArgs {
    /// The directory that was named, or else [`state::default_root`].
    ///
    /// # Errors
    /// Those of the latter.
    pub fn root(&self) -> Result<PathBuf, Failure> {
        match &self.state_dir {
            Some(dir) => Ok(dir.clone()),
            None => state::default_root(),
        }
    }
}

/// The deviations that the user accepts for once.
#[derive(Args, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[command(next_help_heading = "Trust")]
pub struct AcceptArgs {
    /// Accept a volume that is older than this machine has seen it, or on another branch of its
    /// history
    #[arg(long)]
    pub allow_rollback: bool,

    /// Accept another volume than the one that this machine knows at this URL
    #[arg(long)]
    pub allow_other_volume: bool,
}

impl From<AcceptArgs> for Accept {
    fn from(args: AcceptArgs) -> Accept {
        Accept {
            allow_rollback: args.allow_rollback,
            allow_other_volume: args.allow_other_volume,
        }
    }
}

/// The options of the commands that look at a header.
#[derive(Args, Clone, Debug, Default)]
pub struct TrustArgs {
    #[command(flatten)]
    accept: AcceptArgs,

    #[command(flatten)]
    state: StateArgs,
}

impl TrustArgs {
    /// The checks of the volume at the place of `store`.
    ///
    /// # Errors
    /// There is no state directory that can be trusted.
    pub fn of(&self, store: &Store) -> Result<Trust, Failure> {
        Ok(Trust::new(&self.state.root()?, store, self.accept.into()))
    }
}

impl ValueEnum for LogFormat {
    fn value_variants<'a>() -> &'a [LogFormat] {
        &[LogFormat::Text, LogFormat::Json]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        let (name, help) = match self {
            LogFormat::Text => (
                "text",
                "Lines for people, and for the journal where that reads them",
            ),
            LogFormat::Json => ("json", "A JSON object a line"),
        };
        Some(PossibleValue::new(name).help(help))
    }
}

impl ValueEnum for Durability {
    fn value_variants<'a>() -> &'a [Durability] {
        &[Durability::Fsync, Durability::Close]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        let help = match self {
            Durability::Fsync => "As a local disk: `close` does not wait, `fsync` does",
            Durability::Close => "`close` waits too until the file is in the store",
        };
        Some(PossibleValue::new(self.name()).help(help))
    }
}
