//! Fuzz targets of the volume header, its key slots, and the recovery key.

use std::sync::LazyLock;

use zeroize::Zeroizing;

use super::{
    Argon2Params, DERIVATION_MAX_KIB_PASSES, EPOCHS_MAX, RecoveryKey, SLOTS_MAX, Secret,
    SecretError, SlotKind, UnlockError, VolumeHeader, json,
};
use crate::{
    fuzzing::{Input, edit},
    seal::keys::KeyBytes,
};

const FIXTURE: &[u8] = include_bytes!("../../../tests/fixtures/seal/volume1/strongroom.json");
const KEY_FILE: &[u8] = include_bytes!("../../../tests/fixtures/seal/volume1/secrets/key-file");
const RECOVERY: &str = include_str!("../../../tests/fixtures/seal/volume1/secrets/recovery-key");

/// Secrets that take no time to try.
static SECRETS: LazyLock<[Secret; 2]> = LazyLock::new(|| {
    [
        Secret::key_file(Zeroizing::new(KEY_FILE.to_vec())).unwrap(),
        Secret::RecoveryKey(RecoveryKey::parse(RECOVERY).unwrap()),
    ]
});

static HEADER: LazyLock<VolumeHeader> = LazyLock::new(|| VolumeHeader::parse(FIXTURE).unwrap());

/// The bytes of `strongroom.json`, as they are, and with the checksum that fits them, which an
/// attacker can compute.
pub(crate) fn header(input: &[u8]) {
    let as_it_is = VolumeHeader::parse(input);
    let fresh = json::parse_unchecked(input);
    if let Ok(header) = &as_it_is {
        assert_eq!(fresh.as_ref(), Ok(header));
    }
    let Ok(header) = fresh else {
        return;
    };
    assert!((1..=SLOTS_MAX).contains(&header.list().len()));
    assert!((1..=EPOCHS_MAX).contains(&header.epochs().count()));
    let argon2: Vec<Argon2Params> = header.slots().filter_map(|slot| slot.argon2).collect();
    assert!(argon2.iter().all(|params| params.check().is_ok()));
    let cost: u64 = argon2.iter().map(Argon2Params::cost_kib_passes).sum();
    assert!(cost <= DERIVATION_MAX_KIB_PASSES);
    let text = header.encode();
    assert!(text.len() <= super::HEADER_FILE_LEN_MAX as usize);
    assert_eq!(VolumeHeader::parse(&text).unwrap(), header);
}

pub(crate) fn header_seeds() -> Vec<Vec<u8>> {
    let text = std::str::from_utf8(FIXTURE).unwrap();
    vec![
        FIXTURE.to_vec(),
        text.split_whitespace().collect::<String>().into_bytes(),
        text.replace("\"format\": 1", "\"format\": 2").into_bytes(),
        text.replace("\"passes\": 3", "\"passes\": 64").into_bytes(),
        text.replace("\"id\": 3", "\"id\": 2").into_bytes(),
    ]
}

/// A header that was changed, with the checksum that fits: it unlocks only if it equals the one
/// that was written.
pub(crate) fn key_slots(input: &[u8]) {
    let mut text = FIXTURE.to_vec();
    edit(&mut text, &mut Input::new(input));
    let Ok(header) = json::parse_unchecked(&text) else {
        return;
    };
    for secret in SECRETS.iter() {
        match header.unlock(secret) {
            Ok(unlocked) => {
                assert!(header == *HEADER, "a changed header unlocks");
                let original = HEADER.unlock(secret).unwrap();
                assert_eq!(unlocked.master.0.expose(), original.master.0.expose());
                assert_eq!(unlocked.slot, original.slot);
            }
            Err(error) => {
                assert!(header != *HEADER, "a header does not unlock: {error}");
                assert!(matches!(
                    error,
                    UnlockError::NoSlot(_) | UnlockError::WrongSecret(_) | UnlockError::Tampered
                ));
            }
        }
    }
    let passphrase = header.slots().any(|slot| slot.kind == SlotKind::Passphrase);
    let wrong = Secret::passphrase(Zeroizing::new(b"wrong".to_vec())).unwrap();
    // Without memory for it, no derivation begins.
    match header.unlock_within(&wrong, 0).unwrap_err() {
        UnlockError::Memory { .. } => assert!(passphrase),
        UnlockError::NoSlot(_) => assert!(!passphrase),
        other => panic!("{other}"),
    }
}

pub(crate) fn key_slots_seeds() -> Vec<Vec<u8>> {
    let at = |what: &str, by: usize| {
        let text = std::str::from_utf8(FIXTURE).unwrap();
        ((text.find(what).unwrap() + by) as u16).to_be_bytes()
    };
    let mut seeds = vec![Vec::new()];
    for (what, by, old, new) in [
        ("\"revision\": ", 12, b'3', b'4'),
        ("\"id\": 2", 6, b'2', b'9'),
        ("\"memory_kib\": 65536", 14, b'6', b'5'),
        ("187d3baa", 0, b'1', b'2'),
        ("8ca055f3", 0, b'8', b'9'),
        ("82c267fd", 0, b'8', b'9'),
        ("3d62ee4d", 0, b'3', b'4'),
        ("9209f141", 0, b'9', b'8'),
    ] {
        let [high, low] = at(what, by);
        seeds.push(vec![0, high, low, old ^ new]);
    }
    seeds
}

/// Text that is typed.
pub(crate) fn recovery_key(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    match RecoveryKey::parse(&text) {
        Ok(key) => {
            let printed = key.to_text();
            assert_eq!(printed.len(), 71);
            let again = RecoveryKey::parse(&printed).unwrap();
            assert_eq!(again.expose(), key.expose());
        }
        Err(SecretError::RecoveryGroup { group }) => assert!((1..=8).contains(&group)),
        Err(SecretError::RecoveryLength { found }) => {
            assert!(found != 64 && found <= text.chars().count());
        }
        Err(SecretError::RecoveryCharacter) => {}
        Err(other) => panic!("{other}"),
    }
    // Any 32 bytes are a key, and its printed form is read again.
    if let Some(bytes) = input.get(..32) {
        let key = RecoveryKey(KeyBytes::from_slice(bytes).unwrap());
        let again = RecoveryKey::parse(&key.to_text()).unwrap();
        assert_eq!(again.expose(), bytes);
    }
}

pub(crate) fn recovery_key_seeds() -> Vec<Vec<u8>> {
    let text = RecoveryKey(KeyBytes::from_slice(&[0x5a; 32]).unwrap()).to_text();
    vec![
        RECOVERY.as_bytes().to_vec(),
        text.as_bytes().to_vec(),
        text.to_lowercase().replace('-', "\u{2013}").into_bytes(),
        text.replace('-', " \n# a comment\n").into_bytes(),
        text.replacen('A', "B", 1).into_bytes(),
    ]
}
