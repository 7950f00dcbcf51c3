//! `strongroom key`: the secrets that unlock a volume.

use std::io::Write;

use clap::{Args, Subcommand};

use super::{
    args::{NewSecretArgs, SecretArgs, StoreArgs, TrustArgs},
    info, runtime, secret,
};
use crate::{
    seal::{
        keys::make_process_undumpable,
        volume::{Argon2Params, Secret, SlotId},
    },
    session::{self, Failure, Opened, connect, slots},
    store::S3Url,
};

/// `strongroom key ...`
#[derive(Args, Debug)]
pub struct KeyArgs {
    /// The subcommand
    #[command(subcommand)]
    command: KeyCommand,
}

#[derive(Subcommand, Debug)]
enum KeyCommand {
    /// Add a slot: a passphrase, a key file or a recovery key
    Add(AddArgs),
    /// Remove a slot; the last one stays
    Remove(RemoveArgs),
    /// List the slots; needs no key
    List(ListArgs),
    /// Give a slot another secret
    Change(ChangeArgs),
}

/// `strongroom key add URL`
#[derive(Args, Debug)]
struct AddArgs {
    /// The volume: s3://bucket/prefix
    url: String,

    #[command(flatten)]
    secret: SecretArgs,

    #[command(flatten)]
    new: NewSecretArgs,

    #[command(flatten)]
    store: StoreArgs,

    #[command(flatten)]
    trust: TrustArgs,
}

/// `strongroom key remove URL SLOT`
#[derive(Args, Debug)]
struct RemoveArgs {
    /// The volume: s3://bucket/prefix
    url: String,

    /// The slot's number, from `key list`
    slot: u32,

    #[command(flatten)]
    secret: SecretArgs,

    #[command(flatten)]
    store: StoreArgs,

    #[command(flatten)]
    trust: TrustArgs,
}

/// `strongroom key list URL`
#[derive(Args, Debug)]
struct ListArgs {
    /// The volume: s3://bucket/prefix
    url: String,

    /// Print JSON instead of lines
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    store: StoreArgs,

    #[command(flatten)]
    trust: TrustArgs,
}

/// `strongroom key change URL`
#[derive(Args, Debug)]
struct ChangeArgs {
    /// The volume: s3://bucket/prefix
    url: String,

    /// The slot's number. By default the one that the given secret opens, if it is of the new
    /// secret's kind; with the recovery key, the only one of that kind
    #[arg(long, value_name = "NUMBER")]
    slot: Option<u32>,

    #[command(flatten)]
    secret: SecretArgs,

    #[command(flatten)]
    new: NewSecretArgs,

    #[command(flatten)]
    store: StoreArgs,

    #[command(flatten)]
    trust: TrustArgs,
}

/// Runs the command.
pub fn run(args: KeyArgs) -> Result<(), Failure> {
    // If the system refuses, the secrets are as safe as in any other program's memory.
    let _ = make_process_undumpable();
    match args.command {
        KeyCommand::Add(args) => add(args),
        KeyCommand::Remove(args) => remove(args),
        KeyCommand::List(args) => list(args),
        KeyCommand::Change(args) => change(args),
    }
}

fn add(args: AddArgs) -> Result<(), Failure> {
    let url = session::parse_url(&args.url)?;
    let secret = secret::unlock_secret(&args.secret)?;
    runtime::block_on(async {
        let mut opened = open(&url, &args.store, &args.trust, secret).await?;
        let new = secret::new_secret(&args.new, &args.url)?;
        let slot = opened
            .loaded
            .header
            .add_slot(&opened.unlocked.master, &new, Argon2Params::default())
            .map_err(slots::failure)?;
        slots::save(&opened).await?;
        say(&format!("added slot {slot}, a {}", new.kind()));
        Ok(())
    })
}

fn remove(args: RemoveArgs) -> Result<(), Failure> {
    let url = session::parse_url(&args.url)?;
    let secret = secret::unlock_secret(&args.secret)?;
    runtime::block_on(async {
        let mut opened = open(&url, &args.store, &args.trust, secret).await?;
        let slot = SlotId(args.slot);
        opened
            .loaded
            .header
            .remove_slot(&opened.unlocked.master, slot)
            .map_err(slots::failure)?;
        slots::save(&opened).await?;
        say(&format!("removed slot {slot}"));
        Ok(())
    })
}

fn list(args: ListArgs) -> Result<(), Failure> {
    let url = session::parse_url(&args.url)?;
    runtime::block_on(async {
        let store = connect(&url, &args.store.settings()).await?;
        let trust = args.trust.of(&store)?;
        let loaded = session::load_header(&store).await?;
        trust.check_header(&loaded.header)?;
        if args.json {
            let slots: Vec<_> = loaded
                .header
                .slots()
                .map(|slot| info::slot_json(&slot))
                .collect();
            say(&format!("{:#}", serde_json::Value::from(slots)));
        } else {
            for slot in loaded.header.slots() {
                say(&info::slot_line(&slot));
            }
        }
        Ok(())
    })
}

fn change(args: ChangeArgs) -> Result<(), Failure> {
    let url = session::parse_url(&args.url)?;
    let secret = secret::unlock_secret(&args.secret)?;
    runtime::block_on(async {
        let mut opened = open(&url, &args.store, &args.trust, secret).await?;
        let slot = match args.slot {
            Some(slot) => SlotId(slot),
            None => slots::to_change(&opened, secret::new_kind(&args.new))?,
        };
        let new = secret::new_secret(&args.new, &args.url)?;
        opened
            .loaded
            .header
            .change_slot(&opened.unlocked.master, slot, &new, Argon2Params::default())
            .map_err(slots::failure)?;
        slots::save(&opened).await?;
        say(&format!("slot {slot} is a {} now", new.kind()));
        Ok(())
    })
}

/// Reaches the store, loads and unlocks the header, and compares it with this machine's knowledge:
/// an old header that is served again must not be written back as the newest.
async fn open(
    url: &S3Url,
    store: &StoreArgs,
    trust: &TrustArgs,
    secret: Secret,
) -> Result<Opened, Failure> {
    let store = connect(url, &store.settings()).await?;
    let trust = trust.of(&store)?;
    let opened = Opened::open(&store, secret, trust, u64::MAX).await?;
    opened.trust.adopt_header(&opened.loaded.header);
    Ok(opened)
}

fn say(line: &str) {
    // A reader that has gone is no error.
    let _ = writeln!(std::io::stdout(), "{line}");
}
