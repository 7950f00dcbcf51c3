//! Opening frames of one object, in any order.

use std::{fmt, sync::Arc};

use zeroize::Zeroize;

use super::{
    COMMITMENT_LEN, FRAME_LOG2_MAX, FRAME_LOG2_MIN, HEADER_LEN, Layout, Link, SealParams, TAG_LEN,
    cipher::FrameCipher,
    header::{self, ObjectKey},
    nonce::frame_nonce,
};
use crate::seal::{SealError, keys::VolumeKeys};

/// Opens frames of one object in any order. Cheap to clone, shareable between tasks.
#[derive(Clone)]
pub struct Opener {
    inner: Arc<Inner>,
}

struct Inner {
    cipher: FrameCipher,
    commitment: [u8; COMMITMENT_LEN],
    link: Option<Link>,
    params: SealParams,
    layout: Layout,
    path: String,
}

impl Opener {
    /// From authenticated metadata: salt, epoch and length are trusted. `path` is the key that is
    /// requested.
    ///
    /// # Errors
    /// [`SealError::Epoch`]; [`SealError::Header`] if the frame size is out of bounds or the layout
    /// has another one.
    pub fn from_params(
        keys: &Arc<VolumeKeys>,
        path: &str,
        params: SealParams,
        layout: Layout,
    ) -> Result<Opener, SealError> {
        if !(FRAME_LOG2_MIN..=FRAME_LOG2_MAX).contains(&params.frame_log2)
            || layout.frame_log2 != params.frame_log2
        {
            return Err(SealError::Header {
                path: path.to_owned(),
                why: "frame size out of bounds",
            });
        }
        let bound = header::encode(keys.volume(), &params, None);
        let object = object_key(keys, path, &params, &bound)?;
        Ok(Opener::assemble(object, params, None, layout, path))
    }

    /// From a header read from the store: checks magic, version, volume, commitment. `stored_len`
    /// is the store's word; the caller must open the final frame before trusting it (or use
    /// [`open_whole`]).
    ///
    /// # Errors
    /// [`SealError::Header`], [`SealError::Epoch`].
    pub fn from_header(
        keys: &Arc<VolumeKeys>,
        path: &str,
        header: &[u8],
        stored_len: u64,
    ) -> Result<Opener, SealError> {
        let parsed = header::parse(keys.volume(), path, header)?;
        let object = object_key(keys, path, &parsed.params, &parsed.bound)?;
        let refuse = |why| SealError::Header {
            path: path.to_owned(),
            why,
        };
        if !object.commits_to(&parsed.commitment) {
            return Err(refuse(
                "header does not authenticate at this path: changed, moved or swapped",
            ));
        }
        let layout = Layout::from_stored_len(parsed.params.frame_log2, stored_len)
            .ok_or_else(|| refuse("no sealed object has its length: truncated or extended"))?;
        let (params, link) = (parsed.params, parsed.link);
        Ok(Opener::assemble(object, params, link, layout, path))
    }

    fn assemble(
        object: ObjectKey,
        params: SealParams,
        link: Option<Link>,
        layout: Layout,
        path: &str,
    ) -> Opener {
        Opener {
            inner: Arc::new(Inner {
                cipher: object.cipher,
                commitment: object.commitment,
                link,
                params,
                layout,
                path: path.to_owned(),
            }),
        }
    }

    /// The lengths.
    pub fn layout(&self) -> Layout {
        self.inner.layout
    }

    /// Salt, epoch, frame size, kind.
    pub fn params(&self) -> SealParams {
        self.inner.params
    }

    /// The commitment of the object to its key: no other object has the same.
    pub fn commitment(&self) -> [u8; COMMITMENT_LEN] {
        self.inner.commitment
    }

    /// The link in its header, if it is of format 2.
    pub fn link(&self) -> Option<Link> {
        self.inner.link
    }

    /// The volume-relative key that this object was asked for by.
    pub fn path(&self) -> &str {
        &self.inner.path
    }

    /// Opens frame `index` in place: `frame` holds ciphertext and tag, and afterwards the plaintext
    /// only (truncated). On failure the buffer is wiped.
    ///
    /// # Errors
    /// [`SealError::Frame`]: not this frame of this object, changed, or of another length.
    pub fn open_in_place(&self, index: u64, frame: &mut Vec<u8>) -> Result<(), SealError> {
        match self.open_slice(index, frame) {
            Ok(plaintext) => {
                let len = plaintext.len();
                frame.truncate(len);
                Ok(())
            }
            Err(error) => {
                frame.clear();
                Err(error)
            }
        }
    }

    /// Opens a slice in place and returns the plaintext part of it. On failure the slice is wiped.
    ///
    /// # Errors
    /// As [`Opener::open_in_place`].
    pub fn open_slice<'a>(&self, index: u64, frame: &'a mut [u8]) -> Result<&'a [u8], SealError> {
        let layout = self.layout();
        let is_final = index.checked_add(1) == Some(layout.frame_count());
        let expected_len = layout.frame_plaintext_len(index) + TAG_LEN;
        let fits = index < layout.frame_count() && frame.len() as u64 == expected_len;
        let plaintext_len = frame.len().saturating_sub(TAG_LEN as usize);
        let opened = fits
            && self
                .inner
                .cipher
                .open_in_place(frame_nonce(index, is_final), b"", frame);
        if !opened {
            frame.zeroize();
            return Err(SealError::Frame {
                path: self.inner.path.clone(),
                frame: index,
            });
        }
        Ok(frame.split_at(plaintext_len).0)
    }

    /// Opens frame `index` from `stored` (ciphertext and tag) straight into `plaintext`, which must
    /// have the frame's plaintext length. On failure `plaintext` is wiped.
    ///
    /// # Errors
    /// As [`Opener::open_in_place`].
    pub fn open_into(
        &self,
        index: u64,
        stored: &[u8],
        plaintext: &mut [u8],
    ) -> Result<(), SealError> {
        let layout = self.layout();
        let is_final = index.checked_add(1) == Some(layout.frame_count());
        let fits = index < layout.frame_count()
            && plaintext.len() as u64 == layout.frame_plaintext_len(index)
            && stored.len() as u64 == plaintext.len() as u64 + TAG_LEN;
        let opened = fits && {
            let (ciphertext, tag) = stored.split_at(plaintext.len());
            let nonce = frame_nonce(index, is_final);
            let cipher = &self.inner.cipher;
            cipher.open_into(nonce, b"", ciphertext, tag, plaintext)
        };
        if !opened {
            plaintext.zeroize();
            return Err(SealError::Frame {
                path: self.inner.path.clone(),
                frame: index,
            });
        }
        Ok(())
    }

    /// Opens adjoining frames, `first` and those after it, in place: `stored` holds them as they
    /// lie in the store. Afterwards it holds their plaintext only, joined (truncated). On failure
    /// it is wiped.
    ///
    /// # Errors
    /// [`SealError::Frame`] with the first frame that does not open.
    pub fn open_run(&self, first: u64, stored: &mut Vec<u8>) -> Result<(), SealError> {
        let result = self.open_run_slice(first, stored);
        match result {
            Ok(len) => stored.truncate(len),
            Err(_) => {
                stored.zeroize();
            }
        }
        result.map(|_| ())
    }

    fn open_run_slice(&self, first: u64, stored: &mut [u8]) -> Result<usize, SealError> {
        let stride = usize::try_from(self.layout().frame_len() + TAG_LEN).unwrap_or(usize::MAX);
        let (mut read_at, mut write_at, mut index) = (0, 0, first);
        while read_at < stored.len() {
            let end = read_at.saturating_add(stride).min(stored.len());
            let frame = stored.get_mut(read_at..end).unwrap_or_default();
            let plaintext_len = self.open_slice(index, frame)?.len();
            stored.copy_within(read_at..read_at + plaintext_len, write_at);
            write_at += plaintext_len;
            read_at = end;
            index += 1;
        }
        Ok(write_at)
    }
}

impl fmt::Debug for Opener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opener")
            .field("path", &self.inner.path)
            .field("layout", &self.inner.layout)
            .finish_non_exhaustive()
    }
}

fn object_key(
    keys: &VolumeKeys,
    path: &str,
    params: &SealParams,
    bound: &header::BoundHeader,
) -> Result<ObjectKey, SealError> {
    let epoch_key = keys.epoch(params.epoch).ok_or_else(|| SealError::Epoch {
        path: path.to_owned(),
        epoch: params.epoch.0,
    })?;
    Ok(ObjectKey::derive(epoch_key, bound, &params.salt, path))
}

/// Opens a whole object in memory.
///
/// # Errors
/// Any difference from the object that was sealed.
pub fn open_whole(keys: &Arc<VolumeKeys>, path: &str, stored: &[u8]) -> Result<Vec<u8>, SealError> {
    let opener = Opener::from_header(keys, path, stored, stored.len() as u64)?;
    let mut frames = stored
        .get(HEADER_LEN as usize..)
        .unwrap_or_default()
        .to_vec();
    opener.open_run(0, &mut frames)?;
    Ok(frames)
}
