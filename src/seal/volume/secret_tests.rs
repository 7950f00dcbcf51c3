//! Secrets: the recovery key as people write it down, and secrets read from files.

use std::{collections::HashSet, io::Write as _, os::unix::fs::PermissionsExt};

use proptest::prelude::*;
use zeroize::Zeroizing;

use super::*;
use crate::seal::keys::KeyBytes;

#[test]
fn a_recovery_key_survives_how_people_write_it_down() {
    let key = RecoveryKey::generate();
    let text = key.to_text();
    assert_eq!(text.len(), 71);
    assert!(text.split('-').all(|group| group.len() == 8));
    let confused = text
        .replace('0', "O")
        .replace('1', "l")
        .replace('V', "u")
        .to_lowercase()
        .replace('-', " \n ");
    for variant in [
        text.to_string(),
        confused,
        text.replace('-', ""),
        format!("# a comment\n\t{}\r\n", text.replace('-', "\u{2013}")),
    ] {
        assert_eq!(
            RecoveryKey::parse(&variant).unwrap().expose(),
            key.expose(),
            "{variant}"
        );
    }
}

#[test]
fn a_typing_error_in_a_recovery_key_is_named_by_its_group() {
    let key = RecoveryKey(KeyBytes::from_slice(&[0x5a; 32]).unwrap());
    let text = key.to_text();
    let mut noticed = 0;
    for at in 0..text.len() {
        if text.as_bytes()[at] == b'-' {
            continue;
        }
        let mut typed = text.as_bytes().to_vec();
        typed[at] = if typed[at] == b'7' { b'8' } else { b'7' };
        match RecoveryKey::parse(std::str::from_utf8(&typed).unwrap()) {
            Err(SecretError::RecoveryGroup { group }) => {
                assert_eq!(group, at / 9 + 1);
                noticed += 1;
            }
            Err(error) => panic!("{error}"),
            Ok(_) => {}
        }
    }
    assert!(noticed >= 62, "{noticed} of 64");
    // Groups that changed places, although all are of the same bytes.
    let groups: Vec<&str> = text.split('-').collect();
    assert_eq!(groups.iter().collect::<HashSet<_>>().len(), 8);
    let mut swapped = groups.clone();
    swapped.swap(1, 2);
    assert!(matches!(
        RecoveryKey::parse(&swapped.join("-")),
        Err(SecretError::RecoveryGroup { group: 2 })
    ));
    assert!(matches!(
        RecoveryKey::parse(&groups[..7].join("-")),
        Err(SecretError::RecoveryLength { found: 56 })
    ));
    assert!(matches!(
        RecoveryKey::parse(&format!("{}-7", &*text)),
        Err(SecretError::RecoveryLength { found: 65 })
    ));
    assert!(matches!(
        RecoveryKey::parse("passw*rd"),
        Err(SecretError::RecoveryCharacter)
    ));
}

#[test]
fn a_recovery_key_file_is_for_its_owner_and_never_overwrites() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("recovery");
    let key = RecoveryKey::generate();
    key.write_file(&path, "Strongroom recovery key\nfor s3://bucket/laptop")
        .unwrap();
    assert_eq!(
        std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
    assert_eq!(
        RecoveryKey::read_file(&path).unwrap().expose(),
        key.expose()
    );
    assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 4);
    assert_eq!(
        key.write_file(&path, "").unwrap_err().kind(),
        std::io::ErrorKind::AlreadyExists
    );
}

#[test]
fn exactly_one_newline_is_not_part_of_a_passphrase() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pass");
    for (content, expected) in [
        ("a b\n", "a b"),
        ("a\n\n", "a\n"),
        ("a", "a"),
        ("a\r\n", "a\r"),
        (" a", " a"),
    ] {
        std::fs::write(&path, content).unwrap();
        match Secret::passphrase_from_file(&path).unwrap() {
            Secret::Passphrase(bytes) => assert_eq!(*bytes, expected.as_bytes()),
            other => panic!("{other:?}"),
        }
    }
    for content in ["", "\n"] {
        std::fs::write(&path, content).unwrap();
        assert!(matches!(
            Secret::passphrase_from_file(&path),
            Err(SecretError::EmptyPassphrase)
        ));
    }
    std::fs::write(&path, vec![b'x'; PASSPHRASE_LEN_MAX]).unwrap();
    assert!(Secret::passphrase_from_file(&path).is_ok());
    std::fs::write(&path, vec![b'x'; PASSPHRASE_LEN_MAX + 1]).unwrap();
    assert!(matches!(
        Secret::passphrase_from_file(&path),
        Err(SecretError::LongPassphrase)
    ));
}

#[test]
fn a_huge_file_is_not_read_as_a_secret() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("disk.img");
    std::fs::File::create(&path)
        .unwrap()
        .set_len(10 << 30)
        .unwrap();
    let started = std::time::Instant::now();
    let error = Secret::key_file_from(&path).unwrap_err();
    assert!(matches!(
        error,
        SecretError::FileTooLarge {
            max: KEY_FILE_LEN_MAX,
            ..
        }
    ));
    assert!(error.to_string().contains("disk.img"));
    assert!(started.elapsed().as_secs() < 2);
    assert!(matches!(
        Secret::passphrase_from_file(dir.path()),
        Err(SecretError::Io { .. })
    ));
    assert!(matches!(
        Secret::passphrase_from_file(&dir.path().join("absent")),
        Err(SecretError::Io { .. })
    ));
}

#[test]
fn a_key_file_is_taken_as_it_is_and_must_look_random() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    let mut content = vec![b'k'; 40];
    content[3] = 0;
    content[39] = b'\n';
    file.write_all(&content).unwrap();
    match Secret::key_file_from(file.path()).unwrap() {
        Secret::KeyFile(bytes) => assert_eq!(*bytes, content),
        other => panic!("{other:?}"),
    }
    for bad in [
        vec![],
        (0..31).collect(),
        vec![0; 64],
        vec![7; KEY_FILE_LEN_MAX + 1],
    ] {
        assert!(matches!(
            Secret::key_file(Zeroizing::new(bad)),
            Err(SecretError::KeyFile)
        ));
    }
}

proptest! {
    #[test]
    fn every_recovery_key_reads_back(bytes: [u8; 32]) {
        let key = RecoveryKey(KeyBytes::from_slice(&bytes).unwrap());
        let read = RecoveryKey::parse(&key.to_text()).unwrap();
        prop_assert_eq!(read.expose(), &bytes);
    }

    #[test]
    fn arbitrary_text_is_no_header_and_no_recovery_key(text in "\\PC{0,300}") {
        prop_assert!(VolumeHeader::parse(text.as_bytes()).is_err());
        prop_assert!(RecoveryKey::parse(&text).is_err());
    }
}
