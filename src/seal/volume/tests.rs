//! The header without a store: slots, authentication, damage.

use zeroize::Zeroizing;

use super::*;
use crate::seal::keys::WRAPPED_LEN;
use crate::seal::vectors;

/// The cheapest parameters that are accepted.
const CHEAP: Argon2Params = Argon2Params::FLOOR;

fn passphrase(text: &str) -> Secret {
    Secret::passphrase(Zeroizing::new(text.into())).unwrap()
}

fn key_file(byte: u8) -> Secret {
    Secret::key_file(Zeroizing::new((0..64).map(|i| byte ^ i).collect())).unwrap()
}

fn created() -> (VolumeHeader, Unlocked) {
    VolumeHeader::create(&key_file(1), CHEAP).unwrap()
}

/// The header as JSON, changed, with the checksum that belongs to it unless it is to stay wrong.
fn tampered(header: &VolumeHeader, change: impl FnOnce(&mut serde_json::Value)) -> Vec<u8> {
    let mut json: serde_json::Value = serde_json::from_slice(&header.encode()).unwrap();
    change(&mut json);
    serde_json::to_vec(&json).unwrap()
}

/// Parses with the checksum that the parser would compute, as an attacker would.
fn parse_with_fresh_checksum(
    header: &VolumeHeader,
    change: impl FnOnce(&mut VolumeHeader),
) -> Result<VolumeHeader, HeaderError> {
    let mut changed = header.clone();
    change(&mut changed);
    VolumeHeader::parse(&changed.encode())
}

#[test]
fn every_kind_of_slot_opens_with_its_secret_and_no_other() {
    let (mut header, made) = created();
    let recovery = RecoveryKey::generate();
    header
        .add_slot(&made.master, &passphrase("correct horse"), CHEAP)
        .unwrap();
    header
        .add_slot(&made.master, &recovery.clone().into(), CHEAP)
        .unwrap();
    let header = VolumeHeader::parse(&header.encode()).unwrap();
    assert_eq!(header.revision(), 3);
    assert_eq!(
        header
            .list()
            .iter()
            .map(|slot| (slot.id.0, slot.kind))
            .collect::<Vec<_>>(),
        [
            (1, SlotKind::KeyFile),
            (2, SlotKind::Passphrase),
            (3, SlotKind::RecoveryKey)
        ]
    );
    assert_eq!(header.list()[1].argon2, Some(CHEAP));

    for (secret, slot) in [
        (key_file(1), 1),
        (passphrase("correct horse"), 2),
        (recovery.into(), 3),
    ] {
        let unlocked = header.unlock(&secret).unwrap();
        assert_eq!(unlocked.slot, SlotId(slot));
        assert_eq!(unlocked.master.0.expose(), made.master.0.expose());
        assert_eq!(
            unlocked.keys.current_key().expose(),
            made.keys.current_key().expose()
        );
        assert_eq!(unlocked.keys.volume(), header.volume());
    }
    for secret in [
        key_file(2),
        passphrase("correct horse "),
        RecoveryKey::generate().into(),
    ] {
        let kind = secret.kind();
        assert_eq!(
            header.unlock(&secret).unwrap_err(),
            UnlockError::WrongSecret(kind)
        );
    }
}

#[test]
fn a_secret_of_a_kind_without_a_slot_is_told_apart_from_a_wrong_one() {
    let (header, _) = created();
    let error = header.unlock(&passphrase("x")).unwrap_err();
    assert_eq!(error, UnlockError::NoSlot(SlotKind::Passphrase));
    assert_eq!(
        error.to_string(),
        "the volume has no passphrase slot: unlock it with another kind of secret"
    );
    assert_eq!(
        header.unlock(&key_file(9)).unwrap_err().to_string(),
        "wrong key file"
    );
}

#[test]
fn the_default_cost_is_the_documented_one_and_works() {
    assert_eq!(
        Argon2Params::default(),
        Argon2Params {
            passes: 3,
            memory_kib: 65536,
            lanes: 4
        }
    );
    let (header, _) = VolumeHeader::create(&passphrase("p"), Argon2Params::default()).unwrap();
    assert!(header.unlock(&passphrase("p")).is_ok());
}

#[test]
fn the_last_slot_cannot_be_removed() {
    let (mut header, made) = created();
    assert_eq!(
        header.remove_slot(&made.master, SlotId(1)),
        Err(SlotError::LastSlot(SlotId(1)))
    );
    assert_eq!(
        header.remove_slot(&made.master, SlotId(7)),
        Err(SlotError::NoSuchSlot(SlotId(7)))
    );
    let second = header.add_slot(&made.master, &key_file(2), CHEAP).unwrap();
    header.remove_slot(&made.master, SlotId(1)).unwrap();
    assert_eq!(
        header.unlock(&key_file(1)).unwrap_err(),
        UnlockError::WrongSecret(SlotKind::KeyFile)
    );
    assert_eq!(header.unlock(&key_file(2)).unwrap().slot, second);
    assert_eq!(header.revision(), 3);
}

#[test]
fn a_changed_slot_opens_with_the_new_secret_only() {
    let (mut header, made) = created();
    header
        .change_slot(&made.master, SlotId(1), &passphrase("new"), CHEAP)
        .unwrap();
    assert!(header.unlock(&passphrase("new")).is_ok());
    assert_eq!(
        header.unlock(&key_file(1)).unwrap_err(),
        UnlockError::NoSlot(SlotKind::KeyFile)
    );
    assert_eq!(
        header.change_slot(&made.master, SlotId(2), &passphrase("new"), CHEAP),
        Err(SlotError::NoSuchSlot(SlotId(2)))
    );
}

#[test]
fn slots_are_bounded_and_a_full_header_fits_its_file() {
    let (mut header, made) = created();
    for i in 1..SLOTS_MAX {
        header
            .add_slot(&made.master, &key_file(i as u8), CHEAP)
            .unwrap();
    }
    assert_eq!(
        header.add_slot(&made.master, &key_file(0), CHEAP),
        Err(SlotError::TooManySlots)
    );
    header.epochs = (0..EPOCHS_MAX as u32)
        .map(|n| WrappedEpoch {
            epoch: Epoch(u32::MAX - 1000 + n),
            wrapped: [0xff; WRAPPED_LEN],
        })
        .collect();
    let bytes = header.encode();
    assert!(
        (bytes.len() as u64) < HEADER_FILE_LEN_MAX,
        "{}",
        bytes.len()
    );
    assert!(VolumeHeader::parse(&bytes).is_ok());
}

#[test]
fn parameters_out_of_bounds_are_refused_before_anything_is_derived() {
    let (mut header, made) = created();
    let slot = header
        .add_slot(&made.master, &passphrase("p"), CHEAP)
        .unwrap();
    for (field, value) in [
        ("passes", 1),
        ("passes", 65),
        ("memory_kib", 19 * 1024 - 1),
        ("memory_kib", 1024 * 1024 + 1),
        ("memory_kib", u32::MAX),
        // Each within its bounds, but 1 GiB-pass is the most that a slot may cost.
        ("memory_kib", 512 * 1024 + 1),
        ("passes", 56),
        ("lanes", 0),
        ("lanes", 65),
    ] {
        let bytes = tampered(&header, |json| {
            json["slots"][1]["argon2id"][field] = value.into()
        });
        let error = VolumeHeader::parse(&bytes).unwrap_err().to_string();
        assert!(
            error.contains("Argon2id parameters out of bounds"),
            "{field} {value}: {error}"
        );
    }
    let weak = Argon2Params { passes: 1, ..CHEAP };
    assert!(matches!(
        header.add_slot(&made.master, &passphrase("p"), weak),
        Err(SlotError::Parameters(_))
    ));
    assert!(matches!(
        header.change_slot(&made.master, slot, &passphrase("p"), weak),
        Err(SlotError::Parameters(_))
    ));
    assert!(matches!(
        VolumeHeader::create(&passphrase("p"), weak),
        Err(SlotError::Parameters(_))
    ));
}

/// The header with `count` passphrase slots of these parameters, as a stranger would make it.
fn with_slots(count: u32, params: Argon2Params) -> VolumeHeader {
    let (mut header, _) = created();
    let slot = |id| {
        let salt = vec![id as u8; SlotKind::Passphrase.salt_len()];
        let wrapped = [0; WRAPPED_LEN];
        Slot::assemble(
            SlotId(id),
            SlotKind::Passphrase,
            Some(params),
            salt,
            wrapped,
        )
        .unwrap()
    };
    header.slots = (1..=count).map(slot).collect();
    header
}

#[test]
fn slots_that_cost_too_much_together_are_refused_before_anything_is_derived() {
    let default = with_slots(SLOTS_MAX as u32, Argon2Params::default());
    assert!(VolumeHeader::parse(&default.encode()).is_ok());
    let dearest = Argon2Params {
        passes: 2,
        memory_kib: 512 * 1024,
        lanes: 1,
    };
    assert!(VolumeHeader::parse(&with_slots(6, dearest).encode()).is_ok());
    let error = VolumeHeader::parse(&with_slots(7, dearest).encode()).unwrap_err();
    assert!(error.to_string().contains("more key derivation"), "{error}");
}

#[test]
fn a_slot_that_needs_more_memory_than_there_is_is_named_and_not_tried() {
    let (mut header, made) = created();
    let large = Argon2Params {
        memory_kib: 100 * 1024,
        ..CHEAP
    };
    header
        .add_slot(&made.master, &passphrase("large"), large)
        .unwrap();
    let small = header
        .add_slot(&made.master, &passphrase("small"), CHEAP)
        .unwrap();
    let unlock = |text, mib: u64| header.unlock_within(&passphrase(text), mib << 20);
    assert_eq!(unlock("small", 99).unwrap().slot, small, "others are tried");
    let error = unlock("large", 99).unwrap_err();
    let needed_bytes = 100 << 20;
    let slot = SlotId(2);
    assert_eq!(error, UnlockError::Memory { slot, needed_bytes });
    assert!(
        error.to_string().contains("slot 2 takes 100 MiB"),
        "{error}"
    );
    assert_eq!(unlock("large", 100).unwrap().slot, slot);
}

#[test]
fn a_header_cannot_write_to_the_terminal() {
    let (header, _) = created();
    let bytes = tampered(&header, |json| json["\u{1b}]0;owned\u{7}"] = 1.into());
    let error = VolumeHeader::parse(&bytes).unwrap_err().to_string();
    assert!(error.contains("\\u{1b}]0;owned"), "{error}");
    assert!(!error.contains(char::is_control), "{error:?}");
}

#[test]
fn a_header_changed_without_the_key_does_not_unlock() {
    let (mut header, made) = created();
    let second = header.add_slot(&made.master, &key_file(2), CHEAP).unwrap();
    let old = header.clone();
    header
        .add_slot(&made.master, &passphrase("p"), CHEAP)
        .unwrap();
    let (other, _) = created();

    type Change = Box<dyn FnOnce(&mut VolumeHeader)>;
    let cases: Vec<(&str, Change)> = vec![
        ("a higher revision", Box::new(|h| h.revision += 1)),
        ("a lower revision", Box::new(|h| h.revision -= 1)),
        (
            "a slot taken away",
            Box::new(|h| h.slots.retain(|slot| slot.id != SlotId(3))),
        ),
        ("slots renumbered", Box::new(|h| h.slots[2].id = SlotId(4))),
        (
            "a slot of an old header put back",
            Box::new(move |h| h.slots = old.slots),
        ),
        (
            "an epoch key changed",
            Box::new(|h| h.epochs[0].wrapped[20] ^= 1),
        ),
        (
            "an epoch renumbered",
            Box::new(|h| h.epochs[0].epoch = Epoch(2)),
        ),
        (
            "another volume's epoch",
            Box::new(move |h| h.epochs = other.epochs),
        ),
        ("a MAC changed", Box::new(|h| h.mac[0] ^= 1)),
    ];
    for (what, change) in cases {
        let changed = parse_with_fresh_checksum(&header, change).unwrap();
        assert_eq!(
            changed.unlock(&key_file(1)).unwrap_err(),
            UnlockError::Tampered,
            "{what}"
        );
    }

    // A changed field that the slot itself is bound to: the secret does not open it any more.
    let wrong = UnlockError::WrongSecret(SlotKind::KeyFile);
    let changed = parse_with_fresh_checksum(&header, |h| h.volume.0[0] ^= 1).unwrap();
    assert_eq!(changed.unlock(&key_file(1)).unwrap_err(), wrong);
    let changed = parse_with_fresh_checksum(&header, |h| {
        h.slots.retain(|slot| slot.id == second);
        h.slots[0].id = SlotId(9);
    })
    .unwrap();
    assert_eq!(changed.unlock(&key_file(2)).unwrap_err(), wrong);
}

#[test]
fn weaker_derivation_parameters_put_into_a_header_make_it_useless_not_weak() {
    let strong = Argon2Params { passes: 3, ..CHEAP };
    let (header, _) = VolumeHeader::create(&passphrase("p"), strong).unwrap();
    let changed = parse_with_fresh_checksum(&header, |h| {
        let slot = &h.slots[0];
        h.slots[0] = Slot::assemble(
            slot.id,
            slot.kind(),
            Some(CHEAP),
            slot.salt().to_vec(),
            slot.wrapped,
        )
        .unwrap();
    })
    .unwrap();
    assert_eq!(
        changed.unlock(&passphrase("p")).unwrap_err(),
        UnlockError::WrongSecret(SlotKind::Passphrase)
    );
}

#[test]
fn damage_is_told_apart_from_a_wrong_secret_without_a_key() {
    let (header, _) = created();
    let bytes = header.encode();
    for at in 0..bytes.len() {
        let mut flipped = bytes.clone();
        flipped[at] ^= 0x04;
        match VolumeHeader::parse(&flipped) {
            Err(HeaderError::Damaged(_)) => {}
            // "format": 1 read as another number.
            Err(HeaderError::NewerFormat(found)) => assert_eq!(found, 5),
            // White space between the fields may change.
            Ok(parsed) => assert!(parsed == header, "byte {at}"),
        }
    }
    for len in 0..bytes.len() - 1 {
        assert!(
            matches!(
                VolumeHeader::parse(&bytes[..len]),
                Err(HeaderError::Damaged(_))
            ),
            "{len}"
        );
    }
}

#[test]
fn what_is_not_in_the_format_is_refused() {
    let (header, _) = created();
    let refused = |change: &dyn Fn(&mut serde_json::Value)| {
        matches!(
            VolumeHeader::parse(&tampered(&header, change)),
            Err(HeaderError::Damaged(_))
        )
    };
    assert!(!refused(&|_| {}));
    assert!(refused(&|json| json["extra"] = 1.into()));
    assert!(refused(&|json| json["slots"][0]["extra"] = 1.into()));
    assert!(refused(&|json| json["epochs"][0]["extra"] = 1.into()));
    assert!(refused(&|json| json["slots"][0]["kind"] = "keyfile".into()));
    assert!(refused(&|json| json["slots"] = serde_json::json!([])));
    assert!(refused(&|json| json["epochs"] = serde_json::json!([])));
    assert!(refused(
        &|json| json["slots"][0]["argon2id"] =
            serde_json::json!({"passes": 3, "memory_kib": 65536, "lanes": 4})
    ));
    assert!(refused(&|json| json["volume"] = json["volume"]
        .as_str()
        .unwrap()
        .to_uppercase()
        .replace('0', "A")
        .into()));
    assert!(refused(&|json| json["format"] = 0.into()));
    assert!(refused(&|json| json["format"] = "1".into()));
    let duplicated = String::from_utf8(header.encode()).unwrap().replacen(
        "\"revision\": 1,",
        "\"revision\": 1, \"revision\": 1,",
        1,
    );
    assert!(matches!(
        VolumeHeader::parse(duplicated.as_bytes()),
        Err(HeaderError::Damaged(_))
    ));
    assert!(matches!(
        VolumeHeader::parse(&vec![b' '; 65537]),
        Err(HeaderError::Damaged(_))
    ));
}

#[test]
fn a_newer_format_is_named_whatever_else_it_holds() {
    let error = VolumeHeader::parse(br#"{"format": 2, "something": ["new"]}"#).unwrap_err();
    assert_eq!(error, HeaderError::NewerFormat(2));
    assert_eq!(
        error.to_string(),
        "the volume has format 2, this program knows format 1: use a newer strongroom"
    );
}

#[test]
fn debug_output_of_secrets_shows_their_kind_only() {
    let (_, unlocked) = created();
    let recovery = RecoveryKey::generate();
    assert_eq!(format!("{:?}", passphrase("hunter2")), "Secret(passphrase)");
    assert_eq!(format!("{:?}", key_file(3)), "Secret(key-file)");
    assert_eq!(format!("{recovery:?}"), "RecoveryKey(..)");
    let shown = format!("{unlocked:?}");
    assert!(
        shown.contains("KeyBytes(..)") && !shown.contains("epochs"),
        "{shown}"
    );
}

#[test]
fn published_vectors_hold_for_the_header_mac() {
    let (mut right, mut wrong) = (0, 0);
    let (vectors, skipped) = vectors::hmac();
    for vector in vectors {
        let mac = mac_over(&vector.key, &vector.msg);
        let result = match vector.tag.len() {
            32 => mac.verify_slice(&vector.tag),
            // Of one in RFC 4231 only the first 128 bits are published.
            _ => mac.verify_truncated_left(&vector.tag),
        };
        assert_eq!(result.is_ok(), vector.valid, "{}", vector.name);
        match vector.valid {
            true => right += 1,
            false => wrong += 1,
        }
    }
    println!("HMAC-SHA-256 (hmac): {right} right, {wrong} wrong, {skipped} not applicable");
    assert_eq!((right, wrong, skipped), vectors::HMAC_COUNTS);
}
