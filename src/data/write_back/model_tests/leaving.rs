//! Dirty bytes leave memory, as the drivers of write-back do it: streams, sweeps, slices, packs,
//! inline, attributes; and the requests that uploads make.

use std::{rc::Rc, time::Instant};

use bytes::Bytes;

use super::world::{
    FILES, Guard, InFlight, OBJECT_MAX, Object, PART, Place, Sealed, World, checksum, id,
};
use crate::{
    data::upload::{Placed, Request, Step, Upload},
    meta::NewObject,
    seal::codec::{ObjectKind, SealParams},
};

impl World {
    pub(super) fn begin(&mut self, files: Vec<usize>) -> u64 {
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

    pub(super) fn seal(&mut self, index: usize, number: u64, from: u64, room: usize) {
        self.seal_with(&[], index, number, from, room);
    }

    /// The committed bytes where nothing uncommitted lies, to be written along.
    pub(super) fn filler(&self, index: usize, from: u64) -> Vec<(u64, Bytes)> {
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

    pub(super) fn seal_with(
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
            .begin_in_object(id(number), &collected, &placed);
        let last = placed.last()?;
        Some(last.offset + last.bytes.len() as u64)
    }

    pub(super) fn push_part(&mut self, number: u64, last: bool) {
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
    pub(super) fn pump(&mut self, index: usize) {
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

    pub(super) fn end_stream(&mut self, index: usize) {
        if let Some(number) = self.files[index].stream.take() {
            while self.objects[&number].buffer.len() > PART {
                self.push_part(number, false);
            }
            self.push_part(number, true);
        }
    }

    /// As `finish_stream`: everything, in one sweep, the object ended.
    pub(super) fn sweep(&mut self, index: usize) {
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

    /// As `send_slice`: from where the last slice ended, in an object of its own.
    pub(super) fn slice(&mut self, index: usize) {
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

    pub(super) fn pack(&mut self) {
        let files: Vec<usize> = (0..FILES)
            .filter(|index| {
                let file = &self.files[*index];
                file.stream.is_none()
                    && file.content.may_be_packed()
                    && !file.content.is_all_in_flight()
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

    pub(super) fn inline(&mut self, index: usize) {
        let file = &mut self.files[index];
        if file.stream.is_none() && file.content.fits_inline() {
            file.content.begin_inline();
        }
    }

    pub(super) fn attributes(&mut self, index: usize) {
        let file = &mut self.files[index];
        if !file.content.is_all_in_flight() {
            file.content.begin_attributes();
        }
    }

    /// Hands out what the machines ask for.
    pub(super) fn poll(&mut self) {
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

    pub(super) fn allow(&mut self, object: u64, parts: u32) {
        let mut released = self.released.borrow_mut();
        released
            .allowed
            .extend((1..=parts).map(|part| (object, part)));
        released.early.retain(|(early, _)| *early != object);
    }
}
