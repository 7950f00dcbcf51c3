//! `strongroom.json` as bytes. Decoding is strict, and encoding gives the same bytes for the same
//! header.

use serde::{Deserialize, Serialize};

use super::{
    Argon2Params, DERIVATION_MAX_KIB_PASSES, EPOCHS_MAX, FORMAT, HEADER_FILE_LEN_MAX, HeaderError,
    SLOTS_MAX, SlotId, SlotKind, VolumeHeader, WrappedEpoch, slot::Slot,
};
use crate::{
    seal::keys::{Epoch, VolumeId},
    telemetry::shown,
};

/// Longer reasons are cut: they may quote a field's name, which the writer of the file chose.
const REASON_CHARS_MAX: usize = 200;

/// The one field that must stay where it is in every format to come.
#[derive(Deserialize)]
struct FormatJson {
    format: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct HeaderJson {
    format: u64,
    volume: String,
    revision: u64,
    epochs: Vec<EpochJson>,
    slots: Vec<SlotJson>,
    mac: String,
    checksum: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct EpochJson {
    epoch: u32,
    wrapped: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SlotJson {
    id: u32,
    kind: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    argon2id: Option<Argon2Json>,
    salt: String,
    wrapped: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Argon2Json {
    passes: u32,
    memory_kib: u32,
    lanes: u32,
}

fn hex(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(bytes)
}

fn damaged(why: impl Into<String>) -> HeaderError {
    HeaderError::Damaged(shown(&why.into(), REASON_CHARS_MAX))
}

/// Exactly `N` bytes from lowercase hexadecimal.
fn unhex<const N: usize>(text: &str, what: &str) -> Result<[u8; N], HeaderError> {
    unhex_vec(text, what)?
        .try_into()
        .map_err(|_| damaged(format!("{what} has the wrong length")))
}

fn unhex_vec(text: &str, what: &str) -> Result<Vec<u8>, HeaderError> {
    data_encoding::HEXLOWER
        .decode(text.as_bytes())
        .map_err(|_| damaged(format!("{what} is not hexadecimal")))
}

#[expect(
    clippy::expect_used,
    reason = "a struct of numbers and strings has a JSON form, and memory takes it"
)]
pub(super) fn encode(header: &VolumeHeader) -> Vec<u8> {
    let json = HeaderJson {
        format: FORMAT,
        volume: header.volume.to_string(),
        revision: header.revision,
        epochs: header
            .epochs
            .iter()
            .map(|epoch| EpochJson {
                epoch: epoch.epoch.0,
                wrapped: hex(&epoch.wrapped),
            })
            .collect(),
        slots: header.slots.iter().map(slot_json).collect(),
        mac: hex(&header.mac),
        checksum: hex(&header.checksum()),
    };
    let mut bytes = serde_json::to_vec_pretty(&json).expect("plain data");
    bytes.push(b'\n');
    bytes
}

fn slot_json(slot: &Slot) -> SlotJson {
    SlotJson {
        id: slot.id.0,
        kind: slot.kind().name().to_owned(),
        argon2id: slot.argon2().map(
            |Argon2Params {
                 passes,
                 memory_kib,
                 lanes,
             }| Argon2Json {
                passes,
                memory_kib,
                lanes,
            },
        ),
        salt: hex(slot.salt()),
        wrapped: hex(&slot.wrapped),
    }
}

pub(super) fn parse(bytes: &[u8]) -> Result<VolumeHeader, HeaderError> {
    let (header, checksum) = parse_parts(bytes)?;
    if header.checksum() != checksum {
        return Err(damaged("its checksum does not match"));
    }
    Ok(header)
}

/// Decodes without looking at the checksum.
#[cfg(any(fuzzing, test))]
pub(super) fn parse_unchecked(bytes: &[u8]) -> Result<VolumeHeader, HeaderError> {
    parse_parts(bytes).map(|(header, _)| header)
}

/// The header and the checksum that stands in it.
fn parse_parts(bytes: &[u8]) -> Result<(VolumeHeader, [u8; 32]), HeaderError> {
    if bytes.len() as u64 > HEADER_FILE_LEN_MAX {
        return Err(damaged(format!(
            "it is larger than {HEADER_FILE_LEN_MAX} bytes"
        )));
    }
    // The texts of serde_json name a position and a field, never a value that could be secret;
    // nothing in a header is.
    let FormatJson { format } =
        serde_json::from_slice(bytes).map_err(|error| damaged(error.to_string()))?;
    match format {
        FORMAT => {}
        0 => return Err(damaged("format 0 does not exist")),
        newer => return Err(HeaderError::NewerFormat(newer)),
    }
    let json: HeaderJson =
        serde_json::from_slice(bytes).map_err(|error| damaged(error.to_string()))?;
    let header = VolumeHeader {
        volume: VolumeId(unhex(&json.volume, "volume")?),
        revision: json.revision,
        epochs: epochs(json.epochs)?,
        slots: slots(json.slots)?,
        mac: unhex(&json.mac, "mac")?,
    };
    Ok((header, unhex(&json.checksum, "checksum")?))
}

fn epochs(json: Vec<EpochJson>) -> Result<Vec<WrappedEpoch>, HeaderError> {
    if json.is_empty() || json.len() > EPOCHS_MAX {
        return Err(damaged(format!("it must have 1 to {EPOCHS_MAX} epochs")));
    }
    if !json.is_sorted_by(|a, b| a.epoch < b.epoch) {
        return Err(damaged("epochs are not in ascending order"));
    }
    json.into_iter()
        .map(|epoch| {
            Ok(WrappedEpoch {
                epoch: Epoch(epoch.epoch),
                wrapped: unhex(&epoch.wrapped, "wrapped epoch key")?,
            })
        })
        .collect()
}

fn slots(json: Vec<SlotJson>) -> Result<Vec<Slot>, HeaderError> {
    if json.is_empty() || json.len() > SLOTS_MAX {
        return Err(damaged(format!("it must have 1 to {SLOTS_MAX} key slots")));
    }
    if !json.is_sorted_by(|a, b| a.id < b.id) {
        return Err(damaged("key slots are not in ascending order"));
    }
    let slots: Vec<Slot> = json.into_iter().map(slot).collect::<Result<_, _>>()?;
    let argon2 = slots.iter().filter_map(Slot::argon2);
    if argon2.map(|params| params.cost_kib_passes()).sum::<u64>() > DERIVATION_MAX_KIB_PASSES {
        return Err(damaged(
            "its key slots ask for more key derivation than 32 slots of the default cost",
        ));
    }
    Ok(slots)
}

fn slot(json: SlotJson) -> Result<Slot, HeaderError> {
    let id = SlotId(json.id);
    let kind = SlotKind::from_name(&json.kind)
        .ok_or_else(|| damaged(format!("slot {id} is of no known kind")))?;
    let argon2 = json.argon2id.map(
        |Argon2Json {
             passes,
             memory_kib,
             lanes,
         }| Argon2Params {
            passes,
            memory_kib,
            lanes,
        },
    );
    if let Some(params) = &argon2 {
        params
            .check()
            .map_err(|error| damaged(format!("slot {id}: {error}")))?;
    }
    let salt = unhex_vec(&json.salt, "salt")?;
    let wrapped = unhex(&json.wrapped, "wrapped master key")?;
    Slot::assemble(id, kind, argon2, salt, wrapped)
        .ok_or_else(|| damaged(format!("slot {id}: its parameters do not fit a {kind}")))
}
