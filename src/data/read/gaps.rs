//! Reads of committed bytes that will be written again: those between dirty pieces, and those that
//! are moved.

use std::{ops::Range, sync::Arc};

use bytes::Bytes;

use super::{
    Reading, gather,
    open_file::OpenFile,
    plan::{Beyond, Source, missing_bytes_max},
};
use crate::{
    budget::Owner,
    data::{DataError, file::HOLE_MIN, paid::paid_bytes},
};

impl Reading {
    /// Reads what is committed in `gaps`, in order; large holes are left out. With `around`, what
    /// lies around missing frames is fetched as for a program that reads.
    pub(crate) async fn read_gaps(
        self: &Arc<Self>,
        open: &OpenFile,
        gaps: &[Range<u64>],
        around: bool,
    ) -> Result<Vec<(u64, Bytes)>, DataError> {
        let (Some(first), Some(last)) = (gaps.first(), gaps.last()) else {
            return Ok(Vec::new());
        };
        let read = first.start..last.end;
        let (mut places, mut sources) = (Vec::new(), Vec::new());
        for gap in gaps {
            let mut at = gap.start;
            let mut found = Vec::new();
            self.locate_committed(&open.file, None, gap.clone(), &mut found)
                .await?;
            for source in found {
                let len = source.len();
                if !matches!(source, Source::Zeros(hole) if hole >= HOLE_MIN) {
                    places.push(at..at + len);
                    sources.push(source);
                }
                at += len;
            }
        }
        let bytes = self.read_sources(open, read, sources, around).await?;
        let mut from = 0;
        Ok(places
            .into_iter()
            .map(|place| {
                let to = from + (place.end - place.start) as usize;
                let piece = bytes.slice(from..to);
                from = to;
                (place.start, piece)
            })
            .collect())
    }

    /// Reads committed `sources`, one after the other, into one piece of memory that is paid for.
    async fn read_sources(
        self: &Arc<Self>,
        open: &OpenFile,
        read: Range<u64>,
        sources: Vec<Source>,
        around: bool,
    ) -> Result<Bytes, DataError> {
        let len: u64 = sources.iter().map(Source::len).sum();
        let bound = len + missing_bytes_max(&sources, 0);
        if bound > self.read_bytes_max() {
            let turn = self.wide_turn().await;
            let reply = self.read_wide(turn, open, read, sources).await?;
            return Ok(reply.bytes);
        }
        let mut paid = self.shared.governor.acquire(Owner::Read, bound).await;
        // A reader in order has a window instead of regions.
        let beyond = match around && !open.ahead.window.lock().is_continued_by(&read) {
            true => Beyond::Region,
            false => Beyond::Nothing,
        };
        let plan = self.plan(&sources, beyond);
        let (frames, _) = self.start_missing(open, &sources, &read, plan, &mut paid);
        paid.shrink_to(len);
        let size = open.file.content.lock().size;
        self.read_ahead(open, None, read, size).await;
        let mut whole = Vec::with_capacity(len as usize);
        for piece in gather(sources, frames).await? {
            whole.extend_from_slice(&piece);
        }
        Ok(paid_bytes(whole, paid))
    }
}
