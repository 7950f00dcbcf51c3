//! The options of commands that open a volume without mounting it.

use std::io::Write;

use clap::Args;

use super::{
    args::{AcceptArgs, LogArgs, SecretArgs, StateArgs, StoreArgs},
    secret,
    values::parse_memory,
};
use crate::{
    seal::keys::make_process_undumpable,
    session::{self, Failure, Fingerprint, MemorySize, VisitConfig, parse_url},
    telemetry,
};

/// The log level without `--log-level`; the findings tell the rest.
const LOG_LEVEL: &str = "error";

/// The options that `fsck` and `gc` share.
#[derive(Args, Debug)]
pub struct VisitArgs {
    /// The volume: s3://bucket/prefix
    #[arg(value_name = "URL")]
    pub url: String,

    /// Take the volume from a mount that is dead. One that lives after all stops with EIO and loses
    /// what was not durable
    #[arg(long)]
    pub takeover: bool,

    #[allow(missing_docs)] // The text would become help.
    #[command(flatten)]
    pub open: OpenArgs,
}

/// The options of all commands that open a volume without mounting it.
#[derive(Args, Debug)]
pub struct OpenArgs {
    /// The memory that the whole process stays below: a size of at least 128MiB, or a percentage of
    /// what the machine or its control group has [default: 512MiB, or what the group allows]
    #[arg(long, value_name = "SIZE", value_parser = parse_memory)]
    pub memory: Option<MemorySize>,

    /// Go on only if the volume is in the state with this fingerprint, or in a later one
    #[arg(long, value_name = "FINGERPRINT", help_heading = "Trust")]
    pub expect: Option<Fingerprint>,

    #[allow(missing_docs)] // The text would become help.
    #[command(flatten)]
    pub accept: AcceptArgs,

    #[allow(missing_docs)] // The text would become help.
    #[command(flatten)]
    pub state: StateArgs,

    #[allow(missing_docs)] // The text would become help.
    #[command(flatten)]
    pub secret: SecretArgs,

    #[allow(missing_docs)] // The text would become help.
    #[command(flatten)]
    pub store: StoreArgs,

    #[allow(missing_docs)] // The text would become help.
    #[command(flatten)]
    pub log: LogArgs,
}

impl VisitArgs {
    /// As [`OpenArgs::run`], of the volume at `url`.
    ///
    /// # Errors
    /// Those of it.
    pub fn run<T>(
        &self,
        mut work: impl FnMut(VisitConfig) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        self.open.run(&self.url, |config| {
            work(VisitConfig {
                takeover: self.takeover,
                ..config
            })
        })
    }
}

impl OpenArgs {
    /// Makes every check that needs no store, starts the log, and does `work`: again if a
    /// passphrase was typed wrong.
    ///
    /// # Errors
    /// A wrong URL, too little memory, no secret; those of `work`.
    pub fn run<T>(
        &self,
        url: &str,
        mut work: impl FnMut(VisitConfig) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let url = parse_url(url)?;
        let memory_bytes = session::memory_bytes(self.memory)?;
        // If the system refuses, the secrets are as safe as in any other program's memory.
        let _ = make_process_undumpable();
        let level = self.log.log_level.as_deref().unwrap_or(LOG_LEVEL);
        let target = self.log.log_file.as_deref();
        let target = target.map(|path| self.log.target(path));
        telemetry::log::start(level, self.log.log_format, target).map_err(|error| {
            Failure::usage(
                format!("cannot log: {error}"),
                "see --log-level and --log-file",
            )
        })?;
        let state_root = self.state.root()?;
        secret::with_secret(&self.secret, |secret| {
            work(VisitConfig {
                url: url.clone(),
                store: self.store.settings(),
                memory_bytes,
                takeover: false,
                accept: self.accept.into(),
                expect: self.expect,
                secret,
                state_root: state_root.clone(),
            })
        })
    }
}

/// Shows a line while the command waits for the volume.
pub fn tell(line: &str) {
    // Standard error may be closed; there is nobody left to tell then.
    let _ = writeln!(std::io::stderr(), "{line}");
}
