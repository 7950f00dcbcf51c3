//! SEEK_DATA and SEEK_HOLE.

use std::{ops::Range, sync::Arc};

use super::Reading;
use crate::{
    data::{
        DataError,
        file::{FileState, View},
    },
    meta::Ino,
};

/// SEEK_DATA or SEEK_HOLE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seek {
    /// SEEK_DATA.
    Data,
    /// SEEK_HOLE.
    Hole,
}

impl Reading {
    pub(crate) async fn seek(
        self: &Arc<Self>,
        ino: Ino,
        offset: u64,
        what: Seek,
    ) -> Result<Option<u64>, DataError> {
        let file = self.file(ino);
        if let Some(view) = self.view(&file).await? {
            return Ok(seek_in(&view, offset, what));
        }
        file.load(&self.shared.meta).await?;
        let mut at = offset;
        let mut first = true;
        loop {
            // Everything is looked at under one lock. If a commit came between two looks, data
            // would be neither in the overlay nor below the committed size.
            let (view, size, visible_size) = {
                let content = file.content.lock();
                let view = content.overlay.view(at..content.size).into_iter().next();
                (view, content.size, content.visible_size())
            };
            if at >= size {
                let at_end = !first && what == Seek::Hole;
                return Ok(at_end.then_some(size));
            }
            first = false;
            let Some(view) = view else { return Ok(None) };
            match view.piece {
                Some(_) => {
                    if what == Seek::Data {
                        return Ok(Some(at));
                    }
                    at = view.range.end;
                }
                None => {
                    let end = view.range.end;
                    let (data, until) = self
                        .committed_run(&file, at..end.min(visible_size).max(at))
                        .await?;
                    let until = if until <= at { end } else { until };
                    if data == (what == Seek::Data) {
                        return Ok(Some(at));
                    }
                    at = until;
                }
            }
        }
    }

    /// Is there committed data at the start of `range`, and how far does that hold?
    async fn committed_run(
        &self,
        file: &FileState,
        range: Range<u64>,
    ) -> Result<(bool, u64), DataError> {
        if range.is_empty() {
            return Ok((false, range.start));
        }
        let window = self.extents(file, range.clone()).await?;
        for extent in window.extents.iter() {
            let end = extent.offset + extent.len;
            if end <= range.start {
                continue;
            }
            if extent.offset <= range.start {
                return Ok((true, end.min(range.end)));
            }
            return Ok((false, extent.offset.min(range.end)));
        }
        Ok((false, window.range.end.min(range.end)))
    }
}

/// SEEK_DATA and SEEK_HOLE. A file whose extents are not held is one run of data.
fn seek_in(view: &View, offset: u64, what: Seek) -> Option<u64> {
    let size = view.size();
    if offset >= size {
        return None;
    }
    let Some(extents) = &view.extents else {
        return Some(if what == Seek::Data { offset } else { size });
    };
    let mut at = offset;
    for extent in extents.iter() {
        let end = extent.offset + extent.len;
        if end <= at {
            continue;
        }
        match what {
            Seek::Data => return Some(at.max(extent.offset)).filter(|found| *found < size),
            Seek::Hole if extent.offset > at => return Some(at),
            Seek::Hole => at = end,
        }
    }
    match what {
        Seek::Data => None,
        Seek::Hole => Some(at.min(size)),
    }
}
