//! Frame nonces: each once under a key, and none after the final one.

use aws_lc_rs::aead;

/// The nonce of one frame: 3 zero bytes, the index in 8 bytes big-endian, one byte that is 1 for
/// the final frame.
pub(super) fn frame_nonce(index: u64, is_final: bool) -> aead::Nonce {
    let [a, b, c, d, e, f, g, h] = index.to_be_bytes();
    aead::Nonce::assume_unique_for_key([0, 0, 0, a, b, c, d, e, f, g, h, u8::from(is_final)])
}

/// Hands out the nonces of one object in order, each once.
#[derive(Debug)]
pub(super) struct NonceSequence {
    /// `None` after the final frame, or when the counter is spent.
    next: Option<u64>,
}

impl NonceSequence {
    pub fn new() -> NonceSequence {
        NonceSequence { next: Some(0) }
    }

    /// The next frame's; `None` after the final one and after 2^64 of them.
    pub fn advance(&mut self, is_final: bool) -> Option<aead::Nonce> {
        let index = self.next?;
        self.next = if is_final { None } else { index.checked_add(1) };
        Some(frame_nonce(index, is_final))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_nonce_follows_the_final_one_or_the_highest_index() {
        let mut sequence = NonceSequence::new();
        assert_eq!(sequence.advance(false).unwrap().as_ref(), &[0; 12]);
        assert_eq!(
            sequence.advance(true).unwrap().as_ref(),
            &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1]
        );
        assert!(sequence.advance(false).is_none());
        assert!(sequence.advance(true).is_none());

        let mut sequence = NonceSequence {
            next: Some(u64::MAX),
        };
        assert!(sequence.advance(false).is_some());
        assert!(sequence.advance(false).is_none());
    }
}
