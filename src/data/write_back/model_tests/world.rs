//! The files, the objects and the store of the model, and what is done to the files.

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashMap, HashSet},
    rc::Rc,
    time::{Duration, Instant},
};

use bytes::Bytes;

use crate::{
    data::{
        file::Content,
        upload::{Answer, Request, Upload},
    },
    meta::{ObjectId, SessionId, Timestamp},
    store::{StoreError, StoreErrorKind},
};

pub(super) const FILES: usize = 3;
pub(super) const SIZE_MAX: u64 = 48;
pub(super) const PART: usize = 8;
pub(super) const OBJECT_MAX: usize = 24;
pub(super) const STEPS: usize = 120;
pub(super) const SEEDS: u64 = 2000;

/// SplitMix64: the seed alone decides.
pub(super) struct Rng(pub(super) u64);

impl Rng {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, n: u64) -> u64 {
        self.next() % n.max(1)
    }

    pub(super) fn pick(&mut self, len: usize) -> Option<usize> {
        (len > 0).then(|| self.below(len as u64) as usize)
    }
}

/// Bytes of a part, which must not be dropped before the store has them.
#[derive(Clone)]
pub(super) struct Sealed {
    pub(super) bytes: Bytes,
    pub(super) _guard: Rc<Guard>,
}

pub(super) struct Guard {
    pub(super) part: (u64, u32),
    pub(super) released: Rc<RefCell<Released>>,
}

#[derive(Default)]
pub(super) struct Released {
    /// Parts that may be dropped.
    pub(super) allowed: HashSet<(u64, u32)>,
    pub(super) early: Vec<(u64, u32)>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        let mut released = self.released.borrow_mut();
        if !released.allowed.contains(&self.part) {
            released.early.push(self.part);
        }
    }
}

/// The objects and uploads that the store holds of one key.
#[derive(Default)]
pub(super) struct Stored {
    pub(super) whole: Option<Vec<u8>>,
    pub(super) uploads: HashMap<String, BTreeMap<u32, (Vec<u8>, String)>>,
}

/// An object that is being written, as the driver has it.
pub(super) struct Object {
    pub(super) upload: Upload<Sealed>,
    pub(super) files: Vec<usize>,
    pub(super) buffer: Vec<u8>,
    pub(super) plaintext: Vec<u8>,
    pub(super) parts: u32,
    pub(super) sent: u32,
    pub(super) over: bool,
}

pub(super) struct InFlight {
    pub(super) object: u64,
    pub(super) request: Request,
    /// The bytes that it carries.
    pub(super) body: Option<Vec<u8>>,
}

#[derive(Clone)]
pub(super) struct State {
    pub(super) bytes: Vec<u8>,
}

#[derive(Clone, Default)]
pub(super) struct Record {
    pub(super) size: u64,
    /// Where each byte is: in an object, or here.
    pub(super) bytes: BTreeMap<u64, Place>,
}

#[derive(Clone)]
pub(super) enum Place {
    In(u64, u64),
    Here(u8),
}

pub(super) struct File {
    pub(super) content: Content,
    /// Everything that the file was since the last fsync.
    pub(super) history: Vec<State>,
    pub(super) record: Record,
    /// Objects that were refused while they held bytes of it.
    pub(super) refusals: u64,
    pub(super) stream: Option<u64>,
    /// Fsyncs under way: the change waited for, and how long the history was.
    pub(super) syncs: Vec<(u64, usize)>,
    pub(super) forgotten: usize,
    /// When each byte was last written.
    pub(super) written_at: Vec<Instant>,
}

pub(super) struct World {
    pub(super) rng: Rng,
    pub(super) files: Vec<File>,
    pub(super) objects: BTreeMap<u64, Object>,
    pub(super) store: HashMap<u64, Stored>,
    pub(super) in_flight: Vec<InFlight>,
    /// Requests whose copy may arrive once more.
    pub(super) late: Vec<InFlight>,
    /// Answers that the store has given and that have not arrived.
    pub(super) answers: Vec<(InFlight, Answer)>,
    pub(super) released: Rc<RefCell<Released>>,
    /// Objects that the metadata has a record of, and those of them that are garbage.
    pub(super) recorded: HashSet<u64>,
    pub(super) dead: HashSet<u64>,
    pub(super) now: Duration,
    pub(super) stamp: u8,
    pub(super) next_object: u64,
    pub(super) next_tag: u64,
    pub(super) healthy: bool,
    pub(super) seen: Seen,
}

/// The events that a run reached.
#[derive(Default, Debug)]
pub(super) struct Seen {
    pub(super) commits: u64,
    pub(super) refusals: u64,
    pub(super) lost: u64,
    pub(super) syncs: u64,
    pub(super) late: u64,
    pub(super) multipart: u64,
    /// Sweeps that wrote something along.
    pub(super) along: u64,
    pub(super) slices: u64,
}

pub(super) fn id(number: u64) -> ObjectId {
    ObjectId {
        session: SessionId([1; 16]),
        number,
    }
}

pub(super) fn error(what: &'static str) -> StoreError {
    StoreError::new(StoreErrorKind::Denied, what, "key", "refused")
}

pub(super) fn checksum(bytes: &[u8]) -> String {
    crate::store::checksum(&Bytes::copy_from_slice(bytes))
}

impl World {
    pub(super) fn new(seed: u64) -> World {
        let file = || File {
            content: Content::new(),
            history: vec![State { bytes: Vec::new() }],
            record: Record::default(),
            refusals: 0,
            stream: None,
            syncs: Vec::new(),
            forgotten: 0,
            written_at: vec![Instant::now(); SIZE_MAX as usize],
        };
        World {
            rng: Rng(seed),
            files: (0..FILES).map(|_| file()).collect(),
            objects: BTreeMap::new(),
            store: HashMap::new(),
            in_flight: Vec::new(),
            late: Vec::new(),
            answers: Vec::new(),
            released: Rc::default(),
            recorded: HashSet::new(),
            dead: HashSet::new(),
            now: Duration::ZERO,
            stamp: 0,
            next_object: 0,
            next_tag: 0,
            healthy: false,
            seen: Seen::default(),
        }
    }

    pub(super) fn fresh(&mut self, len: u64) -> Vec<u8> {
        self.stamp = self.stamp % 250 + 1;
        vec![self.stamp; len as usize]
    }

    pub(super) fn change(&mut self, index: usize, change: impl FnOnce(&mut Vec<u8>)) {
        let file = &mut self.files[index];
        let mut bytes = file.history.last().unwrap().bytes.clone();
        change(&mut bytes);
        file.history.push(State { bytes });
        file.content.touch(Timestamp {
            seconds: file.history.len() as i64,
            nanos: 0,
        });
    }

    pub(super) fn write(&mut self, index: usize) {
        let offset = self.rng.below(SIZE_MAX - 1);
        let len = 1 + self.rng.below(20).min(SIZE_MAX - offset - 1);
        let data = self.fresh(len);
        self.write_at(index, offset, &data);
    }

    pub(super) fn append(&mut self, index: usize) {
        let offset = self.files[index].history.last().unwrap().bytes.len() as u64;
        if offset + 8 <= SIZE_MAX {
            let data = self.fresh(8);
            self.write_at(index, offset, &data);
        }
    }

    pub(super) fn write_at(&mut self, index: usize, offset: u64, data: &[u8]) {
        let file = &mut self.files[index];
        file.content.write(offset, Bytes::copy_from_slice(data));
        self.change(index, |bytes| {
            let end = offset as usize + data.len();
            bytes.resize(bytes.len().max(end), 0);
            bytes[offset as usize..end].copy_from_slice(data);
        });
        let written = &mut self.files[index].written_at[offset as usize..][..data.len()];
        written.fill(Instant::now());
    }

    pub(super) fn truncate(&mut self, index: usize) {
        let size = self.rng.below(SIZE_MAX);
        self.files[index].content.truncate(size);
        self.change(index, |bytes| bytes.resize(size as usize, 0));
    }

    /// `> file` and new contents: the emptiness between is no state that may survive.
    pub(super) fn replace(&mut self, index: usize) {
        let len = 1 + self.rng.below(12);
        let data = self.fresh(len);
        let file = &mut self.files[index];
        file.content.truncate(0);
        file.content.write(0, Bytes::copy_from_slice(&data));
        for end in 1..=data.len() {
            self.change(index, |bytes| *bytes = data[..end].to_vec());
        }
        self.files[index].written_at[..data.len()].fill(Instant::now());
    }

    pub(super) fn punch(&mut self, index: usize) {
        let from = self.rng.below(SIZE_MAX);
        let to = from + 1 + self.rng.below(10);
        let file = &mut self.files[index];
        let end = to.min(file.content.size);
        if from >= end {
            return;
        }
        file.content.punch(from..end);
        for at in from..end.min(file.content.visible_size()) {
            file.record.bytes.remove(&at);
        }
        self.change(index, |bytes| bytes[from as usize..end as usize].fill(0));
    }
}
