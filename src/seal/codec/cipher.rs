//! AES-256-GCM (AWS-LC) as frames use it. All sealing and opening of object bytes goes through
//! here.
//!
//! Promises: a plaintext is only left in a buffer if it authenticated. Never: chooses a nonce, or
//! binds anything by itself. (Frames have no associated data: their key derives from everything
//! that they are bound to.)

use aws_lc_rs::aead::{self, Aad, LessSafeKey, UnboundKey};
use zeroize::Zeroize;

use super::TAG_LEN;

/// The cipher of one object.
pub(super) struct FrameCipher(LessSafeKey);

impl FrameCipher {
    /// # Panics
    /// Unless `key` has 32 bytes.
    #[expect(clippy::expect_used, reason = "callers cut 32 bytes off a derived key")]
    pub fn new(key: &[u8]) -> FrameCipher {
        let key = UnboundKey::new(&aead::AES_256_GCM, key).expect("32 is the key length");
        FrameCipher(LessSafeKey::new(key))
    }

    /// Appends ciphertext and tag to `out`; `None` for more plaintext than AES-GCM takes.
    pub fn seal(
        &self,
        nonce: aead::Nonce,
        aad: &[u8],
        plaintext: &[u8],
        out: &mut Vec<u8>,
    ) -> Option<()> {
        let start = out.len();
        out.extend_from_slice(plaintext);
        let (_, frame) = out.split_at_mut(start);
        let tag = self
            .0
            .seal_in_place_separate_tag(nonce, Aad::from(aad), frame);
        out.extend_from_slice(tag.ok()?.as_ref());
        Some(())
    }

    /// Opens ciphertext and tag in place: afterwards the plaintext is where the ciphertext was.
    /// False if it does not authenticate, and then the whole buffer is wiped.
    #[must_use]
    pub fn open_in_place(&self, nonce: aead::Nonce, aad: &[u8], frame: &mut [u8]) -> bool {
        let opened = self.0.open_in_place(nonce, Aad::from(aad), frame).is_ok();
        if !opened {
            frame.zeroize();
        }
        opened
    }

    /// Opens `ciphertext` with its `tag` into `plaintext`, which must be as long as it. False if it
    /// does not authenticate, and then `plaintext` is wiped.
    #[must_use]
    pub fn open_into(
        &self,
        nonce: aead::Nonce,
        aad: &[u8],
        ciphertext: &[u8],
        tag: &[u8],
        plaintext: &mut [u8],
    ) -> bool {
        debug_assert_eq!(tag.len() as u64, TAG_LEN);
        let opened = self
            .0
            .open_separate_gather(nonce, Aad::from(aad), ciphertext, tag, plaintext)
            .is_ok();
        if !opened {
            plaintext.zeroize();
        }
        opened
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::aead::Nonce;

    use super::*;
    use crate::seal::vectors;

    #[test]
    fn published_vectors_hold_for_frames() {
        let (mut opened, mut refused) = (0, 0);
        for vector in vectors::gcm() {
            let cipher = FrameCipher::new(&vector.key);
            let nonce = || Nonce::assume_unique_for_key(vector.nonce);
            let (ciphertext, tag) = vector.sealed.split_at(vector.msg.len());
            let mut in_place = vector.sealed.clone();
            let opens = cipher.open_in_place(nonce(), &vector.aad, &mut in_place);
            let mut apart = vec![0xaa; ciphertext.len()];
            let opens_apart = cipher.open_into(nonce(), &vector.aad, ciphertext, tag, &mut apart);
            assert_eq!(
                (opens, opens_apart),
                (vector.valid, vector.valid),
                "{}",
                vector.name
            );
            if vector.valid {
                let mut sealed = b"before".to_vec();
                cipher
                    .seal(nonce(), &vector.aad, &vector.msg, &mut sealed)
                    .unwrap();
                assert_eq!(sealed[6..], vector.sealed, "{}", vector.name);
                assert_eq!(in_place[..ciphertext.len()], vector.msg, "{}", vector.name);
                assert_eq!(apart, vector.msg, "{}", vector.name);
                opened += 1;
            } else {
                let left = in_place.iter().chain(&apart);
                assert!(left.into_iter().all(|byte| *byte == 0), "{}", vector.name);
                refused += 1;
            }
        }
        println!("AES-256-GCM (aws-lc-rs): {opened} opened, {refused} refused");
        assert_eq!((opened, refused), vectors::GCM_COUNTS);
    }
}
