//! Changes of a volume's header: its key slots and its key epochs.

use super::{Opened, errors, exit::Exit, failure::Failure};
use crate::seal::{
    keys::Epoch,
    volume::{EPOCHS_MAX, SaveError, SlotError, SlotId, SlotKind, TooManyEpochs},
};

/// The slot to change if none is named. It is never one that would become another kind, since its
/// old secret may be the recovery key on paper.
///
/// # Errors
/// The choice is not clear.
pub fn to_change(opened: &Opened, new: SlotKind) -> Result<SlotId, Failure> {
    let slots = opened.loaded.header.list();
    let unlocked = slots.iter().find(|slot| slot.id == opened.unlocked.slot);
    let recovering = match unlocked {
        Some(unlocked) if unlocked.kind == new => return Ok(unlocked.id),
        unlocked => unlocked.is_some_and(|slot| slot.kind == SlotKind::RecoveryKey),
    };
    let mut same: Vec<SlotId> = slots
        .iter()
        .filter(|slot| slot.kind == new)
        .map(|slot| slot.id)
        .collect();
    match (recovering, same.pop()) {
        (true, Some(only)) if same.is_empty() => Ok(only),
        _ => Err(Failure::usage(
            format!("it is not clear which slot is to become a {new}"),
            "name it with --slot (see 'strongroom key list'), or use 'strongroom key add'",
        )),
    }
}

/// Writes the changed header over the one that was loaded, and notes it on this machine.
///
/// # Errors
/// The header was changed meanwhile; those of the store.
pub async fn save(opened: &Opened) -> Result<(), Failure> {
    opened
        .loaded
        .header
        .save(&opened.store, opened.loaded.expected.clone())
        .await
        .map_err(|error| match error {
            SaveError::Conflict => Failure::new(
                Exit::Unexpected,
                "the volume header was changed by somebody else at the same time",
                "look at 'strongroom info' and try again",
            ),
            SaveError::Store(error) => errors::store(&error, opened.store.url()),
        })?;
    opened.trust.adopt_header(&opened.loaded.header);
    Ok(())
}

/// Adds a key epoch and writes the header as [`save`] does. Returns the epoch.
///
/// # Errors
/// There are as many as there can be; those of [`save`].
pub async fn rotate(opened: &mut Opened) -> Result<Epoch, Failure> {
    let rotated = opened.loaded.header.rotate(&opened.unlocked.master);
    let epoch = rotated.map_err(|TooManyEpochs| {
        Failure::usage(
            format!("the volume has {EPOCHS_MAX} key epochs, which is as many as there can be"),
            "make a new volume and copy the files into it",
        )
    })?;
    save(opened).await?;
    Ok(epoch)
}

/// The failure for a slot that cannot be changed so.
pub fn failure(error: SlotError) -> Failure {
    match error {
        SlotError::LastSlot(slot) => Failure::new(
            Exit::LastSlot,
            format!("slot {slot} is the last one"),
            "add another before removing it",
        ),
        SlotError::NoSuchSlot(slot) => Failure::usage(
            format!("there is no key slot {slot}"),
            "see 'strongroom key list'",
        ),
        SlotError::TooManySlots => Failure::usage(
            "there are as many key slots as there can be",
            "remove one first",
        ),
        SlotError::Parameters(why) => Failure::unexpected(format!("Argon2id parameters: {why}")),
    }
}
