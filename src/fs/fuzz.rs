//! Fuzz target of access control lists in their extended attributes.

use super::acl::Acl;

/// A list that is taken is written the same, and follows each change of the permission bits.
pub(crate) fn acl(input: &[u8]) {
    let Ok(Some(mut acl)) = Acl::parse(input) else {
        return;
    };
    let encoded = acl.encode();
    assert_eq!(encoded.len(), input.len());
    assert_eq!(Acl::parse(&encoded), Ok(Some(acl.clone())));
    let (mode, _) = acl.equivalent_mode();
    assert!(mode <= 0o777);
    let wanted = u32::from(input.last().copied().unwrap_or_default()) << 1 & 0o777;
    let mut inherited = acl.clone();
    let (limited, _) = inherited.inherit(wanted);
    assert_eq!(limited & !wanted, 0, "no more than was asked for");
    assert_eq!(Acl::parse(&inherited.encode()), Ok(Some(inherited)));
    acl.chmod(wanted);
    assert_eq!(acl.equivalent_mode().0, wanted);
    assert_eq!(Acl::parse(&acl.encode()), Ok(Some(acl)));
}

pub(crate) fn acl_seeds() -> Vec<Vec<u8>> {
    let list = |entries: &[(u8, u8, u32)]| {
        let mut bytes = 2_u32.to_le_bytes().to_vec();
        for (tag, perm, id) in entries {
            bytes.extend_from_slice(&[*tag, 0, *perm, 0]);
            bytes.extend_from_slice(&id.to_le_bytes());
        }
        bytes
    };
    vec![
        list(&[]),
        list(&[(1, 7, u32::MAX), (4, 5, u32::MAX), (32, 4, u32::MAX)]),
        list(&[
            (1, 7, u32::MAX),
            (2, 6, 1000),
            (4, 5, u32::MAX),
            (8, 3, 100),
            (16, 7, u32::MAX),
            (32, 0, u32::MAX),
        ]),
        list(&[(1, 7, u32::MAX), (4, 5, u32::MAX)]),
    ]
}
