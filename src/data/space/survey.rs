//! The survey decides which objects are written again although they are not mostly dead. It does no
//! I/O.
//!
//! Objects that are below half live are on a list of their own, and are always repacked. That alone
//! lets a volume hold twice what lives: a file half of which was overwritten at random leaves each
//! of its objects half alive. To repack everything that has a dead byte would be no better: an
//! object that is four fifths alive costs four bytes each way for each byte that is freed, and
//! traffic that is paid for costs more than the space. So a *survey* goes through the records of
//! all objects, some in each round. Only if the volume as a whole holds more than
//! [`LIVE_FOR_EACH_DEAD`] allows, the emptiest objects are repacked, and no more of them than
//! brings it below that.
//!
//! An object that still loses bytes is left alone until it does not: some of what would be moved
//! would die a moment later.

use std::collections::{BTreeMap, VecDeque};

use crate::meta::{ObjectId, ObjectRecord};

/// For each dead byte there must be so many that live: then objects are four fifths alive on
/// average.
const LIVE_FOR_EACH_DEAD: u64 = 4;

/// Objects that a survey may find worth repacking, some 150 bytes each. The next one finds more.
const CANDIDATES_MAX: usize = 1024;

/// The fullness of an object is counted in so many parts of a whole.
const FULL: u128 = 1 << 32;

#[derive(Clone, Copy)]
struct Candidate {
    live_bytes: u64,
    wasted_bytes: u64,
}

/// See the module's head.
#[derive(Default)]
pub(crate) struct Survey {
    /// The object that was looked at last; `None`: none yet.
    pub(crate) after: Option<ObjectId>,
    /// The metadata's sequence number when it began; `None`: it has not begun.
    begun_at: Option<u64>,
    live_bytes: u64,
    wasted_bytes: u64,
    /// The emptiest first.
    candidates: BTreeMap<(u64, ObjectId), Candidate>,
    before: Before,
}

/// The findings of the survey before this one.
#[derive(Default)]
struct Before {
    begun_at: Option<u64>,
    live_bytes: BTreeMap<ObjectId, u64>,
    /// Some objects still lost bytes, so another look is needed although nothing changes any more.
    is_unsettled: bool,
}

impl Survey {
    /// Is there something to look for? `sequence` is the metadata's now, `opened_at` what it was
    /// when the volume was opened: a mount that writes nothing asks nothing of the store.
    pub(crate) fn is_due(&self, sequence: u64, opened_at: u64) -> bool {
        let seen = self.before.begun_at.unwrap_or(opened_at);
        self.begun_at.is_some() || self.before.is_unsettled || sequence != seen
    }

    /// Before the first look; no effect on one that goes on.
    pub(crate) fn begin(&mut self, sequence: u64) {
        self.begun_at.get_or_insert(sequence);
    }

    /// Looks at one object. Objects without live bytes are garbage and not counted.
    pub(crate) fn look(&mut self, object: ObjectId, record: &ObjectRecord) {
        self.after = Some(object);
        self.live_bytes += record.live_bytes;
        let wasted_bytes = record.plaintext_len.saturating_sub(record.live_bytes);
        if record.live_bytes == 0 || wasted_bytes == 0 || record.is_sparse() {
            return;
        }
        self.wasted_bytes += wasted_bytes;
        let fullness = u128::from(record.live_bytes) * FULL / u128::from(record.plaintext_len);
        let candidate = Candidate {
            live_bytes: record.live_bytes,
            wasted_bytes,
        };
        self.candidates.insert((fullness as u64, object), candidate);
        if self.candidates.len() > CANDIDATES_MAX {
            self.candidates.pop_last();
        }
    }

    /// Call when all objects were looked at. Returns those that are to be repacked, the emptiest
    /// first.
    pub(crate) fn finish(&mut self) -> VecDeque<ObjectId> {
        let survey = std::mem::take(self);
        let allowed = survey.live_bytes / LIVE_FOR_EACH_DEAD;
        let mut excess = survey.wasted_bytes.saturating_sub(allowed);
        let mut chosen = VecDeque::new();
        let before = &mut self.before;
        before.begun_at = survey.begun_at;
        for ((_, object), candidate) in survey.candidates {
            if excess > 0 {
                excess = excess.saturating_sub(candidate.wasted_bytes);
                match survey.before.live_bytes.get(&object) {
                    Some(live_bytes) if *live_bytes == candidate.live_bytes => {
                        chosen.push_back(object)
                    }
                    _ => before.is_unsettled = true,
                }
            }
            before.live_bytes.insert(object, candidate.live_bytes);
        }
        chosen
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        meta::SessionId,
        seal::{
            codec::{ObjectKind, SealParams},
            keys::Epoch,
        },
    };

    fn record(plaintext_len: u64, live_bytes: u64) -> ObjectRecord {
        ObjectRecord {
            params: SealParams {
                salt: [0; 32],
                epoch: Epoch(1),
                frame_log2: 16,
                kind: ObjectKind::Data,
            },
            plaintext_len,
            live_bytes,
        }
    }

    /// Objects of 100 bytes, of which so many live; the numbers of those that are chosen.
    fn chosen(survey: &mut Survey, sequence: u64, live: &[u64]) -> Vec<u64> {
        survey.begin(sequence);
        for (number, live_bytes) in (0..).zip(live) {
            let session = SessionId([1; 16]);
            survey.look(ObjectId { session, number }, &record(100, *live_bytes));
        }
        survey.finish().iter().map(|object| object.number).collect()
    }

    #[test]
    fn the_emptiest_go_until_a_quarter_is_wasted_once_they_lose_nothing_more() {
        let mut survey = Survey::default();
        // 160 dead beside 489 that live, where 122 are allowed. Objects below half live go anyway,
        // and dead ones are gone.
        let live = [90, 60, 100, 70, 70, 50, 49, 0];
        assert!(chosen(&mut survey, 5, &live).is_empty());
        assert!(survey.is_due(5, 0), "nothing is settled yet");
        assert_eq!(chosen(&mut survey, 5, &live), [5]);
        assert!(!survey.is_due(5, 0));
        assert!(survey.is_due(6, 0));
    }

    #[test]
    fn an_object_that_still_loses_bytes_waits_and_no_fuller_one_takes_its_place() {
        let mut survey = Survey::default();
        chosen(&mut survey, 1, &[60, 70, 70]);
        assert_eq!(chosen(&mut survey, 2, &[55, 70, 70]), [1]);
        assert_eq!(chosen(&mut survey, 3, &[55, 70, 70]), [0, 1]);
    }

    #[test]
    fn a_volume_that_wastes_little_is_left_alone_whatever_single_objects_waste() {
        let mut survey = Survey::default();
        for sequence in 0..3 {
            assert!(chosen(&mut survey, sequence, &[50, 100, 100, 100]).is_empty());
        }
    }

    #[test]
    fn a_mount_that_writes_nothing_looks_at_nothing() {
        let survey = Survey::default();
        assert!(!survey.is_due(7, 7));
        assert!(survey.is_due(8, 7));
    }
}
