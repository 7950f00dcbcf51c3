//! Arithmetic between plaintext and stored bytes. Never panics, whatever the fields hold.

use std::ops::Range;

use super::{HEADER_LEN, TAG_LEN};

/// Arithmetic between plaintext and stored bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// log2 of the frame size.
    pub frame_log2: u8,
    /// Plaintext length.
    pub plaintext_len: u64,
}

impl Layout {
    /// Bytes in a full frame of plaintext.
    pub fn frame_len(&self) -> u64 {
        1 << (self.frame_log2 & 63)
    }

    /// Bytes in the store from the start of one full frame to the start of the next.
    fn stride(&self) -> u64 {
        self.frame_len().saturating_add(TAG_LEN)
    }

    /// Number of frames (at least 1: an empty object has one empty final frame).
    pub fn frame_count(&self) -> u64 {
        self.plaintext_len.div_ceil(self.frame_len()).max(1)
    }

    /// Bytes in the store, header included.
    pub fn stored_len(&self) -> u64 {
        let tags_len = self.frame_count().saturating_mul(TAG_LEN);
        self.plaintext_len
            .saturating_add(tags_len)
            .saturating_add(HEADER_LEN)
    }

    /// The layout of an object of `stored_len` bytes, if there is one.
    pub fn from_stored_len(frame_log2: u8, stored_len: u64) -> Option<Layout> {
        let shape = Layout {
            frame_log2,
            plaintext_len: 0,
        };
        let body_len = stored_len.checked_sub(HEADER_LEN)?;
        let frames = body_len.div_ceil(shape.stride());
        let plaintext_len = body_len.checked_sub(frames.checked_mul(TAG_LEN)?)?;
        let layout = Layout {
            frame_log2,
            plaintext_len,
        };
        // Lengths between two sizes (a final frame without a byte, less than a tag) come back as
        // another length.
        (layout.stored_len() == stored_len).then_some(layout)
    }

    /// Plaintext length of frame `index`; 0 past the end.
    pub fn frame_plaintext_len(&self, index: u64) -> u64 {
        let start = index.saturating_mul(self.frame_len());
        self.plaintext_len
            .saturating_sub(start)
            .min(self.frame_len())
    }

    /// The frames that cover a plaintext range (its part inside the object).
    pub fn frames_of(&self, plaintext: Range<u64>) -> Range<u64> {
        let end = plaintext.end.min(self.plaintext_len);
        let start = plaintext.start.min(end);
        let first = start / self.frame_len();
        if start == end {
            first..first
        } else {
            first..end.div_ceil(self.frame_len())
        }
    }

    /// Where those frames are in the stored object.
    pub fn stored_range(&self, frames: Range<u64>) -> Range<u64> {
        let stored_len = self.stored_len();
        let at = |frame: u64| {
            frame
                .saturating_mul(self.stride())
                .saturating_add(HEADER_LEN)
                .min(stored_len)
        };
        let start = at(frames.start);
        start..at(frames.end).max(start)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn small_lengths_are_exhaustively_consistent() {
        for frame_log2 in 10..=11 {
            let mut stored_to_plain = std::collections::HashMap::new();
            for plaintext_len in 0..5000 {
                let layout = Layout {
                    frame_log2,
                    plaintext_len,
                };
                let frames: u64 = (0..layout.frame_count())
                    .map(|i| layout.frame_plaintext_len(i))
                    .sum();
                assert_eq!(frames, plaintext_len);
                assert_eq!(layout.frame_plaintext_len(layout.frame_count()), 0);
                assert_eq!(
                    layout.stored_range(0..layout.frame_count()),
                    HEADER_LEN..layout.stored_len()
                );
                let end = (0..layout.frame_count()).fold(HEADER_LEN, |at, i| {
                    let range = layout.stored_range(i..i + 1);
                    assert_eq!(range, at..at + layout.frame_plaintext_len(i) + TAG_LEN);
                    range.end
                });
                assert_eq!(end, layout.stored_len());
                assert!(
                    stored_to_plain
                        .insert(layout.stored_len(), plaintext_len)
                        .is_none()
                );
            }
            for stored_len in 0..=5000 {
                let found = Layout::from_stored_len(frame_log2, stored_len)
                    .map(|layout| layout.plaintext_len);
                assert_eq!(
                    found,
                    stored_to_plain.get(&stored_len).copied(),
                    "{stored_len}"
                );
            }
        }
    }

    #[test]
    fn an_empty_object_is_one_empty_frame() {
        let layout = Layout {
            frame_log2: 14,
            plaintext_len: 0,
        };
        assert_eq!(layout.frame_count(), 1);
        assert_eq!(layout.stored_len(), HEADER_LEN + TAG_LEN);
        assert_eq!(layout.frames_of(0..10), 0..0);
    }

    proptest! {
        #[test]
        fn no_field_value_makes_the_arithmetic_panic(frame_log2: u8, plaintext_len: u64, a: u64, b: u64) {
            let layout = Layout { frame_log2, plaintext_len };
            let _ = (layout.frame_count(), layout.stored_len(), layout.frame_plaintext_len(a));
            #[allow(clippy::reversed_empty_ranges)]
            for range in [a..b, b..a] {
                let stored = layout.stored_range(layout.frames_of(range.clone()));
                prop_assert!(stored.start <= stored.end);
                let stored = layout.stored_range(range);
                prop_assert!(stored.start <= stored.end);
            }
            let _ = Layout::from_stored_len(frame_log2, a);
        }

        #[test]
        fn a_stored_length_gives_the_plaintext_length_back(frame_log2 in 10u8..=20, plaintext_len in 0u64..1 << 56) {
            let layout = Layout { frame_log2, plaintext_len };
            prop_assert_eq!(Layout::from_stored_len(frame_log2, layout.stored_len()), Some(layout));
        }

        #[test]
        fn the_frames_of_a_range_cover_it_and_nothing_needless(
            frame_log2 in 10u8..=17, plaintext_len in 1u64..1 << 40, a: u64, b: u64,
        ) {
            let layout = Layout { frame_log2, plaintext_len };
            let (a, b) = (a % plaintext_len, b % plaintext_len);
            let range = a.min(b)..a.max(b) + 1;
            let frames = layout.frames_of(range.clone());
            prop_assert!(frames.start * layout.frame_len() <= range.start);
            prop_assert!(range.start < (frames.start + 1) * layout.frame_len());
            prop_assert!(frames.end * layout.frame_len() >= range.end);
            prop_assert!((frames.end - 1) * layout.frame_len() < range.end);
        }
    }
}
