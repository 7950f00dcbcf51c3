//! The write-back machine against a model: small files, tiny parts, a store that answers in every
//! way, and a crash after every step.
//!
//! The world is driven by a seed. After every step the state that a crash would leave is read back
//! through the model of the store and compared with the history of each file:
//! - each byte is one that the file held at that place at some time since its last fsync;
//! - the size is one that it had, or passed through, since then; replaced contents are never gone
//!   while the new ones are not there;
//! - what an extent names is in the store, whole, and is what was taken.
//!
//! Sealed bytes must not be dropped before they are acknowledged, errors are heard by the files
//! with bytes in the refused object only, and once the store answers normally everything becomes
//! durable.
//!
//! `mount-scripts/mutants.sh` breaks the machine on purpose and expects this test to notice.

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
        upload::{Answer, Denial, Placed, Request, Step, Upload},
    },
    meta::{Extent, ExtentSource, NewObject, ObjectId, SessionId, Timestamp},
    seal::codec::{ObjectKind, SealParams},
    store::{PartTag, StoreError, StoreErrorKind, StoredPart, UploadId},
};

const FILES: usize = 3;
const SIZE_MAX: u64 = 48;
const PART: usize = 8;
const OBJECT_MAX: usize = 24;
const STEPS: usize = 120;
const SEEDS: u64 = 2000;

/// SplitMix64: the seed alone decides.
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n.max(1)
    }

    fn pick(&mut self, len: usize) -> Option<usize> {
        (len > 0).then(|| self.below(len as u64) as usize)
    }
}

/// Bytes of a part, which must not be dropped before the store has them.
#[derive(Clone)]
struct Sealed {
    bytes: Bytes,
    _guard: Rc<Guard>,
}

struct Guard {
    part: (u64, u32),
    released: Rc<RefCell<Released>>,
}

#[derive(Default)]
struct Released {
    /// Parts that may be dropped.
    allowed: HashSet<(u64, u32)>,
    early: Vec<(u64, u32)>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        let mut released = self.released.borrow_mut();
        if !released.allowed.contains(&self.part) {
            released.early.push(self.part);
        }
    }
}

/// What the store holds of one key.
#[derive(Default)]
struct Stored {
    whole: Option<Vec<u8>>,
    uploads: HashMap<String, BTreeMap<u32, (Vec<u8>, String)>>,
}

/// An object that is being written, as the driver has it.
struct Object {
    upload: Upload<Sealed>,
    files: Vec<usize>,
    buffer: Vec<u8>,
    plaintext: Vec<u8>,
    parts: u32,
    sent: u32,
    over: bool,
}

struct InFlight {
    object: u64,
    request: Request,
    /// The bytes that it carries.
    body: Option<Vec<u8>>,
}

#[derive(Clone)]
struct State {
    bytes: Vec<u8>,
}

#[derive(Clone, Default)]
struct Record {
    size: u64,
    /// What each byte is: in an object, or itself.
    bytes: BTreeMap<u64, Place>,
}

#[derive(Clone)]
enum Place {
    In(u64, u64),
    Here(u8),
}

struct File {
    content: Content,
    /// Everything that the file was since the last fsync.
    history: Vec<State>,
    record: Record,
    /// Objects that were refused while they held bytes of it.
    refusals: u64,
    stream: Option<u64>,
    /// Fsyncs under way: the change waited for, and how long the history was.
    syncs: Vec<(u64, usize)>,
    forgotten: usize,
    /// When each byte was last written.
    written_at: Vec<Instant>,
}

struct World {
    rng: Rng,
    files: Vec<File>,
    objects: BTreeMap<u64, Object>,
    store: HashMap<u64, Stored>,
    in_flight: Vec<InFlight>,
    /// Requests whose copy may arrive once more.
    late: Vec<InFlight>,
    /// Answers that the store has given and that have not arrived.
    answers: Vec<(InFlight, Answer)>,
    released: Rc<RefCell<Released>>,
    /// Objects that the metadata has a record of, and those of them that are garbage.
    recorded: HashSet<u64>,
    dead: HashSet<u64>,
    now: Duration,
    stamp: u8,
    next_object: u64,
    next_tag: u64,
    healthy: bool,
    seen: Seen,
}

/// What a run reached.
#[derive(Default, Debug)]
struct Seen {
    commits: u64,
    refusals: u64,
    lost: u64,
    syncs: u64,
    late: u64,
    multipart: u64,
    /// Sweeps that wrote something along.
    along: u64,
    slices: u64,
}

fn id(number: u64) -> ObjectId {
    ObjectId {
        session: SessionId([1; 16]),
        number,
    }
}

fn error(what: &'static str) -> StoreError {
    StoreError::new(StoreErrorKind::Denied, what, "key", "refused")
}

impl World {
    fn new(seed: u64) -> World {
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

    fn fresh(&mut self, len: u64) -> Vec<u8> {
        self.stamp = self.stamp % 250 + 1;
        vec![self.stamp; len as usize]
    }

    fn change(&mut self, index: usize, change: impl FnOnce(&mut Vec<u8>)) {
        let file = &mut self.files[index];
        let mut bytes = file.history.last().unwrap().bytes.clone();
        change(&mut bytes);
        file.history.push(State { bytes });
        file.content.touch(Timestamp {
            seconds: file.history.len() as i64,
            nanos: 0,
        });
    }

    fn write(&mut self, index: usize) {
        let offset = self.rng.below(SIZE_MAX - 1);
        let len = 1 + self.rng.below(20).min(SIZE_MAX - offset - 1);
        let data = self.fresh(len);
        self.write_at(index, offset, &data);
    }

    fn append(&mut self, index: usize) {
        let offset = self.files[index].history.last().unwrap().bytes.len() as u64;
        if offset + 8 <= SIZE_MAX {
            let data = self.fresh(8);
            self.write_at(index, offset, &data);
        }
    }

    fn write_at(&mut self, index: usize, offset: u64, data: &[u8]) {
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

    fn truncate(&mut self, index: usize) {
        let size = self.rng.below(SIZE_MAX);
        self.files[index].content.truncate(size);
        self.change(index, |bytes| bytes.resize(size as usize, 0));
    }

    /// `> file` and new contents: the emptiness between is no state that may survive.
    fn replace(&mut self, index: usize) {
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

    fn punch(&mut self, index: usize) {
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

    fn begin(&mut self, files: Vec<usize>) -> u64 {
        let number = self.next_object;
        self.next_object += 1;
        self.objects.insert(
            number,
            Object {
                upload: Upload::new(),
                files,
                buffer: Vec::new(),
                plaintext: Vec::new(),
                parts: 0,
                sent: 0,
                over: false,
            },
        );
        number
    }

    fn seal(&mut self, index: usize, number: u64, from: u64, room: usize) {
        self.seal_with(&[], index, number, from, room);
    }

    /// What is committed where nothing uncommitted lies, to be written along.
    fn filler(&self, index: usize, from: u64) -> Vec<(u64, Bytes)> {
        let file = &self.files[index];
        let gaps = file.content.gaps(from..u64::MAX).into_iter();
        gaps.map(|gap| {
            let bytes = gap.clone().map(|at| match file.record.bytes.get(&at) {
                None => 0,
                Some(Place::Here(value)) => *value,
                Some(Place::In(object, inner)) => {
                    self.store[object].whole.as_ref().unwrap()[*inner as usize]
                }
            });
            (gap.start, bytes.collect())
        })
        .collect()
    }

    fn seal_with(
        &mut self,
        filler: &[(u64, Bytes)],
        index: usize,
        number: u64,
        from: u64,
        room: usize,
    ) -> Option<u64> {
        let (collected, pieces) =
            self.files[index]
                .content
                .collect_with(filler, from, u64::MAX, room as u64);
        let object = self.objects.get_mut(&number).unwrap();
        let mut placed = Vec::new();
        let mut left = room.min(OBJECT_MAX - object.plaintext.len());
        for (offset, bytes) in &pieces {
            let take = bytes.len().min(left);
            if take == 0 {
                break;
            }
            let bytes = bytes.slice(..take);
            placed.push(Placed {
                offset: *offset,
                bytes: bytes.clone(),
                at: object.plaintext.len() as u64,
            });
            object.buffer.extend_from_slice(&bytes);
            object.plaintext.extend_from_slice(&bytes);
            left -= take;
        }
        // A write may come while the bytes are being sealed.
        if self.rng.below(4) == 0 {
            self.write(index);
        }
        self.files[index]
            .content
            .take_into(id(number), &collected, &placed);
        let last = placed.last()?;
        Some(last.offset + last.bytes.len() as u64)
    }

    fn push_part(&mut self, number: u64, last: bool) {
        let released = self.released.clone();
        let object = self.objects.get_mut(&number).unwrap();
        let len = if last { object.buffer.len() } else { PART };
        let rest = object.buffer.split_off(len);
        let bytes = Bytes::from(std::mem::replace(&mut object.buffer, rest));
        object.parts += 1;
        let sealed = Sealed {
            bytes: bytes.clone(),
            _guard: Rc::new(Guard {
                part: (number, object.parts),
                released,
            }),
        };
        let checksum = checksum(&bytes);
        object
            .upload
            .push(sealed, bytes.len() as u64, checksum, last);
    }

    /// As `pump`: a full part of one file's stream.
    fn pump(&mut self, index: usize) {
        if self.files[index].content.overlay.dirty_bytes() < PART as u64 {
            return;
        }
        let number = match self.files[index].stream {
            Some(number) => number,
            None => self.begin(vec![index]),
        };
        self.files[index].stream = Some(number);
        self.seal(index, number, 0, PART);
        let object = &self.objects[&number];
        let (full, ends) = (
            object.buffer.len() >= PART,
            object.plaintext.len() >= OBJECT_MAX,
        );
        if full && !ends {
            self.push_part(number, false);
        }
        if ends {
            self.end_stream(index);
        }
    }

    fn end_stream(&mut self, index: usize) {
        if let Some(number) = self.files[index].stream.take() {
            while self.objects[&number].buffer.len() > PART {
                self.push_part(number, false);
            }
            self.push_part(number, true);
        }
    }

    /// As `finish_stream`: everything, in one sweep, the object ended.
    fn sweep(&mut self, index: usize) {
        let (began, mut from) = (Instant::now(), 0);
        for _ in 0..4 {
            if self.files[index].content.overlay.dirty_bytes() == 0
                && self.files[index].stream.is_none()
            {
                break;
            }
            let number = match self.files[index].stream {
                Some(number) => number,
                None => self.begin(vec![index]),
            };
            self.files[index].stream = Some(number);
            let room = OBJECT_MAX - self.objects[&number].plaintext.len();
            let mut filler = Vec::new();
            if self.rng.below(2) == 0 {
                filler = self.filler(index, from);
                // While that was read, something was written, or committed.
                match self.rng.below(4) {
                    0 => self.write(index),
                    1 => self.commit(index),
                    _ => {}
                }
                self.seen.along += u64::from(!filler.is_empty());
            }
            let to = self.seal_with(&filler, index, number, from, room);
            self.end_stream(index);
            from = to.unwrap_or(from);
        }
        self.files[index].content.note_sweep(began, from);
    }

    /// As `take_slice`: from where the last slice ended, in an object of its own.
    fn slice(&mut self, index: usize) {
        if self.files[index].content.overlay.dirty_bytes() == 0 {
            return;
        }
        let from = self.files[index].content.next_slice(Instant::now());
        let number = match self.files[index].stream {
            Some(number) => number,
            None => self.begin(vec![index]),
        };
        self.files[index].stream = Some(number);
        let is_along = self.rng.below(2) == 0;
        let filler = is_along.then(|| self.filler(index, from));
        let to = self.seal_with(&filler.unwrap_or_default(), index, number, from, PART);
        if let Some(to) = to {
            self.seen.slices += 1;
            self.files[index].content.slice_ended(to);
        }
        self.end_stream(index);
    }

    fn pack(&mut self) {
        let files: Vec<usize> = (0..FILES)
            .filter(|index| {
                let file = &self.files[*index];
                file.stream.is_none()
                    && file.content.may_be_packed()
                    && !file.content.everything_taken()
            })
            .collect();
        if files.is_empty() {
            return;
        }
        let number = self.begin(files.clone());
        for index in files {
            self.seal(index, number, 0, PART);
        }
        self.push_part(number, true);
    }

    fn inline(&mut self, index: usize) {
        let file = &mut self.files[index];
        if file.stream.is_none() && file.content.fits_inline() {
            file.content.take_inline();
        }
    }

    fn attributes(&mut self, index: usize) {
        let file = &mut self.files[index];
        if !file.content.everything_taken() {
            file.content.take_attributes();
        }
    }

    /// Hands out what the machines ask for.
    fn poll(&mut self) {
        let numbers: Vec<u64> = self.objects.keys().copied().collect();
        for number in numbers {
            let object = self.objects.get_mut(&number).unwrap();
            if object.over {
                continue;
            }
            match object.upload.next() {
                Step::Requests(requests) => {
                    for (_, request) in requests {
                        let body = match &request {
                            Request::Put => object.upload.bytes(1),
                            Request::Part { number, .. } => object.upload.bytes(*number),
                            _ => None,
                        };
                        object.sent += 1;
                        self.in_flight.push(InFlight {
                            object: number,
                            request,
                            body: body.map(|sealed| sealed.bytes.to_vec()),
                        });
                    }
                }
                Step::Stored => {
                    object.over = true;
                    let new = NewObject {
                        object: id(number),
                        params: SealParams {
                            salt: [0; 32],
                            epoch: crate::seal::keys::Epoch(0),
                            frame_log2: 16,
                            kind: ObjectKind::Data,
                        },
                        plaintext_len: object.plaintext.len() as u64,
                    };
                    let stored = self.store.get(&number).and_then(|key| key.whole.clone());
                    assert_eq!(
                        stored.as_ref(),
                        Some(&object.plaintext),
                        "object {number} counts as stored and is not"
                    );
                    let files = object.files.clone();
                    for index in &files {
                        self.files[*index].content.object_stored(&new);
                    }
                    // All files of a pack commit it in one batch.
                    if files.len() > 1 {
                        for index in files {
                            self.commit_part(index);
                        }
                        self.bury();
                    }
                }
                Step::Lost(error) => {
                    object.over = true;
                    self.seen.lost += 1;
                    let parts = object.parts;
                    self.allow(number, parts);
                    for file in &mut self.files {
                        file.content.object_lost(id(number), &error);
                    }
                    for index in self.objects[&number].files.clone() {
                        self.files[index].refusals += 1;
                    }
                }
                Step::Abandoned(_) => object.over = true,
            }
        }
    }

    fn allow(&mut self, object: u64, parts: u32) {
        let mut released = self.released.borrow_mut();
        released
            .allowed
            .extend((1..=parts).map(|part| (object, part)));
        released.early.retain(|(early, _)| *early != object);
    }

    /// What the store does with a request: the answer that it would give.
    fn act(&mut self, request: &InFlight) -> Answer {
        let key = self.store.entry(request.object).or_default();
        let gone = || Denial::Gone(error("gone"));
        match &request.request {
            Request::Put => {
                key.whole = request.body.clone();
                Answer::Put(Ok(()))
            }
            Request::Create => {
                self.next_tag += 1;
                let upload = format!("u{}", self.next_tag);
                key.uploads.insert(upload.clone(), BTreeMap::new());
                Answer::Created(Ok(UploadId(upload)))
            }
            Request::Part { upload, number } => {
                let result = match (key.uploads.get_mut(&upload.0), &request.body) {
                    (Some(parts), Some(body)) => {
                        self.next_tag += 1;
                        let etag = format!("e{}", self.next_tag);
                        parts.insert(*number, (body.clone(), etag.clone()));
                        Ok(PartTag {
                            number: *number,
                            etag,
                            checksum: None,
                        })
                    }
                    _ => Err(gone()),
                };
                Answer::Part {
                    upload: upload.clone(),
                    number: *number,
                    result,
                }
            }
            Request::List { upload } => Answer::Listed(match key.uploads.get(&upload.0) {
                Some(parts) => Ok(parts
                    .iter()
                    .map(|(number, (bytes, etag))| StoredPart {
                        number: *number,
                        len: bytes.len() as u64,
                        etag: etag.clone(),
                        checksum: Some(checksum(bytes)),
                    })
                    .collect()),
                None => Err(gone()),
            }),
            Request::Complete { upload, tags } => {
                let Some(parts) = key.uploads.get(&upload.0) else {
                    return Answer::Completed(Err(gone()));
                };
                let mut whole = Vec::new();
                for tag in tags {
                    match parts.get(&tag.number) {
                        Some((bytes, etag)) if *etag == tag.etag => whole.extend_from_slice(bytes),
                        _ => {
                            return Answer::Completed(Err(Denial::Mismatched(error(
                                "InvalidPart",
                            ))));
                        }
                    }
                }
                key.whole = Some(whole);
                key.uploads.remove(&upload.0);
                self.seen.multipart += 1;
                Answer::Completed(Ok(()))
            }
            Request::Look => Answer::Looked(Ok(key.whole.as_ref().map(|whole| whole.len() as u64))),
        }
    }

    fn deny(request: &Request, denial: Denial) -> Answer {
        match request {
            Request::Put => Answer::Put(Err(denial)),
            Request::Create => Answer::Created(Err(denial)),
            Request::Part { upload, number } => Answer::Part {
                upload: upload.clone(),
                number: *number,
                result: Err(denial),
            },
            Request::List { .. } => Answer::Listed(Err(denial)),
            Request::Complete { .. } => Answer::Completed(Err(denial)),
            Request::Look => Answer::Looked(match denial {
                Denial::Gone(_) => Ok(None),
                refused => Err(refused),
            }),
        }
    }

    /// One request is carried out, and its answer arrives, at once or later.
    fn deliver(&mut self) {
        if self.healthy || self.rng.below(3) == 0 {
            self.serve();
            self.arrive();
        } else if self.rng.below(2) == 0 {
            self.serve();
        } else {
            self.arrive();
        }
    }

    /// The store carries one request out.
    fn serve(&mut self) {
        let Some(place) = self.rng.pick(self.in_flight.len()) else {
            return;
        };
        let request = self.in_flight.swap_remove(place);
        if !self.healthy && self.rng.below(200) == 0 {
            self.lose_a_part(request.object);
        }
        let fault = if self.healthy { 9 } else { self.rng.below(10) };
        let answer = match fault {
            // Refused, not done.
            0 => Self::deny(&request.request, Denial::Refused(error("refused"))),
            // A stray 404, not done.
            1 => Self::deny(&request.request, Denial::Gone(error("stray"))),
            // Done, and the answer is lost: the client hears a failure.
            2 => {
                let _ = self.act(&request);
                Self::deny(&request.request, Denial::Refused(error("lost answer")))
            }
            // The client sends it twice; the first copy arrives later.
            3 => {
                let answer = self.act(&request);
                self.late.push(InFlight {
                    object: request.object,
                    request: request.request.clone(),
                    body: request.body.clone(),
                });
                answer
            }
            _ => self.act(&request),
        };
        self.answers.push((request, answer));
    }

    /// One answer arrives.
    fn arrive(&mut self) {
        let Some(place) = self.rng.pick(self.answers.len()) else {
            return;
        };
        let (request, answer) = self.answers.swap_remove(place);
        let acknowledged = match (&request.request, &answer) {
            (Request::Part { number, .. }, Answer::Part { result: Ok(_), .. }) => vec![*number],
            (_, Answer::Put(Ok(())) | Answer::Completed(Ok(())) | Answer::Looked(Ok(Some(_)))) => {
                (1..=self.objects[&request.object].parts).collect()
            }
            (_, Answer::Listed(Ok(parts))) => parts.iter().map(|part| part.number).collect(),
            _ => Vec::new(),
        };
        self.released
            .borrow_mut()
            .allowed
            .extend(acknowledged.iter().map(|part| (request.object, *part)));
        self.now += Duration::from_millis(500);
        let object = self.objects.get_mut(&request.object).unwrap();
        let files = object.files.clone();
        if let Some(refusal) = object.upload.answered(answer, self.now) {
            self.seen.refusals += 1;
            // Told to everybody: those without bytes in it must not listen.
            for file in &mut self.files {
                file.content.object_refused(id(request.object), &refusal);
            }
            for index in files {
                self.files[index].refusals += 1;
            }
        }
    }

    /// The store forgets a part that it had acknowledged.
    fn lose_a_part(&mut self, object: u64) {
        let uploads = self.store.entry(object).or_default().uploads.values_mut();
        for parts in uploads {
            parts.pop_first();
        }
    }

    fn arrive_late(&mut self) {
        if let Some(place) = self.rng.pick(self.late.len()) {
            let request = self.late.swap_remove(place);
            self.seen.late += 1;
            let _ = self.act(&request);
        }
    }

    fn commit(&mut self, index: usize) {
        self.commit_part(index);
        self.bury();
    }

    /// Objects that are recorded and that nothing names are dead for good.
    fn bury(&mut self) {
        let named: HashSet<u64> = self
            .files
            .iter()
            .flat_map(|file| file.record.bytes.values())
            .filter_map(|place| match place {
                Place::In(object, _) => Some(*object),
                Place::Here(_) => None,
            })
            .collect();
        let dead = self
            .recorded
            .iter()
            .filter(|object| !named.contains(object));
        self.dead.extend(dead);
    }

    fn commit_part(&mut self, index: usize) {
        let Some(commit) = self.files[index].content.next_commit() else {
            return;
        };
        let file = &mut self.files[index];
        if let Some(cut) = commit.cut {
            file.record.bytes.retain(|at, _| *at < cut);
        }
        for Extent {
            offset,
            len,
            source,
        } in &commit.extents
        {
            assert!(offset + len <= commit.size, "an extent beyond the size");
            for step in 0..*len {
                let place = match source {
                    ExtentSource::Object { object, at } => Place::In(object.number, at + step),
                    ExtentSource::Inline(bytes) => Place::Here(bytes[step as usize]),
                };
                file.record.bytes.insert(offset + step, place);
            }
        }
        file.record.bytes.retain(|at, _| *at < commit.size);
        file.record.size = commit.size;
        for new in &commit.objects {
            self.recorded.insert(new.object.number);
        }
        for extent in &commit.extents {
            if let ExtentSource::Object { object, .. } = extent.source {
                assert!(
                    !self.dead.contains(&object.number),
                    "object {} is named after it died",
                    object.number
                );
            }
        }
        file.content.commit_ended(&commit, 0);
        self.seen.commits += 1;
        let committed = file.content.committed;
        let done = file.syncs.iter().filter(|(change, _)| *change <= committed);
        if let Some(at) = done.map(|(_, at)| *at).max() {
            self.seen.syncs += 1;
            file.syncs.retain(|(change, _)| *change > committed);
            let drop = at - file.forgotten;
            file.history.drain(..drop);
            file.forgotten = at;
        }
    }

    fn sync(&mut self, index: usize) {
        let file = &mut self.files[index];
        let at = file.forgotten + file.history.len() - 1;
        file.syncs.push((file.content.change, at));
    }

    /// A crash now would leave this: is it allowed?
    fn check(&self, seed: u64, step: usize) {
        let early = &self.released.borrow().early;
        assert!(
            early.is_empty(),
            "seed {seed}, step {step}: released before the store had them: {early:?}"
        );
        for (index, file) in self.files.iter().enumerate() {
            let what = format!("seed {seed}, step {step}, file {index}");
            let size = file.record.size;
            let sizes = || file.history.iter().map(|state| state.bytes.len() as u64);
            let (least, most) = (sizes().min().unwrap(), sizes().max().unwrap());
            assert!(
                (least..=most).contains(&size),
                "{what}: size {size}, which it never had: {least}..={most}"
            );
            for at in 0..size {
                let value = match file.record.bytes.get(&at) {
                    None => 0,
                    Some(Place::Here(value)) => *value,
                    Some(Place::In(object, inner)) => {
                        let whole = self.store.get(object).and_then(|key| key.whole.as_ref());
                        *whole
                            .and_then(|whole| whole.get(*inner as usize))
                            .unwrap_or_else(|| panic!("{what}: names what is not in the store"))
                    }
                };
                let was = file
                    .history
                    .iter()
                    .any(|state| state.bytes.get(at as usize) == Some(&value));
                assert!(was, "{what}: byte {at} is {value}, which it never was");
            }
            let since = file.content.dirty_since;
            for at in file.content.overlay.dirty_runs(0).flatten() {
                assert!(
                    since.is_some_and(|since| since <= file.written_at[at as usize]),
                    "{what}: byte {at} is older than what counts as the oldest change"
                );
            }
            if file.refusals == 0 {
                assert!(
                    file.content.errors.standing().is_none(),
                    "{what}: hears of what is not its own"
                );
            }
        }
    }

    fn step(&mut self) {
        let index = self.rng.below(FILES as u64) as usize;
        let kind = self.rng.below(23);
        self.trace(index, kind);
        match kind {
            0..2 => self.write(index),
            2..4 => self.append(index),
            4 => self.truncate(index),
            5 => self.replace(index),
            6 => self.punch(index),
            7..10 => self.pump(index),
            10 => self.sweep(index),
            11 => self.pack(),
            12 => self.inline(index),
            13 => self.attributes(index),
            14 => self.arrive_late(),
            15 => self.sync(index),
            16 => self.commit(index),
            17 => self.slice(index),
            _ => self.deliver(),
        }
        self.poll();
    }

    /// With one seed only, says what is done to the file.
    fn trace(&self, index: usize, kind: u64) {
        if std::env::var_os("STRONGROOM_MODEL_SEED").is_some() {
            let file = &self.files[index];
            println!(
                "file {index}: step {kind}, change {}, committed {}, live {}, base {}, visible {}, history {:?}, {}",
                file.content.change,
                file.content.committed,
                file.content.size,
                file.content.base_size,
                file.content.visible_size(),
                file.history
                    .iter()
                    .map(|state| state.bytes.len())
                    .collect::<Vec<_>>(),
                file.content.takes_shown(),
            );
        }
    }

    /// The store answers normally: everything must become durable.
    fn heal(&mut self, seed: u64) {
        self.healthy = true;
        for round in 0..4000 {
            for index in 0..FILES {
                self.trace(index, 99);
                self.sync(index);
                self.sweep(index);
                self.attributes(index);
                self.commit(index);
            }
            self.poll();
            self.deliver();
            self.poll();
            self.check(seed, STEPS + round);
            let is_done = |file: &File| file.content.is_clean() || file.content.has_lost();
            if self.files.iter().all(is_done) {
                break;
            }
        }
        for (index, file) in self.files.iter().enumerate() {
            if file.content.has_lost() {
                continue;
            }
            assert!(
                file.content.is_clean(),
                "seed {seed}: file {index} never becomes durable"
            );
            assert!(
                file.content.errors.standing().is_none(),
                "seed {seed}: file {index} is durable and in error"
            );
            let live = &file.history.last().unwrap().bytes;
            assert_eq!(
                file.record.size,
                live.len() as u64,
                "seed {seed}, file {index}"
            );
        }
    }
}

fn checksum(bytes: &[u8]) -> String {
    crate::store::checksum(&Bytes::copy_from_slice(bytes))
}

#[test]
fn whatever_the_store_answers_a_crash_leaves_what_was_promised() {
    let only = std::env::var("STRONGROOM_MODEL_SEED").ok();
    let seeds = match only.as_ref().and_then(|seed| seed.parse::<u64>().ok()) {
        Some(seed) => seed..seed + 1,
        None => 0..SEEDS,
    };
    let mut total = Seen::default();
    for seed in seeds {
        let mut world = World::new(seed);
        for step in 0..STEPS {
            world.step();
            world.check(seed, step);
        }
        world.heal(seed);
        let seen = world.seen;
        total.commits += seen.commits;
        total.refusals += seen.refusals;
        total.lost += seen.lost;
        total.syncs += seen.syncs;
        total.late += seen.late;
        total.multipart += seen.multipart;
        total.along += seen.along;
        total.slices += seen.slices;
    }
    println!("{total:?}");
    assert!(
        only.is_some() || total.along.min(total.slices) > 500,
        "{total:?}"
    );
}
