//! A volume's fingerprint: one line that pins a state of it, to be carried to another machine.
//!
//! `sr1-<volume>-<generation>-<log number>-<digest>-<check>`, or without number and digest where
//! the log's head is not known. Volume and digest are the first 8 and 10 bytes of the volume's id
//! and of the commitment in the header of the log's newest object, in base32; the check is four
//! letters of SHA-256 over what stands before it, against mistyping.
//!
//! A match proves that the volume is that one, and that its metadata has reached that generation
//! and its log that number. If the log ends at that number, or is still replayed from before it,
//! then it is that very log, or one that continues it. Older log objects are superseded by tables
//! and deleted, and then only the numbers are compared. A fingerprint is no secret.

use std::{fmt, str::FromStr};

use data_encoding::BASE32_NOPAD;
use sha2::{Digest, Sha256};

use super::known::StateSeen;
use crate::seal::{keys::VolumeId, object_store::LogPosition};

const VERSION: &str = "sr1";
const VOLUME_LEN: usize = 8;
/// Nobody can choose a commitment (it is derived with the volume's key), so 80 bits leave nothing
/// to search for.
const DIGEST_LEN: usize = 10;
const CHECK_LEN: usize = 4;

/// See the module's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint {
    volume: [u8; VOLUME_LEN],
    generation: u64,
    log: Option<(u64, [u8; DIGEST_LEN])>,
}

impl Fingerprint {
    /// The fingerprint of a state.
    pub fn of(volume: VolumeId, state: &StateSeen) -> Fingerprint {
        Fingerprint {
            volume: first(&volume.0),
            generation: state.generation,
            log: state.log.map(|head| (head.number, first(&head.commitment))),
        }
    }

    /// Compares with the state that was found. `log_at` tells of the log objects that were
    /// verified.
    ///
    /// # Errors
    /// The mismatch, as the end of a sentence that begins "the volume is".
    pub fn check(
        &self,
        volume: VolumeId,
        found: &StateSeen,
        log_at: &dyn Fn(u64) -> Option<LogPosition>,
    ) -> Result<(), String> {
        if self.volume != first::<VOLUME_LEN>(&volume.0) {
            return Err("another one than the fingerprint was taken of".to_owned());
        }
        if found.generation < self.generation {
            return Err(format!(
                "at generation {}, the fingerprint was taken at {}",
                found.generation, self.generation
            ));
        }
        let (Some((number, digest)), Some(head)) = (self.log, found.log) else {
            return Ok(());
        };
        if head.number < number {
            return Err(format!(
                "at log object {}, the fingerprint was taken at {number}",
                head.number
            ));
        }
        let position = match head.number == number {
            true => Some(head),
            false => log_at(number),
        };
        if position.is_some_and(|position| first::<DIGEST_LEN>(&position.commitment) != digest) {
            return Err(format!(
                "on another branch of its history: log object {number} is another one"
            ));
        }
        Ok(())
    }
}

/// The first `N` bytes.
fn first<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut part = [0; N];
    part.iter_mut()
        .zip(bytes)
        .for_each(|(to, from)| *to = *from);
    part
}

fn base32(bytes: &[u8]) -> String {
    BASE32_NOPAD.encode(bytes).to_ascii_lowercase()
}

fn unbase32<const N: usize>(text: &str) -> Option<[u8; N]> {
    let bytes = BASE32_NOPAD
        .decode(text.to_ascii_uppercase().as_bytes())
        .ok()?;
    bytes.try_into().ok()
}

/// The last letters, of everything before them.
fn check_of(text: &str) -> String {
    let mut check = base32(&Sha256::digest(text.as_bytes()));
    check.truncate(CHECK_LEN);
    check
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = format!("{VERSION}-{}-{}", base32(&self.volume), self.generation);
        if let Some((number, digest)) = &self.log {
            text.push_str(&format!("-{number}-{}", base32(digest)));
        }
        write!(f, "{text}-{}", check_of(&text))
    }
}

impl FromStr for Fingerprint {
    type Err = String;

    fn from_str(text: &str) -> Result<Fingerprint, String> {
        let text = text.trim().to_ascii_lowercase();
        let (before, check) = text.rsplit_once('-').ok_or("it is no fingerprint")?;
        let mut fields = before.split('-');
        if fields.next() != Some(VERSION) {
            return Err(format!(
                "it is no fingerprint of this version: those begin with {VERSION}-"
            ));
        }
        if check != check_of(before) {
            return Err("its last four letters do not fit: copy it again".to_owned());
        }
        fields_of(fields).ok_or_else(|| "it is no fingerprint".to_owned())
    }
}

/// The fields between version and check.
fn fields_of<'a>(mut fields: impl Iterator<Item = &'a str>) -> Option<Fingerprint> {
    let volume = unbase32(fields.next()?)?;
    let generation = fields.next()?.parse().ok()?;
    let log = match fields.next() {
        Some(number) => Some((number.parse().ok()?, unbase32(fields.next()?)?)),
        None => None,
    };
    fields.next().is_none().then_some(Fingerprint {
        volume,
        generation,
        log,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const VOLUME: VolumeId = VolumeId([7; 16]);

    fn state(generation: u64, number: u64, fill: u8) -> StateSeen {
        StateSeen {
            generation,
            log: Some(LogPosition {
                number,
                commitment: [fill; 32],
            }),
        }
    }

    #[test]
    fn a_fingerprint_is_read_back_and_a_mistyped_one_is_not() {
        for seen in [
            state(8841, 57, 3),
            state(u64::MAX, u64::MAX, 255),
            StateSeen {
                generation: 0,
                log: None,
            },
        ] {
            let fingerprint = Fingerprint::of(VOLUME, &seen);
            let text = fingerprint.to_string();
            assert!(text.len() < 100, "{text}");
            assert_eq!(text.parse(), Ok(fingerprint));
            assert_eq!(text.to_uppercase().parse(), Ok(fingerprint));
            for at in 0..text.len() {
                let mut wrong = text.clone().into_bytes();
                wrong[at] = if wrong[at] == b'3' { b'4' } else { b'3' };
                let wrong = String::from_utf8(wrong).expect("text");
                assert!(wrong.parse::<Fingerprint>().is_err(), "{wrong}");
            }
        }
        assert!("".parse::<Fingerprint>().is_err());
    }

    #[test]
    fn the_same_state_and_later_ones_fit_and_nothing_else_does() {
        let fingerprint = Fingerprint::of(VOLUME, &state(10, 5, 1));
        let fits = |volume, found: &StateSeen| fingerprint.check(volume, found, &|_| None).is_ok();
        assert!(fits(VOLUME, &state(10, 5, 1)));
        assert!(fits(VOLUME, &state(11, 6, 2)));
        // A mount that was interrupted leaves a log object without a change.
        assert!(fits(VOLUME, &state(10, 6, 2)));
        assert!(!fits(VOLUME, &state(9, 5, 1)));
        assert!(!fits(VOLUME, &state(10, 4, 1)));
        assert!(!fits(VOLUME, &state(11, 5, 2)));
        assert!(!fits(VolumeId([8; 16]), &state(10, 5, 1)));
        // Where the log went on, the object of that number tells, if it was read on the way.
        for (fill, fits) in [(1, true), (2, false)] {
            let met = |_| state(0, 5, fill).log;
            let checked = fingerprint.check(VOLUME, &state(11, 6, 3), &met);
            assert_eq!(checked.is_ok(), fits);
        }
        let unknown = StateSeen {
            generation: 10,
            log: None,
        };
        assert!(fits(VOLUME, &unknown));
    }
}
