//! The store of the model: it carries requests out, refuses, loses, forgets, repeats and delays.

use std::{collections::BTreeMap, time::Duration};

use super::world::{InFlight, World, checksum, error, id};
use crate::{
    data::upload::{Answer, Denial, Request},
    store::{PartTag, StoredPart, UploadId},
};

impl World {
    /// Carries a request out, and returns the answer that the store would give.
    pub(super) fn act(&mut self, request: &InFlight) -> Answer {
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

    pub(super) fn deny(request: &Request, denial: Denial) -> Answer {
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
    pub(super) fn deliver(&mut self) {
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
    pub(super) fn serve(&mut self) {
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
    pub(super) fn arrive(&mut self) {
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
    pub(super) fn lose_a_part(&mut self, object: u64) {
        let uploads = self.store.entry(object).or_default().uploads.values_mut();
        for parts in uploads {
            parts.pop_first();
        }
    }

    pub(super) fn arrive_late(&mut self) {
        if let Some(place) = self.rng.pick(self.late.len()) {
            let request = self.late.swap_remove(place);
            self.seen.late += 1;
            let _ = self.act(&request);
        }
    }
}
