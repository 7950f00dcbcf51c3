//! `strongroom key`: the secrets that unlock a volume, and the keys that it is sealed with.

mod rotate;
mod slots;

use std::io::Write;

use clap::{Args, Subcommand};

use self::{
    rotate::RotateArgs,
    slots::{AddArgs, ChangeArgs, LabelArgs, RemoveArgs},
};
use super::{
    args::{SecretArgs, StoreArgs, TrustArgs},
    info, runtime, secret,
};
use crate::{
    seal::{
        keys::make_process_undumpable,
        volume::{Secret, SlotInfo},
    },
    session::{
        self, Failure, Opened, connect,
        slot_notes::{self, SlotNote},
        state::Trust,
    },
    store::{S3Url, Store},
    telemetry::shown_json,
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
    /// Make a new key for what is written from now on, or write everything anew under the newest
    #[command(long_about = rotate::LONG_ABOUT)]
    Rotate(Box<RotateArgs>),
}

/// The volume and the way to unlock its header, which all subcommands need. Options that follow
/// these would come under the heading of the last of them, so a subcommand's own stand before.
#[derive(Args, Debug)]
struct VolumeArgs {
    /// The volume: s3://bucket/prefix
    #[arg(index = 1)]
    url: String,

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
    #[command(flatten)]
    volume: VolumeArgs,
}

/// `strongroom key list URL`
#[derive(Args, Debug)]
struct ListArgs {
    /// Print JSON instead of lines
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    volume: VolumeArgs,
}

/// Runs the command.
pub fn run(args: KeyArgs) -> Result<(), Failure> {
    // If the system refuses, the secrets are as safe as in any other program's memory.
    let _ = make_process_undumpable();
    match args.command {
        KeyCommand::Add(args) => slots::add(&args),
        KeyCommand::Remove(args) => slots::remove(&args),
        KeyCommand::List(args) => list(&args),
        KeyCommand::Change(args) => slots::change(&args),
        KeyCommand::Label(args) => slots::label(&args),
        KeyCommand::Test(args) => test(&args),
        KeyCommand::Rotate(args) => rotate::run(&args),
    }
}

fn list(args: &ListArgs) -> Result<(), Failure> {
    let volume = &args.volume;
    let url = session::parse_url(&volume.url)?;
    let secret = secret::named_secret(&volume.secret)?;
    runtime::block_on(async {
        let (header, notes) = match secret {
            Some(secret) => {
                let opened = volume.open(&url, secret).await?;
                let notes = notes_of(&opened).await.unwrap_or_else(say_of_notes);
                (opened.loaded.header, notes)
            }
            None => {
                let store = connect(&url, &volume.store.settings()).await?;
                let trust = volume.trust.of(&store)?;
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
            if header.epochs().count() > 1 {
                say(&info::epochs_line(&header));
            }
        }
        Ok(())
    })
}

fn test(args: &TestArgs) -> Result<(), Failure> {
    args.volume.with_opened(async |opened| {
        let slot = opened.unlocked.slot;
        let kind = opened.loaded.header.slots().find(|found| found.id == slot);
        let kind = kind.map_or("slot", |found| found.kind.name());
        say(&format!("slot {slot}, a {kind}, opens the volume"));
        Ok(())
    })
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

impl VolumeArgs {
    /// Opens the volume with the secret that is named, or one that is asked for, and does `work`.
    fn with_opened(
        &self,
        work: impl AsyncFn(Opened) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let url = session::parse_url(&self.url)?;
        secret::with_secret(&self.secret, |secret| {
            runtime::block_on(async { work(self.open(&url, secret).await?).await })
        })
    }

    async fn open(&self, url: &S3Url, secret: Secret) -> Result<Opened, Failure> {
        let store = connect(url, &self.store.settings()).await?;
        let trust = self.trust.of(&store)?;
        open(&store, trust, secret).await
    }
}

/// Loads and unlocks the header, and compares it with this machine's knowledge: an old header that
/// is served again must not be written back as the newest.
async fn open(store: &Store, trust: Trust, secret: Secret) -> Result<Opened, Failure> {
    let opened = Opened::open(store, secret, trust, u64::MAX).await?;
    opened.trust.adopt_header(&opened.loaded.header);
    Ok(opened)
}

fn say(line: &str) {
    // A reader that has gone is no error.
    let _ = writeln!(std::io::stdout(), "{line}");
}
