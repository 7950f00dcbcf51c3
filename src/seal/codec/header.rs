//! The 128 bytes in front of frame 0, and the object key that they derive.

use aws_lc_rs::hkdf;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::{
    COMMITMENT_LEN, FRAME_LOG2_MAX, FRAME_LOG2_MIN, HEADER_LEN, LINK_LEN, Link, ObjectKind,
    SealParams, cipher::FrameCipher,
};
use crate::seal::{
    SealError,
    keys::{Epoch, KEY_LEN, KeyBytes, VolumeId},
};

const MAGIC: &[u8; 8] = b"STRONGRM";
/// An object that stands for itself.
const FORMAT_PLAIN: u16 = 1;
/// An object with a link to another one.
const FORMAT_LINKED: u16 = 2;
/// AES-256-GCM, HKDF-SHA-256.
const SUITE: u8 = 1;
const LABEL: &[u8] = b"strongroom/1/object";
/// Bytes that the object key is bound to: all before the commitment.
const BOUND_LEN: usize = 80;

/// The header's bytes before the commitment.
pub(super) type BoundHeader = [u8; BOUND_LEN];

/// The bytes of a header before its commitment: format 2 if it has a link, else format 1.
pub(super) fn encode(volume: VolumeId, params: &SealParams, link: Option<&Link>) -> BoundHeader {
    let format = match link {
        Some(_) => FORMAT_LINKED,
        None => FORMAT_PLAIN,
    };
    let fields: [&[u8]; 8] = [
        MAGIC,
        &format.to_be_bytes(),
        &[SUITE, params.frame_log2, params.kind as u8],
        &[0; 3],
        &volume.0,
        &params.epoch.0.to_be_bytes(),
        link.unwrap_or(&[0; LINK_LEN]),
        &params.salt,
    ];
    let mut header = [0; BOUND_LEN];
    for (byte, field) in header.iter_mut().zip(fields.into_iter().flatten()) {
        *byte = *field;
    }
    header
}

/// The whole header.
pub(super) fn complete(
    bound: &BoundHeader,
    commitment: &[u8; COMMITMENT_LEN],
) -> [u8; HEADER_LEN as usize] {
    let mut header = [0; HEADER_LEN as usize];
    for (byte, field) in header.iter_mut().zip(bound.iter().chain(commitment)) {
        *byte = *field;
    }
    header
}

/// A header that was read. It is not authenticated before [`Parsed::commitment`] was compared.
pub(super) struct Parsed {
    pub params: SealParams,
    /// Of format 2.
    pub link: Option<Link>,
    pub bound: BoundHeader,
    pub commitment: [u8; COMMITMENT_LEN],
}

/// Takes the fields out of a header and checks those that have one right value.
pub(super) fn parse(volume: VolumeId, path: &str, header: &[u8]) -> Result<Parsed, SealError> {
    let refuse = |why| SealError::Header {
        path: path.to_owned(),
        why,
    };
    let (bound, rest) = header
        .split_first_chunk::<BOUND_LEN>()
        .ok_or_else(|| refuse("too short for a sealed object"))?;
    let (commitment, rest) = rest
        .split_first_chunk::<COMMITMENT_LEN>()
        .ok_or_else(|| refuse("too short for a sealed object"))?;
    let zero = rest
        .get(..16)
        .ok_or_else(|| refuse("too short for a sealed object"))?;
    let field = |at: usize, len: usize| bound.get(at..at + len).unwrap_or_default();
    let byte = |at: usize| bound.get(at).copied().unwrap_or_default();
    if field(0, 8) != MAGIC {
        return Err(refuse("not a sealed object"));
    }
    let linked = match u16::from_be_bytes([byte(8), byte(9)]) {
        FORMAT_PLAIN => false,
        FORMAT_LINKED => true,
        _ => return Err(refuse("sealed in a format that this program does not know")),
    };
    if byte(10) != SUITE {
        return Err(refuse(
            "sealed with a cipher that this program does not know",
        ));
    }
    let frame_log2 = byte(11);
    if !(FRAME_LOG2_MIN..=FRAME_LOG2_MAX).contains(&frame_log2) {
        return Err(refuse("frame size out of bounds"));
    }
    let kind = match byte(12) {
        1 => ObjectKind::Data,
        2 => ObjectKind::Metadata,
        3 => ObjectKind::Control,
        _ => return Err(refuse("of no known kind")),
    };
    if field(13, 3)
        .iter()
        .chain(if linked { &[] } else { field(36, LINK_LEN) })
        .chain(zero)
        .any(|byte| *byte != 0)
    {
        return Err(refuse("header was changed: a reserved byte is not zero"));
    }
    let mut link = [0; LINK_LEN];
    link.copy_from_slice(field(36, LINK_LEN));
    if field(16, 16) != volume.0 {
        return Err(refuse("belongs to another volume"));
    }
    let mut epoch = [0; 4];
    epoch.copy_from_slice(field(32, 4));
    let mut salt = [0; 32];
    salt.copy_from_slice(field(48, 32));
    let params = SealParams {
        salt,
        epoch: Epoch(u32::from_be_bytes(epoch)),
        frame_log2,
        kind,
    };
    Ok(Parsed {
        params,
        link: linked.then_some(link),
        bound: *bound,
        commitment: *commitment,
    })
}

/// The key of one object and the commitment to it.
pub(super) struct ObjectKey {
    pub cipher: FrameCipher,
    pub commitment: [u8; COMMITMENT_LEN],
}

impl ObjectKey {
    /// `K || commitment = HKDF-SHA-256(epoch key, salt, label || header[0..80] || len(path) ||
    /// path)`.
    pub fn derive(
        epoch_key: &KeyBytes,
        bound: &BoundHeader,
        salt: &[u8; 32],
        path: &str,
    ) -> ObjectKey {
        let path_len = u32::try_from(path.len()).unwrap_or(u32::MAX).to_be_bytes();
        let info: [&[u8]; 4] = [LABEL, bound, &path_len, path.as_bytes()];
        let output = expand(epoch_key.expose(), salt, &info);
        let (key, rest) = output.split_at(KEY_LEN);
        let mut commitment = [0; COMMITMENT_LEN];
        commitment.copy_from_slice(rest);
        ObjectKey {
            cipher: FrameCipher::new(key),
            commitment,
        }
    }

    /// Compares in constant time.
    pub fn commits_to(&self, commitment: &[u8; COMMITMENT_LEN]) -> bool {
        self.commitment.ct_eq(commitment).into()
    }
}

/// Length of the output of [`expand`]: a key and a commitment.
const EXPANDED_LEN: usize = KEY_LEN + COMMITMENT_LEN;

/// HKDF-SHA-256 of `ikm` and `salt`, over the parts of `info` one after the other.
#[expect(
    clippy::expect_used,
    reason = "HKDF-SHA-256 can make 8,160 bytes, and 64 are asked for"
)]
fn expand(ikm: &[u8], salt: &[u8], info: &[&[u8]]) -> Zeroizing<[u8; EXPANDED_LEN]> {
    struct Length;
    impl hkdf::KeyType for Length {
        fn len(&self) -> usize {
            EXPANDED_LEN
        }
    }
    let mut output = Zeroizing::new([0; EXPANDED_LEN]);
    hkdf::Salt::new(hkdf::HKDF_SHA256, salt)
        .extract(ikm)
        .expand(info, Length)
        .and_then(|okm| okm.fill(output.as_mut_slice()))
        .expect("64 is a valid length");
    output
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seal::vectors;

    #[test]
    fn published_vectors_hold_for_object_keys() {
        let vectors = vectors::hkdf();
        for vector in &vectors {
            // In parts, as an object's is.
            let (a, rest) = vector.info.split_at(vector.info.len() / 3);
            let made = expand(&vector.ikm, &vector.salt, &[a, b"", rest]);
            // A shorter output is the beginning of a longer one.
            let len = vector.okm.len().min(EXPANDED_LEN);
            assert_eq!(made[..len], vector.okm[..len], "{}", vector.name);
        }
        println!("HKDF-SHA-256 (aws-lc-rs): {} derived", vectors.len());
        assert_eq!(vectors.len(), vectors::HKDF_COUNT);
    }
}
