//! Notes of followers: they keep the objects of an old version for a follower that still reads it.
//!
//! A follower leaves a small sealed object, `readers/<random id>`: the oldest generation of the
//! metadata that something open there is read at. It is written when the volume is mounted, renewed
//! every minute, and removed at the unmount. The writer, before it deletes what is dead, looks at
//! these and leaves alone what died after the oldest generation that a living reader names. An
//! object that died before that generation is named by nothing that such a reader reads.
//!
//! Clocks of machines are never compared: a reader lives as long as the count of its renewals grows
//! from one look of the writer to another. A reader whose count does not grow is given the benefit
//! of the doubt for [`SILENT_MAX`].
//!
//! It is a help, not a promise. A follower whose credentials may not write, one that was silent for
//! too long (suspended, cut off), or one among more than [`READERS_MAX`] has the grace period
//! alone; what is deleted then is `Stale` there, never other bytes.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use parking_lot::Mutex;
use tracing::{info, warn};

use super::Space;
use crate::{
    data::DataError,
    seal::{
        SealError,
        codec::{META_FRAME_LOG2, ObjectKind, open_whole, seal_whole},
        keys::VolumeKeys,
    },
    store::{Condition, ObjectHead, StoreError, StoreErrorKind},
};

/// Where readers leave their objects.
pub(crate) const READERS_PREFIX: &str = "readers/";

/// A reader that has not renewed its note for this long is dead: ten renewals did not come.
pub(crate) const SILENT_MAX: Duration = Duration::from_secs(10 * 60);

/// Readers that are looked at, each with one request, when something is to be deleted.
pub(crate) const READERS_MAX: usize = 64;

/// The longest object of a reader that is fetched; 24 bytes are sealed in it.
pub(crate) const NOTE_STORED_LEN_MAX: u64 = 4096;

/// How long an unmount may take to remove the object. One that stays is passed over once it is
/// silent.
const REMOVE_WITHIN: Duration = Duration::from_secs(5);

/// Moments of the past whose generation is known. With one a minute these are eleven days, and
/// twice as many if they lie twice as far apart.
const MARKS_MAX: usize = 16_384;

const FORMAT: u8 = 1;
pub(crate) const RECORD_LEN: usize = 24;

/// The contents of a reader's note.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ReaderRecord {
    /// Nothing is read there at an older generation.
    generation: u64,
    /// Grows with each renewal.
    renewal: u64,
}

impl ReaderRecord {
    #[cfg(any(fuzzing, test))]
    pub fn of(generation: u64, renewal: u64) -> ReaderRecord {
        ReaderRecord {
            generation,
            renewal,
        }
    }

    /// For the note of a follower that was mounted after a rotation of the key that this mount has
    /// not seen. The follower may read anything, for as long as the store says that it renews.
    fn of_unknown(head: &ObjectHead) -> ReaderRecord {
        ReaderRecord {
            generation: 0,
            renewal: u64::try_from(head.modified_unix_seconds).unwrap_or(0),
        }
    }

    /// Always of the same length: format, seven zeros, generation and renewal (big-endian).
    pub fn encode(self) -> [u8; RECORD_LEN] {
        let mut bytes = [0; RECORD_LEN];
        let (head, numbers) = bytes.split_at_mut(8);
        head.fill(0);
        if let Some(format) = head.first_mut() {
            *format = FORMAT;
        }
        let (generation, renewal) = numbers.split_at_mut(8);
        generation.copy_from_slice(&self.generation.to_be_bytes());
        renewal.copy_from_slice(&self.renewal.to_be_bytes());
        bytes
    }

    /// `None` if a later version wrote it.
    pub fn decode(bytes: &[u8]) -> Option<ReaderRecord> {
        let bytes: &[u8; RECORD_LEN] = bytes.try_into().ok()?;
        let number = |part: &[u8]| part.try_into().ok().map(u64::from_be_bytes);
        let (head, numbers) = bytes.split_at(8);
        let (generation, renewal) = numbers.split_at(8);
        (head.first() == Some(&FORMAT)).then_some(())?;
        Some(ReaderRecord {
            generation: number(generation)?,
            renewal: number(renewal)?,
        })
    }

    fn seal(self, keys: &Arc<VolumeKeys>, key: &str) -> Vec<u8> {
        seal_whole(
            keys,
            ObjectKind::Control,
            META_FRAME_LOG2,
            key,
            &self.encode(),
        )
    }
}

/// The readers that the writer knows of.
#[derive(Default)]
pub(crate) struct Readers {
    seen: Mutex<SeenReaders>,
    marks: Mutex<Marks>,
}

/// When each reader was last seen to renew, by this machine's clock.
#[derive(Default)]
struct SeenReaders {
    readers: HashMap<String, (ReaderRecord, Instant)>,
}

impl SeenReaders {
    /// Notes the readers that are there now; returns the oldest generation that a living reader
    /// reads at, and the keys of the dead.
    fn look(
        &mut self,
        found: Vec<(String, ReaderRecord)>,
        now: Instant,
    ) -> (Option<u64>, Vec<String>) {
        let mut known = std::mem::take(&mut self.readers);
        let (mut oldest, mut dead) = (None, Vec::new());
        for (key, record) in found {
            // An older object that is shown again proves nothing.
            let (record, renewed) = match known.remove(&key) {
                Some((before, renewed)) if record.renewal <= before.renewal => (before, renewed),
                _ => (record, now),
            };
            if now.saturating_duration_since(renewed) >= SILENT_MAX {
                dead.push(key.clone());
            } else {
                oldest = Some(oldest.map_or(record.generation, |oldest: u64| {
                    oldest.min(record.generation)
                }));
            }
            self.readers.insert(key, (record, renewed));
        }
        (oldest, dead)
    }
}

/// Seconds, and the generation at each. Oldest first; of one generation only the last second.
#[derive(Default)]
struct Marks {
    marks: VecDeque<(i64, u64)>,
}

impl Marks {
    fn add(&mut self, seconds: i64, generation: u64) {
        if let Some(last) = self.marks.back_mut()
            && last.1 == generation
        {
            last.0 = seconds;
            return;
        }
        if self.marks.len() >= MARKS_MAX {
            let mut keep = false;
            self.marks.retain(|_| {
                keep = !keep;
                keep
            });
        }
        self.marks.push_back((seconds, generation));
    }

    /// Objects that died before this second died before `generation`. `None`: that is not known.
    fn second_before(&self, generation: u64) -> Option<i64> {
        let after = self.marks.partition_point(|mark| mark.1 <= generation);
        let mark = after.checked_sub(1).and_then(|last| self.marks.get(last))?;
        Some(mark.0)
    }
}

impl Space {
    /// Notes the present generation, with the time.
    pub(crate) async fn mark_generation(&self) {
        let (seconds, generation) = self.shared.meta.mark().await;
        self.readers.marks.lock().add(seconds, generation);
    }

    /// Objects that died in this second or later may be read by a living reader; `None`: there is
    /// none.
    pub(crate) async fn needed_from(&self) -> Result<Option<i64>, DataError> {
        let listed = self.shared.store.list_page(READERS_PREFIX, None).await?;
        if listed.len() > READERS_MAX {
            warn!(
                "{} read-only mounts have left a note; only {READERS_MAX} of them are heeded",
                listed.len()
            );
        }
        let mut found = Vec::new();
        for entry in listed.into_iter().take(READERS_MAX) {
            let (head, stored) = match self
                .shared
                .store
                .get_bytes(&entry.key, None, NOTE_STORED_LEN_MAX)
                .await
            {
                Ok(found) => found,
                Err(error) if error.kind == StoreErrorKind::NotFound => continue,
                Err(error) => return Err(error.into()),
            };
            let opened = open_whole(&self.shared.keys, &entry.key, &stored);
            let record = match opened {
                Ok(opened) => ReaderRecord::decode(&opened),
                Err(SealError::Epoch { .. }) => Some(ReaderRecord::of_unknown(&head)),
                Err(_) => None,
            };
            match record {
                Some(record) => found.push((entry.key, record)),
                None => warn!("object {} is no reader's note of this volume", entry.key),
            }
        }
        let (oldest, dead) = self.readers.seen.lock().look(found, Instant::now());
        if !dead.is_empty() {
            info!("{} read-only mounts ended without a word", dead.len());
            self.shared.store.delete(&dead).await?;
        }
        let known = oldest.map(|oldest| self.readers.marks.lock().second_before(oldest));
        Ok(known.map(|second| second.unwrap_or(i64::MIN)))
    }

    /// A follower's part: tells the writer what is read here, until the volume is unmounted.
    pub(crate) async fn reader_loop(self: Arc<Self>) {
        let mut id = [0; 16];
        if let Err(error) = getrandom::fill(&mut id) {
            warn!("no randomness for a reader's note: {error}");
            return;
        }
        let key = format!("{READERS_PREFIX}{}", data_encoding::HEXLOWER.encode(&id));
        tokio::select! {
            () = self.shared.stop.cancelled() => {}
            () = self.tell_what_is_read(&key) => return,
        }
        let remove = [key];
        match tokio::time::timeout(REMOVE_WITHIN, self.shared.store.delete(&remove)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => warn!("the note of this mount stays: {error}"),
            Err(_) => warn!("the note of this mount stays: the store does not answer"),
        }
    }

    /// Returns when the store refuses for good.
    async fn tell_what_is_read(&self, key: &str) {
        for renewal in 1.. {
            if let Err(error) = self.write_note(key, renewal).await {
                // A key pair that may only read is a good idea for a follower.
                info!(
                    "the writer is not told what is read here, so what was replaced can be read for {} s at least: {error}",
                    self.shared.config.garbage_grace.as_secs()
                );
                return;
            }
            tokio::time::sleep(self.shared.config.reader_renewed_every).await;
        }
    }

    async fn write_note(&self, key: &str, renewal: u64) -> Result<(), StoreError> {
        let record = ReaderRecord {
            generation: self.reading.oldest_generation_read(),
            renewal,
        };
        let sealed = Bytes::from(record.seal(&self.shared.keys, key));
        self.shared
            .store
            .put(key, vec![sealed], Condition::None, &[])
            .await
            .map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seal::keys::VolumeId;

    fn record(generation: u64, renewal: u64) -> ReaderRecord {
        ReaderRecord::of(generation, renewal)
    }

    fn found(key: &str, generation: u64, renewal: u64) -> Vec<(String, ReaderRecord)> {
        vec![(key.to_owned(), record(generation, renewal))]
    }

    #[test]
    fn a_note_opens_only_under_its_own_key_and_is_of_one_length() {
        let keys = VolumeKeys::generate(VolumeId::generate());
        let short = record(1, 1).seal(&keys, "readers/a");
        let long = record(u64::MAX, u64::MAX).seal(&keys, "readers/a");
        assert_eq!(short.len(), long.len());
        let opened = open_whole(&keys, "readers/a", &long).unwrap();
        assert_eq!(
            ReaderRecord::decode(&opened),
            Some(record(u64::MAX, u64::MAX))
        );
        assert!(open_whole(&keys, "readers/b", &long).is_err());
        assert_eq!(ReaderRecord::decode(&opened[1..]), None);
        assert_eq!(ReaderRecord::decode(&[0; RECORD_LEN]), None);
    }

    #[test]
    fn a_reader_lives_while_it_renews_and_an_old_note_shown_again_is_no_renewal() {
        let mut seen = SeenReaders::default();
        let begun = Instant::now();
        let at = |minutes: u64| begun + Duration::from_secs(60 * minutes);
        assert_eq!(seen.look(found("a", 5, 1), at(0)).0, Some(5));
        assert_eq!(seen.look(found("a", 7, 2), at(9)).0, Some(7));
        // Old ones in turn.
        assert_eq!(seen.look(found("a", 5, 1), at(14)).0, Some(7));
        assert_eq!(seen.look(found("a", 7, 2), at(18)).0, Some(7));
        let (oldest, dead) = seen.look(found("a", 5, 1), at(19));
        assert_eq!((oldest, dead), (None, vec!["a".to_owned()]));
        // The reader was only cut off.
        assert_eq!(seen.look(found("a", 8, 3), at(30)).0, Some(8));
        assert_eq!(seen.look(Vec::new(), at(31)).0, None);
        assert!(seen.readers.is_empty());
    }

    #[test]
    fn the_oldest_of_all_living_readers_counts() {
        let mut seen = SeenReaders::default();
        let mut both = found("a", 9, 1);
        both.extend(found("b", 4, 1));
        assert_eq!(seen.look(both, Instant::now()).0, Some(4));
    }

    #[test]
    fn a_generation_is_placed_between_two_moments_on_the_safe_side() {
        let mut marks = Marks::default();
        assert_eq!(marks.second_before(5), None);
        for (second, generation) in [(100, 10), (160, 10), (220, 20), (280, 30)] {
            marks.add(second, generation);
        }
        assert_eq!(marks.second_before(9), None);
        assert_eq!(marks.second_before(10), Some(160), "the later, the better");
        assert_eq!(marks.second_before(29), Some(220));
        assert_eq!(marks.second_before(99), Some(280));
        for n in 0..3 * MARKS_MAX as u64 {
            marks.add(1_000 + n as i64, 1_000 + n);
            assert!(marks.marks.len() <= MARKS_MAX);
        }
        assert_eq!(marks.second_before(10), Some(160), "the oldest is kept");
        let generation = 1_000 + MARKS_MAX as u64;
        let second = marks.second_before(generation).unwrap();
        assert!(second <= generation as i64 && second > generation as i64 - 8);
    }
}
