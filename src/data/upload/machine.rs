//! One object's way into the store, as a state machine without I/O.
//!
//! Inputs are sealed parts, answers of the store and the clock; outputs are requests. A thin driver
//! (`send.rs`) performs them, and a model test (`write_back/model_tests`) answers them in every
//! way.
//!
//! Promises:
//! - The bytes of a part are held until the store acknowledged that part, or the object whole.
//! - The object counts as stored only if the acknowledged bytes add up to its sealed length.
//! - A 404 is a claim. `ListParts` and `HEAD` decide, for [`GONE_PATIENCE`].
//! - A refused completion is followed by `ListParts`: what the store holds is compared with what
//!   was sealed, by size and checksum, and the tags that the store names now are used.
//! - Every request that is made again waits first, with growing pauses.
//!
//! Never: gives up while the bytes are here; decides that an upload is lost on one answer.

use std::time::Duration;

use crate::store::{PartTag, StoreError, StoredPart, UploadId};

/// An upload that the store says is not there is asked for again for so long before it is believed.
/// As long as a request that the store refuses is tried again by default.
const GONE_PATIENCE: Duration = Duration::from_secs(120);

/// More mismatches than this in a row are a refusal: each late copy of a part makes one.
const MISMATCHES_MAX: u32 = 8;

/// The first pause before a request is made again. It doubles up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// Why the store did not grant a request.
#[derive(Clone, Debug)]
pub(crate) enum Denial {
    /// The store says that there is no such upload or object.
    Gone(StoreError),
    /// The store has other parts than those that were named: a late copy of one has replaced it.
    Mismatched(StoreError),
    /// Any other refusal.
    Refused(StoreError),
}

/// A request that the driver has to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// PUT of the only part.
    Put,
    /// CreateMultipartUpload.
    Create,
    /// UploadPart.
    Part { upload: UploadId, number: u32 },
    /// ListParts.
    List { upload: UploadId },
    /// CompleteMultipartUpload.
    Complete {
        upload: UploadId,
        tags: Vec<PartTag>,
    },
    /// HEAD: is the whole object there?
    Look,
}

/// An answer of the store.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    Put(Result<(), Denial>),
    Created(Result<UploadId, Denial>),
    Part {
        /// The upload that it was sent to: an answer to an upload that was given up is ignored.
        upload: UploadId,
        number: u32,
        result: Result<PartTag, Denial>,
    },
    Listed(Result<Vec<StoredPart>, Denial>),
    Completed(Result<(), Denial>),
    /// The stored length, or that there is nothing.
    Looked(Result<Option<u64>, Denial>),
}

/// The next thing to do.
#[derive(Debug)]
pub(crate) enum Step {
    /// Send these, each after its pause.
    Requests(Vec<(Duration, Request)>),
    /// The whole object is in the store.
    Stored,
    /// It can never be stored: the store lost bytes that it had acknowledged.
    Lost(StoreError),
    /// Nobody wants it any more. The upload to abort, if one stands.
    Abandoned(Option<UploadId>),
}

/// A sealed part; `P` is its bytes together with what pays for them.
struct Part<P> {
    bytes: Option<P>,
    len: u64,
    /// CRC-32 in base64, as the store shows it.
    checksum: String,
    tag: Option<PartTag>,
    in_flight: bool,
    /// The part was acknowledged when `ListParts` was asked. A part that was acknowledged later
    /// need not be in the answer.
    is_due_in_list: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Way {
    /// Not known yet whether it will be one PUT.
    Undecided,
    Putting,
    Creating,
    /// Parts are sent to this upload.
    Open(UploadId),
    /// `ListParts` is to say, or is saying, what the store has.
    Listing(UploadId),
    Completing(UploadId),
    /// `HEAD` is to say, or is saying, whether the object is whole.
    Looking(UploadId),
    Stored,
    Lost,
    Abandoned(Option<UploadId>),
}

/// See the module's head.
pub(crate) struct Upload<P> {
    parts: Vec<Part<P>>,
    /// Sealed bytes of all parts, once the last one is here.
    sealed_len: Option<u64>,
    way: Way,
    /// A request other than those for parts is under way.
    asking: bool,
    /// That request is a Create, whose upload has to be aborted should nobody want the object any
    /// more.
    creating: bool,
    /// Denials in a row: they make the pause.
    denials: u32,
    /// Since when the store says that the upload is not there.
    gone_since: Option<Duration>,
    /// The refusal that stands, for those who wait.
    refusal: Option<StoreError>,
}

impl<P: Clone> Upload<P> {
    pub(crate) fn new() -> Upload<P> {
        Upload {
            parts: Vec::new(),
            sealed_len: None,
            way: Way::Undecided,
            asking: false,
            creating: false,
            denials: 0,
            gone_since: None,
            refusal: None,
        }
    }

    /// Takes the next part in. With `last`, no further one comes.
    pub(crate) fn push(&mut self, bytes: P, len: u64, checksum: String, last: bool) {
        if self.is_over() {
            return;
        }
        self.parts.push(Part {
            bytes: Some(bytes),
            len,
            checksum,
            tag: None,
            in_flight: false,
            is_due_in_list: false,
        });
        if last {
            self.sealed_len = Some(self.parts.iter().map(|part| part.len).sum());
        }
    }

    /// The bytes of a part that is not acknowledged, to be sent.
    pub(crate) fn bytes(&self, number: u32) -> Option<P> {
        let part = self.parts.get((number as usize).checked_sub(1)?)?;
        part.bytes.clone()
    }

    /// Nobody wants the object any more.
    pub(crate) fn abandon(&mut self) {
        let upload = match &self.way {
            Way::Stored | Way::Lost | Way::Abandoned(_) => return,
            Way::Open(upload)
            | Way::Listing(upload)
            | Way::Completing(upload)
            | Way::Looking(upload) => Some(upload.clone()),
            Way::Undecided | Way::Putting | Way::Creating => None,
        };
        self.way = Way::Abandoned(upload);
        self.release();
    }

    fn is_over(&self) -> bool {
        matches!(self.way, Way::Stored | Way::Lost | Way::Abandoned(_))
    }

    fn release(&mut self) {
        for part in &mut self.parts {
            part.bytes = None;
        }
    }

    /// Returns what to do now. Requests are handed out once; each must be answered.
    pub(crate) fn next(&mut self) -> Step {
        let pause = self.pause();
        let mut requests = Vec::new();
        if self.way == Way::Undecided {
            match (self.parts.len(), self.sealed_len) {
                (0, _) => {}
                (1, Some(_)) => self.way = Way::Putting,
                _ => self.way = Way::Creating,
            }
        }
        if let Way::Open(upload) = &self.way {
            let upload = upload.clone();
            for (part, number) in self.parts.iter_mut().zip(1..) {
                if part.tag.is_none() && !part.in_flight {
                    part.in_flight = true;
                    requests.push((
                        pause,
                        Request::Part {
                            upload: upload.clone(),
                            number,
                        },
                    ));
                }
            }
            if self.all_acknowledged() {
                self.way = Way::Completing(upload);
            }
        }
        let request = match &self.way {
            Way::Stored => return Step::Stored,
            Way::Lost => return Step::Lost(self.cause()),
            Way::Abandoned(_) if self.creating => None,
            Way::Abandoned(upload) => return Step::Abandoned(upload.clone()),
            Way::Undecided | Way::Open(_) => None,
            Way::Putting => Some(Request::Put),
            Way::Creating => Some(Request::Create),
            Way::Listing(upload) => Some(Request::List {
                upload: upload.clone(),
            }),
            Way::Completing(upload) => Some(Request::Complete {
                upload: upload.clone(),
                tags: self
                    .parts
                    .iter()
                    .filter_map(|part| part.tag.clone())
                    .collect(),
            }),
            Way::Looking(_) => Some(Request::Look),
        };
        if let Some(request) = request
            && !self.asking
        {
            self.asking = true;
            self.creating = request == Request::Create;
            if matches!(request, Request::List { .. }) {
                for part in &mut self.parts {
                    part.is_due_in_list = part.tag.is_some();
                }
            }
            requests.push((pause, request));
        }
        Step::Requests(requests)
    }

    fn pause(&self) -> Duration {
        match self.denials {
            0 => Duration::ZERO,
            denials => PAUSE_MIN
                .saturating_mul(1 << (denials - 1).min(16))
                .min(PAUSE_MAX),
        }
    }

    /// The acknowledged parts are the whole object.
    fn all_acknowledged(&self) -> bool {
        let acknowledged: u64 = self
            .parts
            .iter()
            .filter(|part| part.tag.is_some())
            .map(|part| part.len)
            .sum();
        self.sealed_len == Some(acknowledged) && self.parts.iter().all(|part| part.tag.is_some())
    }

    fn cause(&self) -> StoreError {
        self.refusal.clone().unwrap_or_else(|| {
            StoreError::new(
                crate::store::StoreErrorKind::Other,
                "CompleteMultipartUpload",
                "",
                "the store lost bytes that it had acknowledged",
            )
        })
    }

    /// Handles an answer; `now` counts from any fixed point. Returns the refusal, if it is one,
    /// that those who wait for the object must hear of.
    pub(crate) fn answered(&mut self, answer: Answer, now: Duration) -> Option<StoreError> {
        if let Answer::Part {
            upload,
            number,
            result,
        } = answer
        {
            return self.part_answered(&upload, number, result);
        }
        self.asking = false;
        self.creating = false;
        if self.is_over() {
            // The upload that an abandoned Create made must still be aborted.
            if let (Way::Abandoned(upload @ None), Answer::Created(Ok(id))) =
                (&mut self.way, answer)
            {
                *upload = Some(id);
            }
            return None;
        }
        match (self.way.clone(), answer) {
            (Way::Putting, Answer::Put(Ok(()))) => self.stored(),
            (Way::Creating, Answer::Created(Ok(upload))) => self.granted(Way::Open(upload)),
            (Way::Completing(_), Answer::Completed(Ok(()))) => self.stored(),
            // Before completing is tried again, for any reason, the store is asked which parts it
            // has.
            (Way::Completing(upload), Answer::Completed(Err(denial))) => {
                self.way = match &denial {
                    Denial::Gone(_) => Way::Looking(upload),
                    Denial::Mismatched(_) | Denial::Refused(_) => Way::Listing(upload),
                };
                return self.denied(denial);
            }
            (Way::Looking(upload), Answer::Looked(Ok(len))) => {
                if len.is_some() && len == self.sealed_len {
                    self.stored();
                } else {
                    self.way = Way::Listing(upload);
                }
            }
            (Way::Listing(_), Answer::Listed(Ok(listed))) => self.listed(&listed, now),
            (Way::Listing(upload), Answer::Listed(Err(Denial::Gone(error)))) => {
                return self.gone(upload, error, now);
            }
            (
                _,
                Answer::Put(Err(denial))
                | Answer::Created(Err(denial))
                | Answer::Listed(Err(denial))
                | Answer::Looked(Err(denial)),
            ) => return self.denied(denial),
            _ => {}
        }
        None
    }

    fn part_answered(
        &mut self,
        upload: &UploadId,
        number: u32,
        result: Result<PartTag, Denial>,
    ) -> Option<StoreError> {
        let ours = match &self.way {
            Way::Open(ours) | Way::Listing(ours) | Way::Completing(ours) | Way::Looking(ours) => {
                ours == upload
            }
            _ => false,
        };
        let part = self.parts.get_mut((number as usize).checked_sub(1)?)?;
        if !ours {
            return None;
        }
        part.in_flight = false;
        match result {
            Ok(tag) => {
                part.tag = Some(tag);
                part.bytes = None;
                self.denials = 0;
                self.gone_since = None;
                self.refusal = None;
                None
            }
            Err(denial) => {
                if matches!(denial, Denial::Gone(_)) && matches!(self.way, Way::Open(_)) {
                    self.way = Way::Listing(upload.clone());
                }
                self.denied(denial)
            }
        }
    }

    fn granted(&mut self, way: Way) {
        self.way = way;
        self.denials = 0;
        self.refusal = None;
    }

    fn stored(&mut self) {
        self.granted(Way::Stored);
        self.release();
    }

    /// A refusal is heard of; that something is gone is only a claim so far.
    fn denied(&mut self, denial: Denial) -> Option<StoreError> {
        self.denials = self.denials.saturating_add(1);
        match denial {
            Denial::Gone(_) => None,
            // `ListParts` mends it, unless it comes again and again.
            Denial::Mismatched(_) if self.denials <= MISMATCHES_MAX => None,
            Denial::Mismatched(error) | Denial::Refused(error) => {
                self.refusal = Some(error.clone());
                Some(error)
            }
        }
    }

    /// The store named what it has of the upload.
    fn listed(&mut self, listed: &[StoredPart], now: Duration) {
        let Way::Listing(upload) = &self.way else {
            return;
        };
        let upload = upload.clone();
        let mut is_one_missing = false;
        for (part, number) in self.parts.iter_mut().zip(1u32..) {
            // Without a checksum the size is enough for a part that was acknowledged: nothing but
            // its identical bytes was ever sent under this number. A part whose bytes are still
            // held is sent again.
            let there = listed.iter().find(|there| {
                let same = match &there.checksum {
                    Some(checksum) => *checksum == part.checksum,
                    None => part.bytes.is_none(),
                };
                there.number == number && there.len == part.len && same
            });
            if let Some(there) = there {
                part.tag = Some(PartTag {
                    number,
                    etag: there.etag.clone(),
                    checksum: Some(part.checksum.clone()),
                });
                // The listing is the store's word that it has the bytes, as an acknowledgement is.
                part.bytes = None;
            } else if part.bytes.is_some() {
                part.tag = None;
            } else {
                is_one_missing |= part.is_due_in_list;
            }
        }
        if !is_one_missing {
            self.gone_since = None;
            self.way = Way::Open(upload);
            return;
        }
        // A listing without an acknowledged part is a claim too: the store is asked again.
        let since = *self.gone_since.get_or_insert(now);
        self.denials = self.denials.saturating_add(1);
        if now.saturating_sub(since) >= GONE_PATIENCE {
            self.refusal = None;
            self.way = Way::Lost;
            self.release();
        }
    }

    /// The store says again that there is no such upload.
    fn gone(&mut self, upload: UploadId, error: StoreError, now: Duration) -> Option<StoreError> {
        let since = *self.gone_since.get_or_insert(now);
        self.denials = self.denials.saturating_add(1);
        if now.saturating_sub(since) < GONE_PATIENCE {
            // The object may have been completed by a request whose answer was lost.
            if self.sealed_len.is_some() {
                self.way = Way::Looking(upload);
            }
            return None;
        }
        self.gone_since = None;
        self.refusal = Some(error.clone());
        if self.parts.iter().all(|part| part.bytes.is_some()) {
            // Everything is still here: another upload.
            for part in &mut self.parts {
                part.in_flight = false;
            }
            self.way = Way::Creating;
        } else {
            self.way = Way::Lost;
            self.release();
        }
        Some(error)
    }
}
