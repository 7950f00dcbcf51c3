//! The plan of one read: the frames that are here, those that are coming, and the requests for the
//! rest.

use std::{ops::Range, sync::Arc};

use bytes::Bytes;

use super::{Reading, open_file::OpenFile};
use crate::{
    budget::Reservation,
    data::{
        frames::{
            BLOCK_FRAMES, Fetch, FrameBytes, Frames, Kept, ObjectHandle, frames_len, is_one_block,
        },
        readahead::RUN_MIN,
    },
    meta::ObjectId,
};

/// Where a run of the answer comes from.
pub(crate) enum Source {
    Memory(Bytes),
    /// Out of the metadata, and not paid for yet.
    Inline(Bytes),
    Zeros(u64),
    Object {
        object: Arc<ObjectHandle>,
        range: Range<u64>,
        /// So many bytes follow this run in the file, and in the object too.
        follows: u64,
    },
}

/// The frames to fetch beyond those that a read misses.
#[derive(Clone, Copy)]
pub(crate) enum Beyond {
    Nothing,
    /// Nothing, and no other read is expected to need these frames while they are in memory.
    NothingKept,
    /// The region that the density policy says.
    Region,
    /// So many bytes that follow in the file.
    Onward(u64),
}

impl Source {
    pub(crate) fn len(&self) -> u64 {
        match self {
            Source::Memory(bytes) | Source::Inline(bytes) => bytes.len() as u64,
            Source::Zeros(len) => *len,
            Source::Object { range, .. } => range.end - range.start,
        }
    }

    /// Does the run of the file that this is the beginning of end soon?
    pub(crate) fn is_short_run(&self) -> bool {
        matches!(self, Source::Object { range, follows, .. }
            if range.end - range.start + follows < RUN_MIN)
    }

    fn object(&self) -> Option<(&Arc<ObjectHandle>, &Range<u64>)> {
        match self {
            Source::Object { object, range, .. } => Some((object, range)),
            Source::Memory(_) | Source::Inline(_) | Source::Zeros(_) => None,
        }
    }
}

/// The most that [`Reading::plan`] can find missing, with `onward` bytes beyond the read.
pub(crate) fn missing_bytes_max(sources: &[Source], onward: u64) -> u64 {
    let mut frames: Vec<_> = sources
        .iter()
        .filter_map(Source::object)
        .flat_map(|(object, range)| {
            let frames = object.layout.frames_of(range.clone());
            frames.map(move |frame| (object, frame))
        })
        .collect();
    sort_distinct(&mut frames);
    let lens = frames
        .iter()
        .map(|(object, frame)| object.layout.frame_plaintext_len(*frame));
    // The bytes onward may end within a frame.
    let onward = match sources.last().and_then(Source::object) {
        Some((object, _)) if onward > 0 => onward + object.layout.frame_len(),
        _ => 0,
    };
    lens.sum::<u64>() + onward
}

/// A file that was written at random has pages of one frame at several places of a read.
fn sort_distinct(frames: &mut Vec<(&Arc<ObjectHandle>, u64)>) {
    frames.sort_unstable_by_key(|(object, frame)| (object.id, *frame));
    frames.dedup_by_key(|(object, frame)| (object.id, *frame));
}

/// How one frame of the answer will come.
pub(crate) enum Frame {
    Ready(FrameBytes),
    Coming(Arc<Fetch>),
    Missing,
}

/// The frames of each source of one read, and the runs among them that must be fetched.
pub(crate) struct Plan {
    frames: Vec<Vec<Frame>>,
    runs: Vec<MissingRun>,
    /// Memory that the frames to be fetched take.
    pub(crate) missing_bytes: u64,
    /// Memory that the reply takes beside its frames: none if it lies in one piece of paid memory.
    pub(crate) reply_bytes: u64,
}

/// Adjacent frames of one object that are fetched with one request; a read misses some of them.
struct MissingRun {
    object: Arc<ObjectHandle>,
    frames: Range<u64>,
    /// So many of them are missed; those after them are fetched along.
    missed: u64,
    /// The run goes on beyond the read by so many bytes of the file.
    onward: u64,
    /// A region around it may be fetched along.
    in_region: bool,
    /// Its frames are kept in memory.
    is_kept: bool,
}

impl MissingRun {
    fn missed_frames(&self) -> Range<u64> {
        self.frames.start..self.frames.start + self.missed
    }

    /// Is any of its frames missing still?
    fn is_missed_by(&self, sources: &[Source], frames: &[Vec<Frame>]) -> bool {
        let missed = self.missed_frames();
        sources.iter().zip(frames).any(|(source, frames)| {
            let of_this = source.object().filter(|(of, _)| of.id == self.object.id);
            of_this.is_some_and(|(object, range)| {
                let mut numbered = object.layout.frames_of(range.clone()).zip(frames);
                numbered.any(|(number, frame)| {
                    matches!(frame, Frame::Missing) && missed.contains(&number)
                })
            })
        })
    }
}

impl Plan {
    /// The frames, if none has to be fetched.
    pub(crate) fn frames_if_here(self) -> Option<Vec<Vec<Frame>>> {
        (self.missing_bytes == 0).then_some(self.frames)
    }

    pub(crate) fn misses_any(&self) -> bool {
        !self.runs.is_empty()
    }

    /// Whether the read needs no request to the store: what it misses is on the local disk.
    pub(crate) fn is_on_this_machine(&self, frames: &Frames) -> bool {
        self.runs.iter().all(|run| {
            let mut missed = run.missed_frames();
            missed.all(|frame| frames.is_on_disk(run.object.id, frame))
        })
    }

    /// Will the answer lie in one piece of memory that is paid for?
    fn is_one_piece(&self, sources: &[Source]) -> bool {
        let ([source], [frames]) = (sources, self.frames.as_slice()) else {
            return false;
        };
        let Source::Object { object, range, .. } = source else {
            return matches!(source, Source::Memory(_));
        };
        let wanted = object.layout.frames_of(range.clone());
        let first = match frames.first() {
            Some(Frame::Coming(fetch)) => fetch,
            Some(Frame::Ready(_)) | None => return frames.len() == 1,
            Some(Frame::Missing) => {
                let run = self.runs.first();
                let is_whole =
                    run.is_some_and(|run| run.onward > 0 && run.frames.start == wanted.start);
                return frames.len() == 1 || (is_whole && is_one_block(&wanted));
            }
        };
        let is_same =
            |frame: &Frame| matches!(frame, Frame::Coming(fetch) if Arc::ptr_eq(fetch, first));
        frames.iter().all(is_same) && first.brings_in_one_piece(&wanted)
    }
}

impl Reading {
    /// Finds each frame of each source: in the cache, in a fetch under way, or in no place yet.
    pub(crate) fn plan(self: &Arc<Self>, sources: &[Source], beyond: Beyond) -> Plan {
        let mut plan = Plan {
            frames: Vec::with_capacity(sources.len()),
            runs: Vec::new(),
            missing_bytes: 0,
            reply_bytes: 0,
        };
        let mut missing = Vec::new();
        for source in sources {
            let Some((object, range)) = source.object() else {
                plan.frames.push(Vec::new());
                continue;
            };
            self.readahead.regions.note_read(object.id);
            let wanted = object.layout.frames_of(range.clone());
            let frames: Vec<Frame> = wanted
                .clone()
                .map(|frame| self.find(object, frame))
                .collect();
            let missed = wanted
                .zip(&frames)
                .filter(|(_, frame)| matches!(frame, Frame::Missing));
            missing.extend(missed.map(|(frame, _)| (object, frame)));
            plan.frames.push(frames);
        }
        sort_distinct(&mut missing);
        let adjoin = |(object, frame): &(&Arc<ObjectHandle>, u64),
                      (next_object, next): &(&Arc<ObjectHandle>, u64)| {
            object.id == next_object.id && frame + 1 == *next
        };
        for run in missing.chunk_by(adjoin) {
            if let [(object, first), ..] = run {
                let missed = *first..first + run.len() as u64;
                plan.runs
                    .push(self.run(object, missed, sources.last(), beyond));
            }
        }
        let lens = plan
            .runs
            .iter()
            .map(|run| frames_len(&run.object, run.frames.clone()));
        plan.missing_bytes = lens.sum();
        if !plan.is_one_piece(sources) {
            plan.reply_bytes = sources.iter().map(Source::len).sum();
        }
        plan
    }

    /// One request for the frames that are missed, with the frames that are fetched along.
    fn run(
        &self,
        object: &Arc<ObjectHandle>,
        missed: Range<u64>,
        last: Option<&Source>,
        beyond: Beyond,
    ) -> MissingRun {
        let mut run = MissingRun {
            object: object.clone(),
            frames: missed.clone(),
            missed: missed.end - missed.start,
            onward: 0,
            in_region: false,
            is_kept: true,
        };
        match (beyond, last) {
            (Beyond::Region, _) => run.in_region = true,
            (Beyond::NothingKept, _) => run.is_kept = false,
            (
                Beyond::Onward(bytes),
                Some(Source::Object {
                    object: last,
                    range,
                    follows,
                }),
            ) if last.id == object.id
                && object.layout.frames_of(range.clone()).end == missed.end =>
            {
                let wished = range.start..range.end + bytes.min(*follows);
                // So that no read on the way lies in two blocks.
                let block_end = (missed.start / BLOCK_FRAMES + 1) * BLOCK_FRAMES;
                let until = object.layout.frames_of(wished).end.min(block_end);
                run.frames.end = self
                    .frames
                    .first_here(object, missed.end..until.max(missed.end));
                if run.frames.end > missed.end {
                    let fetched = run.frames.end * object.layout.frame_len();
                    run.onward = fetched.min(range.end + follows).saturating_sub(range.end);
                }
            }
            _ => {}
        }
        run
    }

    fn find(&self, object: &ObjectHandle, frame: u64) -> Frame {
        if let Some(bytes) = self.frames.cache.get((object.id, frame)) {
            return Frame::Ready(FrameBytes::whole(bytes));
        }
        match self.frames.fetches.get((object.id, frame)) {
            Some(fetch) => Frame::Coming(fetch),
            None => Frame::Missing,
        }
    }

    /// Starts a fetch for each run of missing frames of `read`, paid out of `reservation`. Frames
    /// beyond the read are held by the window.
    ///
    /// Frames that another read has fetched since the plan was made, or begun to fetch, are not
    /// fetched twice; they are held from here on, so they stay until the answer is made. The second
    /// value says whether there were some: the answer may lie in more pieces than was planned.
    pub(crate) fn start_missing(
        self: &Arc<Self>,
        open: &OpenFile,
        sources: &[Source],
        read: &Range<u64>,
        plan: Plan,
        reservation: &mut Reservation,
    ) -> (Vec<Vec<Frame>>, bool) {
        let Plan {
            mut frames,
            mut runs,
            ..
        } = plan;
        // Held until the fetches are in the table: two reads never start the same.
        let starting = (!runs.is_empty()).then(|| self.frames.starting.lock());
        let has_come = starting.is_some() && self.find_missing_again(sources, &mut frames);
        if has_come {
            runs.retain(|run| run.is_missed_by(sources, &frames));
        }
        let metrics = self.shared.store.metrics();
        metrics.cache_hits.add(
            frames
                .iter()
                .flatten()
                .filter(|frame| !matches!(frame, Frame::Missing))
                .count() as u64,
        );
        let mut fetches = Vec::with_capacity(runs.len());
        for mut run in runs {
            let missed = run.missed_frames();
            metrics.cache_misses.add(run.missed);
            let comes_already = |fetch: &(ObjectId, Range<u64>, Arc<Fetch>)| {
                fetch.0 == run.object.id
                    && fetch.1.start <= missed.start
                    && missed.end <= fetch.1.end
            };
            if fetches.iter().any(comes_already) {
                // It comes with the region around an earlier run.
                continue;
            }
            let mut paid = reservation.split(frames_len(&run.object, run.frames.clone()));
            let kept = match run.is_kept && run.onward == 0 {
                true => Kept::InCache(missed.clone()),
                false => Kept::Nowhere,
            };
            let mut then = (Vec::new(), false);
            if run.in_region {
                let region = self.readahead.region_of(&run.object, &missed);
                run.frames = region.requests.first;
                then = (region.requests.then, region.to_disk);
                if let Some(beyond) = region.beyond {
                    paid.join(beyond);
                }
            }
            let along = run.frames.end - run.frames.start - run.missed;
            metrics.readahead_frames.add(along);
            let id = run.object.id;
            let fetch = Fetch::start(
                &self.frames,
                run.object.clone(),
                run.frames.clone(),
                paid,
                kept,
            );
            if run.onward > 0 {
                let file = read.start..read.end + run.onward;
                self.readahead.hold(&open.ahead, file, fetch.clone());
            } else if along > 0 {
                self.readahead.regions.keep(fetch.clone());
            }
            let (pieces, to_disk) = then;
            self.readahead
                .regions
                .put_waiting(&run.object, pieces, to_disk);
            fetches.push((id, run.frames, fetch));
        }
        for (source, frames) in sources.iter().zip(&mut frames) {
            let Some((object, range)) = source.object() else {
                continue;
            };
            for (number, place) in object.layout.frames_of(range.clone()).zip(frames) {
                let brings = |fetch: &&(ObjectId, Range<u64>, Arc<Fetch>)| {
                    fetch.0 == object.id && fetch.1.contains(&number)
                };
                if matches!(place, Frame::Missing)
                    && let Some((_, _, fetch)) = fetches.iter().find(brings)
                {
                    *place = Frame::Coming(fetch.clone());
                }
            }
        }
        (frames, has_come)
    }

    /// Looks once more for the frames that were missing; whether any was found.
    fn find_missing_again(&self, sources: &[Source], frames: &mut [Vec<Frame>]) -> bool {
        let mut has_found = false;
        for (source, frames) in sources.iter().zip(frames) {
            let Some((object, range)) = source.object() else {
                continue;
            };
            for (number, place) in object.layout.frames_of(range.clone()).zip(frames) {
                if matches!(place, Frame::Missing) {
                    *place = self.find(object, number);
                    has_found |= !matches!(place, Frame::Missing);
                }
            }
        }
        has_found
    }
}
