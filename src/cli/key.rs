//! `strongroom key`: the secrets that unlock a volume.

use std::io::Write;

use clap::{Args, Subcommand};

use super::{
    args::{NewSecretArgs, SecretArgs, StoreArgs, TrustArgs},
    info, runtime, secret,
    values::parse_label,
};
use crate::{
    seal::{
        keys::make_process_undumpable,
        volume::{Argon2Params, Secret, SlotError, SlotId, SlotInfo},
    },
    session::{
        self, Failure, Opened, connect,
        slot_notes::{self, LABEL_CHARS_MAX, SlotNote},
        slots,
    },
    store::S3Url,
    telemetry::{shown, shown_json},
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
    /// List the slots; needs no key. With one it shows their labels, times and hosts too
    List(ListArgs),
    /// Give a slot another secret
    Change(ChangeArgs),
    /// Give a slot a name, for people
    Label(LabelArgs),
    /// Tell which slot a secret opens
    Test(TestArgs),
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

    /// A name for the slot, for people; it is sealed like the files
    #[arg(long, value_name = "TEXT", value_parser = parse_label)]
    label: Option<String>,

    #[command(flatten)]
    store: StoreArgs,

    #[command(flatten)]
    trust: TrustArgs,
}

/// `strongroom key label URL SLOT TEXT`
#[derive(Args, Debug)]
struct LabelArgs {
    /// The volume: s3://bucket/prefix
    url: String,

    /// The slot's number, from `key list`
    slot: u32,

    /// The name; empty for none
    #[arg(value_parser = parse_label)]
    label: String,

    #[command(flatten)]
    secret: SecretArgs,

    #[command(flatten)]
    store: StoreArgs,

    #[command(flatten)]
    trust: TrustArgs,
}

/// `strongroom key test URL`
#[derive(Args, Debug)]
struct TestArgs {
    /// The volume: s3://bucket/prefix
    url: String,

    #[command(flatten)]
    secret: SecretArgs,

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
    secret: SecretArgs,

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
        KeyCommand::Label(args) => label(&args),
        KeyCommand::Test(args) => test(&args),
    }
}

fn add(args: AddArgs) -> Result<(), Failure> {
    let url = session::parse_url(&args.url)?;
    with_opened(
        &url,
        &args.secret,
        &args.store,
        &args.trust,
        async |mut opened| {
            let new = secret::new_secret(&args.new, &args.url)?;
            let slot = opened
                .loaded
                .header
                .add_slot(&opened.unlocked.master, &new, Argon2Params::default())
                .map_err(slots::failure)?;
            slots::save(&opened).await?;
            say(&format!("added slot {slot}, a {}", new.kind()));
            note_made(&opened, slot, args.label.clone()).await;
            Ok(())
        },
    )
}

fn remove(args: RemoveArgs) -> Result<(), Failure> {
    let url = session::parse_url(&args.url)?;
    with_opened(
        &url,
        &args.secret,
        &args.store,
        &args.trust,
        async |mut opened| {
            let slot = SlotId(args.slot);
            opened
                .loaded
                .header
                .remove_slot(&opened.unlocked.master, slot)
                .map_err(slots::failure)?;
            slots::save(&opened).await?;
            say(&format!("removed slot {slot}"));
            Ok(())
        },
    )
}

fn list(args: ListArgs) -> Result<(), Failure> {
    let url = session::parse_url(&args.url)?;
    let secret = secret::named_secret(&args.secret)?;
    runtime::block_on(async {
        let (header, notes) = match secret {
            Some(secret) => {
                let opened = open(&url, &args.store, &args.trust, secret).await?;
                let notes = notes_of(&opened).await.unwrap_or_else(say_of_notes);
                (opened.loaded.header, notes)
            }
            None => {
                let store = connect(&url, &args.store.settings()).await?;
                let trust = args.trust.of(&store)?;
                let loaded = session::load_header(&store).await?;
                trust.check_header(&loaded.header)?;
                (loaded.header, Vec::new())
            }
        };
        let note_on = |slot: &SlotInfo| notes.iter().find(|note| note.slot == slot.id.0);
        if args.json {
            let slots: Vec<_> = header
                .slots()
                .map(|slot| info::slot_json(&slot, note_on(&slot)))
                .collect();
            say(&shown_json(&format!(
                "{:#}",
                serde_json::Value::from(slots)
            )));
        } else {
            for slot in header.slots() {
                say(&info::slot_line(&slot, note_on(&slot)));
            }
        }
        Ok(())
    })
}

fn change(args: ChangeArgs) -> Result<(), Failure> {
    let url = session::parse_url(&args.url)?;
    with_opened(
        &url,
        &args.secret,
        &args.store,
        &args.trust,
        async |mut opened| {
            let slot = match args.slot {
                Some(slot) => SlotId(slot),
                None => slots::to_change(&opened, secret::new_kind(&args.new))?,
            };
            let new = secret::new_secret(&args.new, &args.url)?;
            // The label stays: it names whose slot it is, not which secret.
            let before = notes_of(&opened).await.unwrap_or_else(say_of_notes);
            let label = before.into_iter().find(|note| note.slot == slot.0);
            opened
                .loaded
                .header
                .change_slot(&opened.unlocked.master, slot, &new, Argon2Params::default())
                .map_err(slots::failure)?;
            slots::save(&opened).await?;
            say(&format!("slot {slot} is a {} now", new.kind()));
            note_made(&opened, slot, label.and_then(|note| note.label)).await;
            Ok(())
        },
    )
}

fn label(args: &LabelArgs) -> Result<(), Failure> {
    let url = session::parse_url(&args.url)?;
    with_opened(
        &url,
        &args.secret,
        &args.store,
        &args.trust,
        async |opened| {
            let (header, slot) = (&opened.loaded.header, SlotId(args.slot));
            let made = slot_notes::made_here(header, slot)
                .ok_or_else(|| slots::failure(SlotError::NoSuchSlot(slot)))?;
            let label = (!args.label.is_empty()).then(|| args.label.clone());
            let keys = &opened.unlocked.keys;
            slot_notes::change(&opened.store, keys, header, |notes| {
                match notes.iter_mut().find(|note| note.slot == slot.0) {
                    Some(note) => note.label = label.clone(),
                    None => notes.push(SlotNote {
                        label: label.clone(),
                        // It is not known when it was made.
                        made_unix_seconds: None,
                        host: None,
                        ..made.clone()
                    }),
                }
            })
            .await?;
            say(&match &args.label {
                none if none.is_empty() => format!("slot {slot} has no label now"),
                label => format!("slot {slot} is \"{}\" now", shown(label, LABEL_CHARS_MAX)),
            });
            Ok(())
        },
    )
}

fn test(args: &TestArgs) -> Result<(), Failure> {
    let url = session::parse_url(&args.url)?;
    with_opened(
        &url,
        &args.secret,
        &args.store,
        &args.trust,
        async |opened| {
            let slot = opened.unlocked.slot;
            let kind = opened.loaded.header.slots().find(|found| found.id == slot);
            let kind = kind.map_or("slot", |found| found.kind.name());
            say(&format!("slot {slot}, a {kind}, opens the volume"));
            Ok(())
        },
    )
}

/// The notes on the slots of an open volume.
async fn notes_of(opened: &Opened) -> Result<Vec<SlotNote>, Failure> {
    let (keys, header) = (&opened.unlocked.keys, &opened.loaded.header);
    slot_notes::load(&opened.store, keys, header).await
}

/// Notes are remarks: a command goes on without them, and says so.
fn say_of_notes(error: Failure) -> Vec<SlotNote> {
    let _ = writeln!(std::io::stderr(), "strongroom: {error}");
    Vec::new()
}

/// Notes when and where a slot was made. The slot is there already: if this fails, it is said, and
/// the command has succeeded all the same.
async fn note_made(opened: &Opened, slot: SlotId, label: Option<String>) {
    let (keys, header) = (&opened.unlocked.keys, &opened.loaded.header);
    let Some(made) = slot_notes::made_here(header, slot) else {
        return;
    };
    let made = SlotNote { label, ..made };
    let noted = slot_notes::change(&opened.store, keys, header, |notes| {
        notes.retain(|note| note.slot != slot.0);
        notes.push(made.clone());
    });
    if let Err(error) = noted.await {
        let _ = writeln!(
            std::io::stderr(),
            "strongroom: the label of slot {slot} was not written: {error}"
        );
    }
}

/// Opens the volume with the secret that `secret` names, or one that is asked for, and does `work`.
fn with_opened(
    url: &S3Url,
    secret: &SecretArgs,
    store: &StoreArgs,
    trust: &TrustArgs,
    work: impl AsyncFn(Opened) -> Result<(), Failure>,
) -> Result<(), Failure> {
    secret::with_secret(secret, |secret| {
        runtime::block_on(async { work(open(url, store, trust, secret).await?).await })
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
