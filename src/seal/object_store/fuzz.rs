//! Fuzz target of the log's chain. Objects are read, noted and remembered in any order. The entries
//! that are kept always fit together, and nothing is added to a log in which an object does not
//! fit.

use object_store::path::Path;

use super::{
    chain::{Chain, Next},
    locations, manifest,
    position::{LogFault, LogPosition},
};
use crate::{
    fuzzing::Input,
    seal::codec::{COMMITMENT_LEN, Link},
};

/// By the first byte: a history of the chain, the end of a manifest, or the name of an object.
pub(crate) fn log_chain(input: &[u8]) {
    match input.split_first() {
        Some((b'm', rest)) => manifest_end(rest),
        Some((b'n', rest)) => name(rest),
        Some((_, rest)) => history(&mut Input::new(rest)),
        None => {}
    }
}

/// A few numbers, close together, and those at the ends.
fn number(byte: u8) -> u64 {
    match byte & 31 {
        31 => u64::MAX,
        30 => u64::MAX - 1,
        low => u64::from(low),
    }
}

/// For each number there are four objects that may have been written.
fn position(number: u64, which: u8) -> LogPosition {
    let mut commitment = [which & 3; COMMITMENT_LEN];
    commitment[..8].copy_from_slice(&number.to_be_bytes());
    LogPosition { number, commitment }
}

fn history(input: &mut Input<'_>) {
    let mut chain = Chain::default();
    let mut fault: Option<LogFault> = None;
    while !input.is_empty() {
        let (what, at, which) = (input.byte(), input.byte(), input.byte());
        let number = number(at);
        let position = position(number, which);
        let before = self::position(number.wrapping_sub(1), which >> 2);
        let link: Link = match number {
            0 | 1 => LogPosition::START.link(),
            _ => before.link(),
        };
        let was_tolerant = chain.is_tolerant();
        let result = match what % 12 {
            0 | 1 => chain.read(position, Some(link)),
            2 => chain.read(position, None),
            3 => chain.noted(position),
            4 => chain.remember(position),
            5 => written(&mut chain, position),
            6 => {
                chain.listed(number);
                Ok(())
            }
            7 => {
                chain.is_newest_manifest(number);
                assert!(chain.newest_manifest() >= number);
                Ok(())
            }
            8 => {
                chain.forget_unread(number);
                Ok(())
            }
            9 if which == 255 => {
                chain.tolerate();
                fault = None;
                Ok(())
            }
            10 => {
                let unread = chain.unread(number);
                assert!(unread.is_sorted() && unread.iter().all(|at| *at < number));
                Ok(())
            }
            _ => {
                assert!(chain.from(number).is_none_or(|from| from >= number));
                Ok(())
            }
        };
        if let Err(found) = result {
            assert!(!was_tolerant);
            assert_eq!(*fault.get_or_insert(found), found, "the first is kept");
        }
        assert_eq!(chain.fault(), fault);
        assert_eq!(
            chain.next(number).err(),
            fault,
            "no log goes on after a fault"
        );
        if fault.is_none() && !chain.is_tolerant() {
            chain.check();
        }
        let _ = (chain.head(), chain.at(number), chain.is_empty());
    }
}

/// A log object is written only at the number and with the link that the chain gives.
fn written(chain: &mut Chain, position: LogPosition) -> Result<(), LogFault> {
    match chain.next(position.number) {
        Ok(Next::Link(link)) => {
            chain.written(position, link)?;
            assert!(chain.is_writing());
            assert_eq!(chain.at(position.number), Some(position));
            Ok(())
        }
        Ok(Next::Unknown | Next::Exists | Next::Later(_)) => Ok(()),
        Err(fault) => Err(fault),
    }
}

fn manifest_end(bytes: &[u8]) {
    let mut plaintext = bytes.to_vec();
    if let Some(position) = manifest::take_position(&mut plaintext) {
        plaintext.extend_from_slice(&manifest::encode_position(&position));
        assert_eq!(plaintext, bytes);
    }
}

fn name(bytes: &[u8]) {
    let Ok(location) = Path::parse(String::from_utf8_lossy(bytes)) else {
        return;
    };
    if let Some(number) = locations::log_number(&location) {
        assert_eq!(
            locations::log_location(number),
            location,
            "two names of one object"
        );
    }
}

pub(crate) fn log_chain_seeds() -> Vec<Vec<u8>> {
    let mut manifest = b"mwhatever SlateDB writes".to_vec();
    manifest.extend_from_slice(&manifest::encode_position(&position(7, 1)));
    vec![
        manifest,
        b"nwal/00000000000000000007.sst".to_vec(),
        // Read in order; backwards; a gap.
        b"h\0\x01\0\0\x02\0\0\x03\0\0\x04\0".to_vec(),
        b"h\0\x04\0\0\x03\0\0\x02\0\0\x01\0".to_vec(),
        b"h\x03\x02\0\0\x03\0\x05\x04\0\x05\x05\0".to_vec(),
        // Another branch.
        b"h\0\x01\0\0\x02\0\0\x03\x05\0\x02\x01".to_vec(),
        // Without links at first.
        b"h\x02\x01\0\x02\x02\0\0\x03\0\x02\x04\0".to_vec(),
        b"h\x09\0\xff\0\x01\0\0\x02\x07\x08\x01\0\x0a\x1f\0".to_vec(),
    ]
}
