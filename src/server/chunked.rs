//! Cuts large chunks of an `aws-chunked` request body into small ones, before the body is decoded.
//!
//! The decoder holds a whole chunk before it hands it on, and a chunk may be as large as the object
//! (clients that sign no chunks often send just one). Cutting the chunk first bounds the memory of
//! an upload: an unsigned chunk passes in slices of [`SLICE_BYTES`]. A signed chunk can't be cut
//! (its signature covers the whole), so it is refused beyond [`MAX_SIGNED_CHUNK_BYTES`]. Malformed
//! text passes unchanged, and the decoder refuses it.

use std::collections::VecDeque;

use bytes::{Buf, Bytes, BytesMut};

/// The size of the slices of an unsigned chunk.
pub(super) const SLICE_BYTES: u64 = 256 * 1024;
/// The largest signed chunk: four times what any SDK sends by default would still fit 16 times.
pub(super) const MAX_SIGNED_CHUNK_BYTES: u64 = 16 * 1024 * 1024;
/// The longest chunk head; the decoder's own limit.
const MAX_HEAD_BYTES: usize = 1024;

enum State {
    /// Collecting a chunk's head up to its line feed.
    Head(BytesMut),
    /// Inside a chunk: the bytes left of the slice, and of the chunk beyond the slice.
    Data { slice: u64, rest: u64 },
    /// Past the last chunk, or past something malformed: everything passes.
    Rest,
}

/// The cutter's state between two pieces of the body.
pub(super) struct ChunkCutter {
    state: State,
    out: VecDeque<Bytes>,
}

/// A signed chunk is larger than the server is willing to hold.
#[derive(Debug, thiserror::Error)]
#[error("a signed chunk of {0} bytes is over the limit of {MAX_SIGNED_CHUNK_BYTES}")]
pub(super) struct ChunkTooLarge(u64);

impl ChunkCutter {
    pub(super) fn new() -> Self {
        Self {
            state: State::Head(BytesMut::new()),
            out: VecDeque::new(),
        }
    }

    /// The next piece that is ready.
    pub(super) fn pop(&mut self) -> Option<Bytes> {
        self.out.pop_front()
    }

    /// The bytes that have been pushed and not popped, once the body is at its end.
    pub(super) fn finish(&mut self) -> Option<Bytes> {
        match std::mem::replace(&mut self.state, State::Rest) {
            State::Head(head) if !head.is_empty() => Some(head.freeze()),
            _ => None,
        }
    }

    /// Takes a piece of the body. Holds no more than it, plus an unfinished head.
    ///
    /// # Errors
    /// A signed chunk that is too large.
    pub(super) fn push(&mut self, mut piece: Bytes) -> Result<(), ChunkTooLarge> {
        while !piece.is_empty() {
            match &mut self.state {
                State::Rest => {
                    self.out.push_back(std::mem::take(&mut piece));
                }
                State::Head(head) => {
                    let end = piece
                        .iter()
                        .position(|byte| *byte == b'\n')
                        .map(|at| at + 1);
                    head.extend_from_slice(&piece.split_to(end.unwrap_or(piece.len())));
                    if end.is_some() || head.len() > MAX_HEAD_BYTES {
                        let head = std::mem::take(head);
                        self.begin_chunk(head)?;
                    }
                }
                State::Data { slice, rest } => {
                    let take = usize::try_from(*slice)
                        .unwrap_or(usize::MAX)
                        .min(piece.len());
                    self.out.push_back(piece.split_to(take));
                    *slice -= take as u64;
                    if *slice > 0 {
                        continue;
                    }
                    let rest = *rest;
                    if rest > 0 {
                        self.out.push_back(Bytes::from_static(b"\r\n"));
                        self.begin_slice(rest);
                    } else {
                        // The chunk's own line end is an empty "head" that passes as it is.
                        self.state = State::Head(BytesMut::new());
                    }
                }
            }
        }
        Ok(())
    }

    fn begin_chunk(&mut self, head: BytesMut) -> Result<(), ChunkTooLarge> {
        if head.as_ref() == b"\r\n" {
            self.out.push_back(head.freeze());
            self.state = State::Head(BytesMut::new());
            return Ok(());
        }
        let (size, signed) = parse_head(&head);
        self.state = match size {
            Some(size) if signed && size > MAX_SIGNED_CHUNK_BYTES => {
                return Err(ChunkTooLarge(size));
            }
            Some(size) if !signed && size > SLICE_BYTES => {
                self.begin_slice(size);
                return Ok(());
            }
            Some(size) if size > 0 => State::Data {
                slice: size,
                rest: 0,
            },
            _ => State::Rest,
        };
        self.out.push_back(head.freeze());
        Ok(())
    }

    fn begin_slice(&mut self, left: u64) {
        let slice = left.min(SLICE_BYTES);
        self.out.push_back(Bytes::from(format!("{slice:x}\r\n")));
        self.state = State::Data {
            slice,
            rest: left - slice,
        };
    }
}

/// The size a head announces, if it is one, and whether the chunk is signed.
fn parse_head(head: &[u8]) -> (Option<u64>, bool) {
    let digits = head
        .iter()
        .position(|byte| !byte.is_ascii_hexdigit())
        .unwrap_or(head.len());
    let (size, mut tail) = head.split_at(digits);
    let signed = tail.first() == Some(&b';');
    if tail.remaining() == 0 {
        return (None, false);
    }
    tail.advance(1);
    let size = std::str::from_utf8(size)
        .ok()
        .and_then(|size| u64::from_str_radix(size, 16).ok());
    (size, signed)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cut(body: &[u8], piece_len: usize) -> Vec<u8> {
        let mut cutter = ChunkCutter::new();
        let mut out = Vec::new();
        for piece in body.chunks(piece_len.max(1)) {
            cutter.push(Bytes::copy_from_slice(piece)).unwrap();
            while let Some(piece) = cutter.pop() {
                out.extend_from_slice(&piece);
            }
        }
        out.extend(cutter.finish().unwrap_or_default());
        out
    }

    fn decode(mut body: &[u8]) -> (Vec<u8>, usize, Vec<u8>) {
        let (mut data, mut largest) = (Vec::new(), 0);
        loop {
            let line = body.iter().position(|byte| *byte == b'\n').unwrap() + 1;
            let size =
                usize::from_str_radix(std::str::from_utf8(&body[..line - 2]).unwrap(), 16).unwrap();
            body = &body[line..];
            if size == 0 {
                return (data, largest, body.to_vec());
            }
            largest = largest.max(size);
            data.extend_from_slice(&body[..size]);
            assert_eq!(&body[size..size + 2], b"\r\n");
            body = &body[size + 2..];
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn large_unsigned_chunks_are_cut_and_nothing_else_changes(
            sizes in prop::collection::vec(1usize..700_000, 1..4),
            piece_len in 1usize..200_000,
        ) {
            let (mut body, mut data) = (Vec::new(), Vec::new());
            for (index, size) in sizes.iter().enumerate() {
                let chunk: Vec<u8> = (0..*size).map(|at| (at + index) as u8).collect();
                body.extend_from_slice(format!("{size:x}\r\n").as_bytes());
                body.extend_from_slice(&chunk);
                body.extend_from_slice(b"\r\n");
                data.extend_from_slice(&chunk);
            }
            let tail = b"x-amz-checksum-crc32:AAAAAA==\r\n\r\n";
            body.extend_from_slice(b"0\r\n");
            body.extend_from_slice(tail);
            let (decoded, largest, rest) = decode(&cut(&body, piece_len));
            prop_assert_eq!(decoded, data);
            prop_assert!(largest as u64 <= SLICE_BYTES);
            prop_assert_eq!(rest, tail);
        }
    }

    #[test]
    fn signed_chunks_pass_unchanged_and_are_refused_when_too_large() {
        let body = [
            b"3;chunk-signature=ab\r\nabc\r\n".as_slice(),
            b"0;chunk-signature=cd\r\n\r\n",
        ]
        .concat();
        assert_eq!(cut(&body, 5), body);
        let mut cutter = ChunkCutter::new();
        assert!(
            cutter
                .push(Bytes::from_static(b"1000001;chunk-signature=ab\r\n"))
                .is_err()
        );
    }

    #[test]
    fn what_is_not_chunked_passes_unchanged() {
        let body = b"not a chunk head\nand more".as_slice();
        assert_eq!(cut(body, 4), body);
    }
}
