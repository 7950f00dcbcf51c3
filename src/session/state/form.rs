//! The two forms in which knowledge of a place is written.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::known::{Known, StateSeen};
use crate::seal::{keys::VolumeId, object_store::LogPosition};

/// The format of a file.
const FORMAT: u32 = 1;
/// Bytes of a line of state: longer than any line needs, so that each line covers the one before it
/// whole.
pub(super) const LINE_LEN: usize = 192;

/// `<volume> <generation> [<log number> <commitment>] <check>`, filled up with spaces.
pub(super) fn line_of(volume: VolumeId, state: &StateSeen) -> String {
    let mut text = format!("{volume} {}", state.generation);
    if let Some(head) = &state.log {
        let commitment = data_encoding::HEXLOWER.encode(&head.commitment);
        text.push_str(&format!(" {} {commitment}", head.number));
    }
    let check = check_of(&text);
    let width = LINE_LEN - 1;
    format!("{:<width$}\n", format!("{text} {check}"))
}

/// The state in a line, if it is whole and of this volume.
pub(super) fn state_in_line(line: &[u8], volume: VolumeId) -> Option<StateSeen> {
    let (text, check) = std::str::from_utf8(line)
        .ok()?
        .trim_end()
        .rsplit_once(' ')?;
    let mut fields = text.split(' ');
    if check != check_of(text) || fields.next()? != volume.to_string() {
        return None;
    }
    let generation = fields.next()?.parse().ok()?;
    let log = match fields.next() {
        Some(number) => Some(LogPosition {
            number: number.parse().ok()?,
            commitment: unhex(fields.next()?)?,
        }),
        None => None,
    };
    Some(StateSeen { generation, log })
}

/// A check by which a torn line shows.
fn check_of(text: &str) -> String {
    let digest = Sha256::digest(text.as_bytes());
    data_encoding::HEXLOWER.encode(digest.get(..8).unwrap_or_default())
}

/// A file.
#[derive(Serialize, Deserialize)]
pub(super) struct KnownJson {
    format: u32,
    /// The place as people read it.
    place: String,
    volume: String,
    header_revision: u64,
    header_mac: Option<String>,
    generation: u64,
    log: Option<LogJson>,
}

#[derive(Serialize, Deserialize)]
struct LogJson {
    number: u64,
    commitment: String,
}

impl KnownJson {
    /// The knowledge in a file, if it is of this format.
    pub fn read(text: &[u8]) -> Option<Known> {
        serde_json::from_slice::<KnownJson>(text).ok()?.known()
    }

    /// The place that a file is about.
    pub fn place(text: &[u8]) -> Option<String> {
        Some(serde_json::from_slice::<KnownJson>(text).ok()?.place)
    }

    /// The file with the knowledge of a place.
    pub fn write(place: &str, known: &Known) -> serde_json::Result<Vec<u8>> {
        serde_json::to_vec(&KnownJson::new(place, known))
    }

    fn new(place: &str, known: &Known) -> KnownJson {
        let hex = |bytes: &[u8]| data_encoding::HEXLOWER.encode(bytes);
        KnownJson {
            format: FORMAT,
            place: place.to_owned(),
            volume: known.volume.to_string(),
            header_revision: known.header_revision,
            header_mac: known.header_mac.map(|mac| hex(&mac)),
            generation: known.state.generation,
            log: known.state.log.map(|head| LogJson {
                number: head.number,
                commitment: hex(&head.commitment),
            }),
        }
    }

    fn known(&self) -> Option<Known> {
        if self.format != FORMAT {
            return None;
        }
        let log = match &self.log {
            Some(head) => Some(LogPosition {
                number: head.number,
                commitment: unhex(&head.commitment)?,
            }),
            None => None,
        };
        let header_mac = match &self.header_mac {
            Some(mac) => Some(unhex(mac)?),
            None => None,
        };
        Some(Known {
            volume: VolumeId(unhex(&self.volume)?),
            header_revision: self.header_revision,
            header_mac,
            state: StateSeen {
                generation: self.generation,
                log,
            },
        })
    }
}

fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let bytes = data_encoding::HEXLOWER.decode(text.as_bytes()).ok()?;
    bytes.try_into().ok()
}
