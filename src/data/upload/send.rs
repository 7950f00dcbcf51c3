//! The driver of [`Upload`]: performs its requests and hands the answers back.
//!
//! Promises: one task an object, which ends when the object is stored, lost, or wanted by nobody;
//! refusals of the store are reported to the files with bytes in the object, and to no other.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::{sync::Notify, task::JoinSet};
use tracing::warn;

use super::{
    Refusals, Uploads,
    machine::{Answer, Denial, Request, Step, Upload},
};
use crate::{
    meta::{Ino, ObjectId},
    store::{self, Condition, StoreError, StoreErrorKind},
};

/// An object on its way: the machine, and the files that wait for it.
pub(crate) struct Sending {
    id: ObjectId,
    key: String,
    upload: Mutex<Upload<Bytes>>,
    /// Files with bytes in it, which hear of its refusals.
    inos: Mutex<Vec<Ino>>,
    refusals: Arc<dyn Refusals>,
    /// A part was added, or nobody wants the object any more.
    changed: Notify,
}

/// How an upload ended.
pub(crate) enum Ended {
    Stored,
    Lost(StoreError),
    /// Nobody wanted it any more, or the volume is being closed.
    Abandoned,
}

impl Sending {
    pub(crate) fn new(id: ObjectId, key: String, refusals: Arc<dyn Refusals>) -> Arc<Sending> {
        Arc::new(Sending {
            id,
            key,
            upload: Mutex::new(Upload::new()),
            inos: Mutex::default(),
            refusals,
            changed: Notify::new(),
        })
    }

    /// This file has bytes in the object.
    pub(crate) fn serves(&self, ino: Ino) {
        self.inos.lock().push(ino);
    }

    /// Files with bytes in the object.
    pub(crate) fn inos(&self) -> Vec<Ino> {
        self.inos.lock().clone()
    }

    /// Adds a part, whose bytes carry the reservation that pays for them.
    pub(crate) fn push(&self, part: Bytes, last: bool) {
        let (len, checksum) = (part.len() as u64, store::checksum(&part));
        self.upload.lock().push(part, len, checksum, last);
        self.changed.notify_one();
    }

    pub(crate) fn abandon(&self) {
        self.upload.lock().abandon();
        self.changed.notify_one();
    }
}

impl Uploads {
    /// Sends the parts as they come, until the object is stored, lost or abandoned.
    pub(crate) async fn send(self: Arc<Self>, sending: Arc<Sending>) -> Ended {
        let began = Instant::now();
        let mut in_flight = JoinSet::new();
        loop {
            let step = sending.upload.lock().next();
            match step {
                Step::Stored => return Ended::Stored,
                Step::Lost(error) => return Ended::Lost(error),
                Step::Abandoned(upload) => {
                    drop(in_flight);
                    if let Some(upload) = upload
                        && let Err(error) = self
                            .shared
                            .store
                            .abort_multipart(&sending.key, &upload)
                            .await
                    {
                        // Left for the next mount, which clears what dead sessions began.
                        warn!("object {}: cannot abort its upload: {error}", sending.key);
                    }
                    return Ended::Abandoned;
                }
                Step::Requests(requests) => {
                    for (pause, request) in requests {
                        in_flight.spawn(self.clone().ask(sending.clone(), pause, request));
                    }
                }
            }
            tokio::select! {
                Some(answer) = in_flight.join_next() => {
                    let Ok(answer) = answer else {
                        return Ended::Lost(cut_off(&sending.key));
                    };
                    let refusal = sending.upload.lock().answered(answer, began.elapsed());
                    if let Some(error) = refusal {
                        sending.refusals.refused(&sending.inos(), sending.id, &error);
                    }
                }
                () = sending.changed.notified() => {}
                () = self.no_uploads.cancelled() => return Ended::Abandoned,
            }
        }
    }

    async fn ask(
        self: Arc<Self>,
        sending: Arc<Sending>,
        pause: Duration,
        request: Request,
    ) -> Answer {
        if !pause.is_zero() {
            tokio::time::sleep(with_jitter(pause)).await;
        }
        let (store, key) = (&self.shared.store, sending.key.as_str());
        let bytes = |number| Vec::from_iter(sending.upload.lock().bytes(number));
        match request {
            Request::Put => {
                let put = store.put(key, bytes(1), Condition::None, &[]).await;
                Answer::Put(put.map(drop).map_err(Denial::Refused))
            }
            Request::Create => {
                Answer::Created(store.create_multipart(key).await.map_err(Denial::Refused))
            }
            Request::Part { upload, number } => {
                let result = store.upload_part(key, &upload, number, bytes(number)).await;
                Answer::Part {
                    upload,
                    number,
                    result: result.map_err(denial),
                }
            }
            Request::List { upload } => {
                Answer::Listed(store.list_parts(key, &upload).await.map_err(denial))
            }
            Request::Complete { upload, tags } => {
                let done = store
                    .complete_multipart(key, &upload, &tags, Condition::None)
                    .await;
                Answer::Completed(done.map(drop).map_err(denial))
            }
            Request::Look => Answer::Looked(match store.head(key).await {
                Ok(head) => Ok(Some(head.size)),
                Err(error) if error.kind == StoreErrorKind::NotFound => Ok(None),
                Err(error) => Err(Denial::Refused(error)),
            }),
        }
    }
}

fn denial(error: StoreError) -> Denial {
    match error.kind {
        StoreErrorKind::NotFound => Denial::Gone(error),
        StoreErrorKind::WrongParts => Denial::Mismatched(error),
        _ => Denial::Refused(error),
    }
}

/// Half of a pause is fixed, half of it random, so that many objects do not come back as one wave.
fn with_jitter(pause: Duration) -> Duration {
    let random = getrandom::u32().map_or(1.0, |random| f64::from(random) / f64::from(u32::MAX));
    pause.mul_f64(0.5 + random / 2.0)
}

/// The error of an upload whose task ended early, which is a bug: the files hear of it instead of
/// waiting for ever.
pub(crate) fn cut_off(key: &str) -> StoreError {
    StoreError::new(
        StoreErrorKind::Other,
        "upload",
        key,
        "the task that sends it ended early",
    )
}
