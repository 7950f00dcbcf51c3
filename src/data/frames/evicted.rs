//! Frames that were evicted lately: to miss one of them says that the memory is too small for what
//! is read.

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};

use crate::meta::ObjectId;

/// Places for evicted frames: of a GiB and more the latest.
const PLACES: usize = 1 << 14;

/// Remembers frames by a hash of 32 bits; each replaces an earlier one.
pub(crate) struct Evicted {
    places: Box<[u32]>,
}

impl Default for Evicted {
    fn default() -> Evicted {
        Evicted {
            places: vec![0; PLACES].into_boxed_slice(),
        }
    }
}

impl Evicted {
    /// Memory that this takes.
    pub(crate) const BYTES: u64 = PLACES as u64 * 4;

    pub(crate) fn note(&mut self, frame: (ObjectId, u64)) {
        let (place, mark) = hash(frame);
        if let Some(known) = self.places.get_mut(place) {
            *known = mark;
        }
    }

    /// Was it evicted lately? It is forgotten with the answer.
    pub(crate) fn take(&mut self, frame: (ObjectId, u64)) -> bool {
        let (place, mark) = hash(frame);
        match self.places.get_mut(place) {
            Some(known) if *known == mark => {
                *known = 0;
                true
            }
            _ => false,
        }
    }
}

/// A place, and what to write there.
fn hash(frame: (ObjectId, u64)) -> (usize, u32) {
    let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(frame);
    (hash as usize % PLACES, (hash >> 32) as u32 | 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meta::SessionId;

    #[test]
    fn what_was_evicted_is_known_once_and_nothing_else_is() {
        let object = ObjectId {
            session: SessionId([7; 16]),
            number: 3,
        };
        let mut evicted = Evicted::default();
        (0..1_000).for_each(|frame| evicted.note((object, frame)));
        let known = (0..1_000)
            .filter(|frame| evicted.take((object, *frame)))
            .count();
        assert!(known > 900, "{known}");
        assert!(!(0..100_000).any(|frame| evicted.take((object, frame))));
    }
}
