//! Taking the lease: from nobody, from a holder that is done, gone or silent; or waiting; or
//! refusing.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::{
    EXPIRES_AFTER, LEASE_KEY, Lease, LeaseRecord, LeaseState, Machine, Process, RENEW_EVERY,
    record::LEASE_BYTES_MAX,
};
use crate::{
    clock,
    seal::{SealError, keys::VolumeKeys, object_store::SealedObjectStore},
    session::{control, errors, exit::Exit, failure::Failure},
    store::{Condition, Retry, Store, StoreErrorKind},
    telemetry::moment,
};

/// How long a mount from elsewhere has to say that it drains, before this one gives up.
const CHANGE_WITHIN: Duration = Duration::from_secs(10);

/// How often a waiting mount looks.
const ASK_EVERY: Duration = Duration::from_secs(1);

/// A mount that wants the lease.
pub struct LeaseRequest<'a> {
    /// The volume.
    pub store: &'a Store,
    /// Its keys.
    pub keys: &'a Arc<VolumeKeys>,
    /// The control socket that this mount will have.
    pub socket: &'a Path,
    /// Take the lease from its present holder.
    pub takeover: bool,
    /// The metadata's store, which shows the keeper of the lease whether the mount writes.
    pub log: &'a SealedObjectStore,
    /// Shows a line to the user.
    pub tell: &'a (dyn Fn(&str) + Send + Sync),
}

/// The lease as found.
pub struct Found {
    etag: String,
    modified_unix_seconds: i64,
    record: Result<LeaseRecord, SealError>,
}

impl Found {
    /// Whether its holder may still write: false for one that is done, and for a process of this
    /// very system that is gone.
    pub fn may_be_alive(&self) -> bool {
        let Ok(record) = &self.record else {
            return true;
        };
        let here = Machine::this().shares_processes_with(&record.machine);
        record.state != LeaseState::Released && (!here || record.process.is_alive())
    }
}

/// The observations of one lease while waiting.
struct Watch {
    etag: String,
    unchanged_since: Instant,
    began: Instant,
    changes: u32,
    told: bool,
}

enum Verdict {
    /// Take it.
    Take,
    /// Look again; the text tells the user why, once.
    Wait(String),
    Refuse(Failure),
}

/// Reads the lease; `None` if there is none.
///
/// # Errors
/// The store's errors.
pub async fn look(store: &Store, keys: &Arc<VolumeKeys>) -> Result<Option<Found>, Failure> {
    read(&store.with_retry(Retry::FOR_COMMANDS), keys).await
}

/// Takes the lease that was found by [`look`], waiting for a mount that drains.
///
/// # Errors
/// [`Exit::Held`] if another mount serves the volume, [`Exit::Damaged`] if the lease does not
/// authenticate, or the store fails.
pub async fn acquire(request: LeaseRequest<'_>, first: Option<Found>) -> Result<Lease, Failure> {
    let store = request.store.with_retry(Retry::FOR_COMMANDS);
    let record = own_record(request.socket)?;
    let mut watch: Option<Watch> = None;
    let mut first = Some(first);
    loop {
        let found = match first.take() {
            Some(found) => found,
            None => read(&store, request.keys).await?,
        };
        let condition = match &found {
            None => Condition::Absent,
            Some(found) => {
                let watch = observe(&mut watch, &found.etag);
                match judge(found, watch, &record, request.takeover).await {
                    Verdict::Take => Condition::Matches(found.etag.clone()),
                    Verdict::Wait(why) => {
                        if !std::mem::replace(&mut watch.told, true) {
                            (request.tell)(&format!("strongroom: {why}"));
                        }
                        tokio::time::sleep(ASK_EVERY).await;
                        continue;
                    }
                    Verdict::Refuse(error) => return Err(error),
                }
            }
        };
        let sealed = record
            .seal(request.keys)
            .map_err(|error| Failure::unexpected(format!("cannot write the lease: {error}")))?;
        match store
            .put(LEASE_KEY, vec![Bytes::from(sealed)], condition, &[])
            .await
        {
            Ok(outcome) => {
                if let Some(Found {
                    record: Ok(previous),
                    ..
                }) = &found
                    && previous.state != LeaseState::Released
                {
                    tracing::warn!(
                        "took the volume over from process {} on {}",
                        previous.process.pid,
                        previous.machine.host
                    );
                }
                let log = request.log.clone();
                return Ok(Lease::keep(&store, request.keys, log, record, outcome.etag));
            }
            // Another mount was faster, or this very PUT succeeded and its answer was lost: the
            // next look tells.
            Err(error) if error.kind == StoreErrorKind::Precondition => {}
            Err(error) => return Err(errors::store(&error, store.url())),
        }
    }
}

fn own_record(socket: &Path) -> Result<LeaseRecord, Failure> {
    let process = Process::of(std::process::id())
        .ok_or_else(|| Failure::unexpected("cannot read /proc/self/stat"))?;
    let mut holder = [0_u8; 16];
    getrandom::fill(&mut holder)
        .map_err(|error| Failure::unexpected(format!("no randomness: {error}")))?;
    Ok(LeaseRecord {
        format: 1,
        holder: data_encoding::HEXLOWER.encode(&holder),
        machine: Machine::this(),
        process,
        socket: socket.to_string_lossy().into_owned(),
        state: LeaseState::Mounted,
        acquired_unix_seconds: clock::unix_seconds(),
        renewal: 0,
    })
}

async fn read(store: &Store, keys: &Arc<VolumeKeys>) -> Result<Option<Found>, Failure> {
    match store.get_bytes(LEASE_KEY, None, LEASE_BYTES_MAX).await {
        Ok((head, stored)) => Ok(Some(Found {
            etag: head.etag.unwrap_or_default(),
            modified_unix_seconds: head.modified_unix_seconds,
            record: LeaseRecord::open(keys, &stored),
        })),
        Err(error) if error.kind == StoreErrorKind::NotFound => Ok(None),
        Err(error) => Err(errors::store(&error, store.url())),
    }
}

/// Records the lease that was found just now.
fn observe<'a>(watch: &'a mut Option<Watch>, etag: &str) -> &'a mut Watch {
    let now = Instant::now();
    let watch = watch.get_or_insert_with(|| Watch {
        etag: etag.to_owned(),
        unchanged_since: now,
        began: now,
        changes: 0,
        told: false,
    });
    if watch.etag != etag {
        watch.etag = etag.to_owned();
        watch.unchanged_since = now;
        watch.changes += 1;
    }
    watch
}

async fn judge(found: &Found, watch: &Watch, own: &LeaseRecord, takeover: bool) -> Verdict {
    if takeover {
        return Verdict::Take;
    }
    let record = match &found.record {
        Ok(record) => record,
        Err(SealError::Epoch { .. }) => {
            return Verdict::Refuse(Failure::new(
                Exit::Unexpected,
                "the volume's key was rotated while this command began",
                "start it again",
            ));
        }
        Err(error) => {
            return Verdict::Refuse(Failure::new(
                Exit::Damaged,
                format!("the volume's lease cannot be trusted ({error})"),
                "make sure that nobody has it mounted, then use --takeover",
            ));
        }
    };
    let here = own.machine.shares_processes_with(&record.machine);
    if record.holder == own.holder
        || record.state == LeaseState::Released
        || watch.unchanged_since.elapsed() >= EXPIRES_AFTER
        || (here && !record.process.is_alive())
    {
        return Verdict::Take;
    }
    if record.state == LeaseState::Draining {
        return Verdict::Wait(format!("waiting until {} has drained", who(record)));
    }
    if here && let Some(state) = ask(record).await {
        return match state.as_str() {
            "mounted" => Verdict::Refuse(held(record)),
            _ => Verdict::Wait(format!("waiting until {} has drained", who(record))),
        };
    }
    judge_distant(found, watch, record)
}

/// A holder on another machine that says it is mounted.
fn judge_distant(found: &Found, watch: &Watch, record: &LeaseRecord) -> Verdict {
    if watch.changes > 0 {
        return Verdict::Refuse(held(record));
    }
    if watch.began.elapsed() < CHANGE_WITHIN {
        return Verdict::Wait(format!(
            "asking {} whether it still has the volume",
            who(record)
        ));
    }
    // If the store's time of the last renewal is long past by our clock, the holder is probably
    // dead: see it out. A wrong clock makes this wait in vain or give up early, never take a living
    // mount's lease.
    let age = clock::unix_seconds().saturating_sub(found.modified_unix_seconds);
    let overdue = i64::try_from(RENEW_EVERY.as_secs() * 3 / 2).unwrap_or(i64::MAX);
    if age > overdue {
        Verdict::Wait(String::new())
    } else {
        Verdict::Refuse(held(record))
    }
}

/// Asks the holder's process on this machine whether it is mounted; `None` if it does not answer.
async fn ask(record: &LeaseRecord) -> Option<String> {
    let socket = control::Address::trusted(PathBuf::from(&record.socket));
    let asked =
        tokio::task::spawn_blocking(move || control::ask_status(&socket, Duration::from_secs(5)))
            .await;
    asked.ok()?.ok().map(|status| status.mount.state)
}

fn who(record: &LeaseRecord) -> String {
    format!("process {} on {}", record.process.pid, record.machine.host)
}

fn held(record: &LeaseRecord) -> Failure {
    Failure::new(
        Exit::Held,
        format!(
            "the volume is mounted by {} since {}",
            who(record),
            moment(record.acquired_unix_seconds)
        ),
        "unmount it there, mount with --read-only, or use --takeover if that machine is dead",
    )
}
