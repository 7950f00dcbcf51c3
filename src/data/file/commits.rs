//! The next commit of a file: what it may cover, and what changes once it is applied.

use super::{
    content::Content,
    in_flight::{InFlight, Place},
    overlay::Overlay,
};
use crate::meta::{Extent, NewObject, Timestamp};

/// One file's part of the next commit.
#[derive(Clone, Debug)]
pub(crate) struct FileCommit {
    /// Objects that it is the first to name.
    pub(crate) objects: Vec<NewObject>,
    pub(crate) extents: Vec<Extent>,
    pub(crate) size: u64,
    pub(crate) cut: Option<u64>,
    pub(crate) mtime: Option<Timestamp>,
    pub(crate) ctime: Option<Timestamp>,
    /// This commit covers all changes up to this one.
    pub(crate) covers: u64,
    /// The last write-back in it.
    through: u64,
}

impl Content {
    /// Might [`Content::next_commit`] have something?
    pub(crate) fn may_commit(&self) -> bool {
        self.in_flight
            .front()
            .is_some_and(|entry| !matches!(entry.place, Place::OnItsWay(_)))
    }

    /// A commit of as much write-back in flight as may be committed now, oldest first. Hold the
    /// commit lock until [`Content::commit_ended`].
    pub(crate) fn next_commit(&self) -> Option<FileCommit> {
        let ready = self
            .in_flight
            .iter()
            .take_while(|entry| matches!(entry.place, Place::Here | Place::Stored(_)))
            .count();
        // An object is committed with all write-back that it holds: it would die if what is
        // committed first let go of it.
        let is_end = |count: &usize| {
            let objects = |entry: &InFlight| entry.place.object();
            let later = || self.in_flight.iter().skip(*count).filter_map(objects);
            let earlier = self.in_flight.iter().take(*count).filter_map(objects);
            earlier
                .into_iter()
                .all(|object| later().all(|other| other != object))
        };
        (1..=ready)
            .rev()
            .filter(is_end)
            .find_map(|count| self.commit_of(count))
            .or_else(|| self.commit_without_lost())
    }

    /// Bytes were lost, and newer ones replaced all of them: all write-back in flight together is
    /// whole.
    fn commit_without_lost(&self) -> Option<FileCommit> {
        let has_lost = self
            .in_flight
            .iter()
            .any(|entry| matches!(entry.place, Place::Lost(_)));
        let is_pending = |entry: &InFlight| matches!(entry.place, Place::OnItsWay(_));
        let is_whole = has_lost && !self.has_lost() && !self.in_flight.iter().any(is_pending);
        let last_is_whole = self
            .in_flight
            .back()
            .is_some_and(|entry| entry.covers.is_some());
        (is_whole && last_is_whole)
            .then(|| self.commit_of(self.in_flight.len()))
            .flatten()
    }

    /// The first `count` write-backs in flight as one commit; `None` if they leave a gap that later
    /// ones are to fill.
    fn commit_of(&self, count: usize) -> Option<FileCommit> {
        let mut runs = Overlay::default();
        let (mut size, mut cut) = (self.base_size, None::<u64>);
        let mut objects: Vec<NewObject> = Vec::new();
        let (mut covers, mut last) = (self.committed, None);
        for entry in self.in_flight.iter().take(count) {
            covers = covers.max(entry.covers.unwrap_or(0));
            if let Some(at) = entry.cut {
                cut = Some(cut.map_or(at, |before| before.min(at)));
                size = size.min(at);
            }
            size = size.max(entry.end());
            match &entry.place {
                Place::Lost(_) => {}
                Place::Here | Place::OnItsWay(_) => runs.lay(&entry.runs),
                Place::Stored(new) => {
                    runs.lay(&entry.runs);
                    if objects.iter().all(|other| other.object != new.object) {
                        objects.push(new.clone());
                    }
                }
            }
            last = Some(entry);
        }
        let last = last?;
        let extents = if self.discarded {
            Vec::new()
        } else {
            runs.extents()
        };
        let end = extents
            .last()
            .map_or(0, |extent| extent.offset + extent.len);
        (end <= size).then(|| FileCommit {
            objects,
            extents,
            size,
            cut,
            mtime: self.mtime,
            ctime: self.ctime,
            covers,
            through: last.number,
        })
    }

    /// The commit is applied. Returns the bytes that were in flight, to be dropped when no lock is
    /// held.
    pub(crate) fn commit_ended(&mut self, commit: &FileCommit, applied: u64) -> Vec<Overlay> {
        let mut done = Vec::new();
        while let Some(entry) = self
            .in_flight
            .pop_front_if(|entry| entry.number <= commit.through)
        {
            match entry.place.object() {
                Some(object) => self.overlay.forget_object(object),
                None => self.overlay.forget_inline(entry.number + 1),
            }
            self.committed = self.committed.max(entry.covers.unwrap_or(0));
            done.push(entry.runs);
        }
        self.committed_at = applied;
        self.base_size = commit.size;
        self.mtime = self.mtime.filter(|now| Some(*now) != commit.mtime);
        self.ctime = self.ctime.filter(|now| Some(*now) != commit.ctime);
        if !self.has_lost() {
            self.errors.standing = None;
        }
        self.invalidate_extents();
        done
    }
}
