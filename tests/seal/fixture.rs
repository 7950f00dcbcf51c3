//! A volume of format 1, stored once: every later version of the program must open it.

use std::{fs, path::PathBuf};

use strongroom::seal::{
    codec::{DATA_FRAME_LOG2, META_FRAME_LOG2, ObjectKind, open_whole, seal_whole},
    volume::{Argon2Params, RecoveryKey, Secret, SlotKind, VolumeHeader},
};
use zeroize::Zeroizing;

const OBJECTS: [(&str, ObjectKind, u8, usize); 4] = [
    (
        "data/000102030405060708090a0b0c0d0e0f/0000000000000000",
        ObjectKind::Data,
        DATA_FRAME_LOG2,
        150_000,
    ),
    (
        "data/000102030405060708090a0b0c0d0e0f/0000000000000001",
        ObjectKind::Data,
        DATA_FRAME_LOG2,
        0,
    ),
    (
        "meta/manifest/00000000000000000001.manifest",
        ObjectKind::Metadata,
        META_FRAME_LOG2,
        20_000,
    ),
    ("lease", ObjectKind::Control, META_FRAME_LOG2, 100),
];

fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/seal/volume1")
}

#[test]
fn a_volume_of_format_1_opens_with_each_of_its_secrets() {
    let header =
        VolumeHeader::parse(&fs::read(directory().join("strongroom.json")).unwrap()).unwrap();
    assert_eq!(header.revision(), 3);
    assert_eq!(
        header
            .list()
            .iter()
            .map(|slot| slot.kind)
            .collect::<Vec<_>>(),
        [
            SlotKind::Passphrase,
            SlotKind::KeyFile,
            SlotKind::RecoveryKey
        ]
    );
    let secrets = directory().join("secrets");
    for secret in [
        Secret::passphrase_from_file(&secrets.join("passphrase")).unwrap(),
        Secret::key_file_from(&secrets.join("key-file")).unwrap(),
        Secret::recovery_key_from_file(&secrets.join("recovery-key")).unwrap(),
    ] {
        let unlocked = header.unlock(&secret).unwrap();
        for (path, _, _, len) in OBJECTS {
            let stored = fs::read(directory().join(path)).unwrap();
            assert!(
                open_whole(&unlocked.keys, path, &stored).unwrap() == pattern(len),
                "{path}"
            );
        }
    }
}

#[test]
fn a_header_of_format_1_is_encoded_as_it_was_stored() {
    let stored = fs::read(directory().join("strongroom.json")).unwrap();
    assert_eq!(VolumeHeader::parse(&stored).unwrap().encode(), stored);
}

/// Makes the fixture. It is made once for each format.
#[test]
#[ignore = "writes into the source tree"]
fn make_fixture() {
    let secrets = directory().join("secrets");
    fs::create_dir_all(&secrets).unwrap();
    fs::write(secrets.join("passphrase"), "correct horse battery staple\n").unwrap();
    fs::write(secrets.join("key-file"), pattern(64)).unwrap();
    let passphrase = Secret::passphrase_from_file(&secrets.join("passphrase")).unwrap();
    let key_file = Secret::key_file(Zeroizing::new(pattern(64))).unwrap();
    let recovery = RecoveryKey::generate();
    recovery
        .write_file(
            &secrets.join("recovery-key"),
            "Recovery key of a test volume",
        )
        .unwrap();
    let (mut header, unlocked) =
        VolumeHeader::create(&passphrase, Argon2Params::default()).unwrap();
    header
        .add_slot(&unlocked.master, &key_file, Argon2Params::default())
        .unwrap();
    header
        .add_slot(&unlocked.master, &recovery.into(), Argon2Params::default())
        .unwrap();
    fs::write(directory().join("strongroom.json"), header.encode()).unwrap();
    for (path, kind, frame_log2, len) in OBJECTS {
        let file = directory().join(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(
            file,
            seal_whole(&unlocked.keys, kind, frame_log2, path, &pattern(len)),
        )
        .unwrap();
    }
}

/// The contents of the stored objects.
fn pattern(len: usize) -> Vec<u8> {
    (0..len as u32)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect()
}
