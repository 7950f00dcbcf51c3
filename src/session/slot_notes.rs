//! Notes on key slots, for people: a label, and when and on which host a slot was made.
//!
//! They lie in one sealed control object, so whoever has the bucket but no key learns none of them.
//! Nothing is decided by them: a slot without a note, or with a false one, opens as before.

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{errors, exit::Exit, failure::Failure, lease::Machine};
use crate::{
    clock,
    seal::{
        SealError,
        codec::{META_FRAME_LOG2, ObjectKind, open_whole, seal_whole},
        keys::VolumeKeys,
        volume::{SLOT_NOTES_KEY, SlotId, VolumeHeader},
    },
    store::{Condition, Store, StoreErrorKind},
};

/// The longest object that is read, sealed: 32 notes take a quarter of it.
const BYTES_MAX: u64 = 64 << 10;

/// Characters of a label, at most.
pub const LABEL_CHARS_MAX: usize = 100;

/// Somebody else may change the notes at the same time; so often it is tried again.
const TRIES: usize = 5;

/// A note on one slot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotNote {
    /// The slot.
    pub slot: u32,
    /// The slot's salt, in hexadecimal: a slot that was made anew under the same number has
    /// another.
    pub salt: String,
    /// The user's name for it.
    pub label: Option<String>,
    /// When it was made, by the clock of its maker, if that is known.
    pub made_unix_seconds: Option<i64>,
    /// Where it was made.
    pub host: Option<String>,
}

/// The content of the object.
#[derive(Serialize, Deserialize)]
struct Content {
    /// 1.
    format: u32,
    slots: Vec<SlotNote>,
}

/// Reads the notes on the slots that `header` has, in no order.
///
/// # Errors
/// Those of the store; notes of a newer version, and such as do not open.
pub async fn load(
    store: &Store,
    keys: &Arc<VolumeKeys>,
    header: &VolumeHeader,
) -> Result<Vec<SlotNote>, Failure> {
    let (notes, _) = read(store, keys, header).await?;
    notes.map_err(|error| {
        Failure::new(
            Exit::DamagedHeader,
            format!("the notes on the key slots cannot be read: {error}"),
            "the slots open as before; 'strongroom key label' writes the notes anew",
        )
    })
}

/// Notes that slots were made here and now, or that one has another label. Notes that do not open
/// are written anew.
///
/// # Errors
/// Those of the store; notes of a newer version; others change the notes all the time.
pub async fn change(
    store: &Store,
    keys: &Arc<VolumeKeys>,
    header: &VolumeHeader,
    change: impl Fn(&mut Vec<SlotNote>),
) -> Result<(), Failure> {
    for _ in 0..TRIES {
        let (notes, there) = read(store, keys, header).await?;
        let mut notes = notes.unwrap_or_default();
        change(&mut notes);
        notes.sort_by_key(|note| note.slot);
        let condition = there.map_or(Condition::Absent, Condition::Matches);
        if write(store, keys, notes, condition).await? {
            return Ok(());
        }
    }
    Err(Failure::unexpected(
        "somebody else changes the notes on the slots all the time",
    ))
}

/// Notes that the slots of a new volume were made.
///
/// # Errors
/// Those of the store.
pub async fn begin(
    store: &Store,
    keys: &Arc<VolumeKeys>,
    header: &VolumeHeader,
) -> Result<(), Failure> {
    let made = header.slots().filter_map(|slot| made_here(header, slot.id));
    write(store, keys, made.collect(), Condition::None).await?;
    Ok(())
}

/// The note on a slot that was made on this machine just now.
pub fn made_here(header: &VolumeHeader, slot: SlotId) -> Option<SlotNote> {
    Some(SlotNote {
        slot: slot.0,
        salt: salt_of(header, slot)?,
        label: None,
        made_unix_seconds: Some(clock::unix_seconds()),
        host: Some(Machine::this().host),
    })
}

fn salt_of(header: &VolumeHeader, slot: SlotId) -> Option<String> {
    let salt = header.slot_salt(slot)?;
    Some(data_encoding::HEXLOWER.encode(salt))
}

/// The notes, or why they do not open, and the ETag of the object if there is one.
async fn read(
    store: &Store,
    keys: &Arc<VolumeKeys>,
    header: &VolumeHeader,
) -> Result<(Result<Vec<SlotNote>, SealError>, Option<String>), Failure> {
    let (head, stored) = match store.get_bytes(SLOT_NOTES_KEY, None, BYTES_MAX).await {
        Ok(there) => there,
        Err(error) if error.kind == StoreErrorKind::NotFound => return Ok((Ok(Vec::new()), None)),
        Err(error) => return Err(errors::store(&error, store.url())),
    };
    let text = match open_whole(keys, SLOT_NOTES_KEY, &stored) {
        Ok(text) => text,
        Err(error) => return Ok((Err(error), head.etag)),
    };
    let Ok(Content { format: 1, slots }) = serde_json::from_slice::<Content>(&text) else {
        return Err(Failure::new(
            Exit::NewerFormat,
            "the notes on the key slots were written by a newer version",
            "use a newer strongroom",
        ));
    };
    let belongs = |note: &SlotNote| salt_of(header, SlotId(note.slot)) == Some(note.salt.clone());
    let notes = slots.into_iter().filter(belongs).collect();
    Ok((Ok(notes), head.etag))
}

/// Writes the notes; false if others were there meanwhile.
async fn write(
    store: &Store,
    keys: &Arc<VolumeKeys>,
    slots: Vec<SlotNote>,
    condition: Condition,
) -> Result<bool, Failure> {
    let content = Content { format: 1, slots };
    let text = serde_json::to_vec(&content)
        .map_err(|error| Failure::unexpected(format!("cannot write the notes: {error}")))?;
    let sealed = seal_whole(
        keys,
        ObjectKind::Control,
        META_FRAME_LOG2,
        SLOT_NOTES_KEY,
        &text,
    );
    let pieces = vec![Bytes::from(sealed)];
    let outcome = store.put(SLOT_NOTES_KEY, pieces, condition, &[]).await;
    match outcome {
        Ok(_) => Ok(true),
        Err(error) if error.kind == StoreErrorKind::Precondition => Ok(false),
        Err(error) => Err(errors::store(&error, store.url())),
    }
}
