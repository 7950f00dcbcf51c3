//! Key slots: adding, removing, changing and naming them.

use std::io::Write;

use clap::Args;

use super::{VolumeArgs, notes_of, say, say_of_notes};
use crate::{
    cli::{args::NewSecretArgs, secret, values::parse_label},
    seal::volume::{Argon2Params, SlotError, SlotId},
    session::{
        Failure, Opened,
        slot_notes::{self, LABEL_CHARS_MAX, SlotNote},
        slots,
    },
    telemetry::shown,
};

/// `strongroom key add URL`
#[derive(Args, Debug)]
pub(super) struct AddArgs {
    /// A name for the slot, for people; it is sealed like the files
    #[arg(long, value_name = "TEXT", value_parser = parse_label)]
    label: Option<String>,

    #[command(flatten)]
    volume: VolumeArgs,

    #[command(flatten)]
    new: NewSecretArgs,
}

/// `strongroom key label URL SLOT TEXT`
#[derive(Args, Debug)]
pub(super) struct LabelArgs {
    /// The slot's number, from `key list`
    #[arg(index = 2)]
    slot: u32,

    /// The name; empty for none
    #[arg(index = 3, value_parser = parse_label)]
    label: String,

    #[command(flatten)]
    volume: VolumeArgs,
}

/// `strongroom key remove URL SLOT`
#[derive(Args, Debug)]
pub(super) struct RemoveArgs {
    /// The slot's number, from `key list`
    #[arg(index = 2)]
    slot: u32,

    #[command(flatten)]
    volume: VolumeArgs,
}

/// `strongroom key change URL`
#[derive(Args, Debug)]
pub(super) struct ChangeArgs {
    /// The slot's number. By default the one that the given secret opens, if it is of the new
    /// secret's kind; with the recovery key, the only one of that kind
    #[arg(long, value_name = "NUMBER")]
    slot: Option<u32>,

    #[command(flatten)]
    volume: VolumeArgs,

    #[command(flatten)]
    new: NewSecretArgs,
}

pub(super) fn add(args: &AddArgs) -> Result<(), Failure> {
    args.volume.with_opened(async |mut opened| {
        let new = secret::new_secret(&args.new, &args.volume.url)?;
        let slot = opened
            .loaded
            .header
            .add_slot(&opened.unlocked.master, &new, Argon2Params::default())
            .map_err(slots::failure)?;
        slots::save(&opened).await?;
        say(&format!("added slot {slot}, a {}", new.kind()));
        note_made(&opened, slot, args.label.clone()).await;
        Ok(())
    })
}

pub(super) fn remove(args: &RemoveArgs) -> Result<(), Failure> {
    args.volume.with_opened(async |mut opened| {
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

pub(super) fn change(args: &ChangeArgs) -> Result<(), Failure> {
    args.volume.with_opened(async |mut opened| {
        let slot = match args.slot {
            Some(slot) => SlotId(slot),
            None => slots::to_change(&opened, secret::new_kind(&args.new))?,
        };
        let new = secret::new_secret(&args.new, &args.volume.url)?;
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
    })
}

pub(super) fn label(args: &LabelArgs) -> Result<(), Failure> {
    args.volume.with_opened(async |opened| {
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
    })
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
