//! Sealing one object, once, front to back.

use std::sync::Arc;

use zeroize::Zeroizing;

use super::{
    COMMITMENT_LEN, FRAME_LOG2_MAX, FRAME_LOG2_MIN, HEADER_LEN, Layout, Link, ObjectKind,
    SealParams, TAG_LEN,
    cipher::FrameCipher,
    header::{self, ObjectKey},
    nonce::NonceSequence,
};
use crate::seal::keys::{VolumeKeys, random};

/// Seals one object, once, front to back. It holds the last full frame back until it is known
/// whether that one is final.
pub struct Sealer {
    cipher: FrameCipher,
    nonces: NonceSequence,
    commitment: [u8; COMMITMENT_LEN],
    params: SealParams,
    /// The header until it is written to the output.
    header: Option<[u8; HEADER_LEN as usize]>,
    frame_len: usize,
    /// Plaintext of the frame that is not sealed yet: at most one whole frame.
    held: Zeroizing<Vec<u8>>,
    plaintext_len: u64,
}

impl Sealer {
    /// A new object at `path` (volume-relative key) with a fresh random salt under the current
    /// epoch.
    ///
    /// # Panics
    /// If `frame_log2` is not within [`FRAME_LOG2_MIN`]..=[`FRAME_LOG2_MAX`]: a constant of the
    /// program.
    pub fn new(keys: &Arc<VolumeKeys>, kind: ObjectKind, frame_log2: u8, path: &str) -> Sealer {
        Sealer::with_salt(keys, kind, frame_log2, path, None, random())
    }

    /// As [`Sealer::new`], an object of format 2 that holds a link.
    ///
    /// # Panics
    /// As [`Sealer::new`].
    pub fn linked(
        keys: &Arc<VolumeKeys>,
        kind: ObjectKind,
        frame_log2: u8,
        path: &str,
        link: Link,
    ) -> Sealer {
        Sealer::with_salt(keys, kind, frame_log2, path, Some(link), random())
    }

    /// As [`Sealer::new`]. Outside tests nothing but a fresh random salt may come here: the same
    /// salt twice with the same path is the same key and the same nonces.
    pub(in crate::seal) fn with_salt(
        keys: &Arc<VolumeKeys>,
        kind: ObjectKind,
        frame_log2: u8,
        path: &str,
        link: Option<Link>,
        salt: [u8; 32],
    ) -> Sealer {
        assert!(
            (FRAME_LOG2_MIN..=FRAME_LOG2_MAX).contains(&frame_log2),
            "frame size out of bounds"
        );
        let params = SealParams {
            salt,
            epoch: keys.current_epoch(),
            frame_log2,
            kind,
        };
        let bound = header::encode(keys.volume(), &params, link.as_ref());
        let object = ObjectKey::derive(keys.current_key(), &bound, &salt, path);
        Sealer {
            header: Some(header::complete(&bound, &object.commitment)),
            cipher: object.cipher,
            commitment: object.commitment,
            nonces: NonceSequence::new(),
            params,
            frame_len: 1 << frame_log2,
            held: Zeroizing::new(Vec::new()),
            plaintext_len: 0,
        }
    }

    /// The fields that the metadata keeps.
    pub fn params(&self) -> SealParams {
        self.params
    }

    /// The commitment that its header will hold.
    pub fn commitment(&self) -> [u8; COMMITMENT_LEN] {
        self.commitment
    }

    /// Appends plaintext; sealed bytes (the header first) are appended to `out`. `out` grows by at
    /// most `plaintext.len()` rounded up to frames plus tags plus the header. Frames that lie whole
    /// inside `plaintext` are sealed straight from it into `out` without another copy.
    pub fn push(&mut self, plaintext: &[u8], out: &mut Vec<u8>) {
        self.plaintext_len += plaintext.len() as u64;
        let frames = (self.held.len() + plaintext.len()) / self.frame_len;
        let header_len = self.header.as_ref().map_or(0, |header| header.len());
        out.reserve(header_len + frames * (self.frame_len + TAG_LEN as usize));
        self.put_header(out);

        let mut rest = plaintext;
        if !self.held.is_empty() {
            let room = self.frame_len - self.held.len();
            // Without a byte beyond this frame, it may be the final one.
            let Some((head, tail)) = rest
                .split_at_checked(room)
                .filter(|(_, tail)| !tail.is_empty())
            else {
                self.hold(rest);
                return;
            };
            self.hold(head);
            let mut held = std::mem::take(&mut self.held);
            self.seal_frame(&held, false, out);
            held.clear();
            self.held = held;
            rest = tail;
        }
        while let Some((frame, tail)) = rest
            .split_at_checked(self.frame_len)
            .filter(|(_, tail)| !tail.is_empty())
        {
            self.seal_frame(frame, false, out);
            rest = tail;
        }
        self.hold(rest);
    }

    /// Plaintext bytes taken so far.
    pub fn plaintext_len(&self) -> u64 {
        self.plaintext_len
    }

    /// Seals the final frame into `out`.
    pub fn finish(mut self, out: &mut Vec<u8>) -> Layout {
        self.put_header(out);
        let held = std::mem::take(&mut self.held);
        self.seal_frame(&held, true, out);
        Layout {
            frame_log2: self.params.frame_log2,
            plaintext_len: self.plaintext_len,
        }
    }

    fn put_header(&mut self, out: &mut Vec<u8>) {
        if let Some(header) = self.header.take() {
            out.extend_from_slice(&header);
        }
    }

    /// Keeps plaintext; the buffer is made once, so that no copy of it stays behind unwiped.
    fn hold(&mut self, plaintext: &[u8]) {
        if !plaintext.is_empty() && self.held.capacity() < self.frame_len {
            self.held.reserve_exact(self.frame_len);
        }
        self.held.extend_from_slice(plaintext);
    }

    #[expect(
        clippy::expect_used,
        reason = "2^64 frames of 1 KiB cannot be pushed, and AES-GCM takes any frame up to 64 GiB"
    )]
    fn seal_frame(&mut self, plaintext: &[u8], is_final: bool, out: &mut Vec<u8>) {
        let nonce = self
            .nonces
            .advance(is_final)
            .expect("frames are counted in 64 bits");
        self.cipher
            .seal(nonce, b"", plaintext, out)
            .expect("a frame is at most 1 MiB");
    }
}

impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sealer")
            .field("plaintext_len", &self.plaintext_len)
            .finish_non_exhaustive()
    }
}

/// Seals a whole small object in memory (control objects, tests).
pub fn seal_whole(
    keys: &Arc<VolumeKeys>,
    kind: ObjectKind,
    frame_log2: u8,
    path: &str,
    plaintext: &[u8],
) -> Vec<u8> {
    let layout = Layout {
        frame_log2,
        plaintext_len: plaintext.len() as u64,
    };
    let mut out = Vec::with_capacity(usize::try_from(layout.stored_len()).unwrap_or_default());
    let mut sealer = Sealer::new(keys, kind, frame_log2, path);
    sealer.push(plaintext, &mut out);
    sealer.finish(&mut out);
    out
}
