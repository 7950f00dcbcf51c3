//! Log objects and manifests on their way to and from the store: the I/O around [`Chain`](super::chain::Chain).
//!
//! Promises: a log object is sent only with the link to its predecessor, and only where none was before; the same PUT tried again sends
//! the same bytes. Costs one LIST when the first log object of a process is written, and nothing after that.

use bytes::Bytes;
use object_store::{Error, PutMode, PutPayload, path::Path};

use super::{
    Inner, ROOT,
    chain::{LogFault, LogPosition, Next},
    errors::from_store,
    key_of, read,
    write::{self, PUT_ID},
};
use crate::{
    seal::{
        SealError,
        codec::{COMMITMENT_LEN, Link, Opener, Sealer},
    },
    store::{PutOutcome, StoreError},
};

/// What a manifest of format 2 ends with: a [`LogPosition`].
const TRAILER_LEN: usize = 8 + COMMITMENT_LEN;
/// Digits in SlateDB's names of log objects and manifests.
const DIGITS: usize = 20;
/// Questions to the store before a log object is sent: its predecessor's header, its own, and each once more.
const LOOKS_MAX: usize = 4;

/// A log object whose PUT has not succeeded. SlateDB tries again, and then the same bytes are sent: whichever of
/// the requests takes effect, the chain goes on from the same object. One at a time, because SlateDB writes its log in order.
pub(super) struct Unanswered {
    put_id: String,
    put: SealedLog,
}

/// A log object that is ready to be sent.
#[derive(Clone)]
pub(super) struct SealedLog {
    pub bytes: Bytes,
    position: LogPosition,
    link: Link,
}

/// The number of a log object.
pub(super) fn number(location: &Path) -> Option<u64> {
    numbered(location, "wal", ".sst")
}

fn manifest_number(location: &Path) -> Option<u64> {
    numbered(location, "manifest", ".manifest")
}

fn numbered(location: &Path, directory: &str, extension: &str) -> Option<u64> {
    let (parent, name) = location.as_ref().split_once('/')?;
    let digits = name.strip_suffix(extension)?;
    let numbered = parent == directory && digits.len() == DIGITS;
    numbered.then(|| digits.parse().ok())?
}

/// The location of a log object.
fn location(number: u64) -> Path {
    Path::from(format!("wal/{number:020}.sst"))
}

impl Inner {
    fn refuse_log(&self, fault: LogFault) -> Error {
        self.refuse(SealError::Log {
            path: key_of(&location(fault.number())),
            fault,
        })
    }
}

/// A table's header was read: if it is a log object's, it has to fit.
pub(super) fn read(inner: &Inner, location: &Path, opener: &Opener) -> Result<(), Error> {
    let Some(number) = number(location) else {
        return Ok(());
    };
    let position = LogPosition {
        number,
        commitment: opener.commitment(),
    };
    // Somebody knows now what became of the PUT of that number.
    let put = inner
        .unanswered
        .lock()
        .take_if(|unanswered| unanswered.put.position.number == number);
    let ours = put.is_some_and(|unanswered| unanswered.put.position == position);
    let chain = &mut *inner.chain.lock();
    let fits = match opener.link() {
        Some(link) if ours => chain.written(position, link),
        link => chain.read(position, link),
    };
    fits.map_err(|fault| inner.refuse_log(fault))
}

/// A table could not be read. Where it is a log object that must be there, the error says so.
pub(super) async fn not_read(inner: &Inner, location: &Path, error: Error) -> Error {
    let (Error::NotFound { .. }, Some(number)) = (&error, number(location)) else {
        return error;
    };
    let (later, manifest) = {
        let chain = inner.chain.lock();
        (chain.from(number), chain.newest_manifest())
    };
    let Some(later) = later else { return error };
    // A newer manifest may have made it superfluous, and then it was collected.
    match newer_manifest(inner, manifest).await {
        Ok(true) => error,
        Ok(false) => match inner
            .chain
            .lock()
            .found(LogFault::Missing { number, later })
        {
            Ok(()) => error,
            Err(fault) => inner.refuse_log(fault),
        },
        Err(failed) => failed,
    }
}

async fn newer_manifest(inner: &Inner, known: u64) -> Result<bool, Error> {
    let prefix = format!("{ROOT}manifest/");
    let after = format!("{prefix}{known:020}.manifest");
    let page = inner.store.list_page(&prefix, Some(&after)).await;
    Ok(!page.map_err(|error| from_store(error, &prefix))?.is_empty())
}

/// Seals the next log object, or finds the sealed bytes of the same PUT.
///
/// # Errors
/// `AlreadyExists` if it is known to be there; what is wrong with the log.
pub(super) async fn seal(
    inner: &Inner,
    location: &Path,
    number: u64,
    payload: &PutPayload,
    attributes: &[(String, String)],
    sealer: impl FnOnce(Link) -> Sealer,
) -> Result<SealedLog, Error> {
    let put_id = attributes.iter().find(|(name, _)| name == PUT_ID);
    let put_id = put_id.map(|(_, id)| id.clone());
    if let Some(unanswered) = &*inner.unanswered.lock()
        && unanswered.put.position.number == number
        && put_id.as_ref() == Some(&unanswered.put_id)
    {
        return Ok(unanswered.put.clone());
    }
    let link = link(inner, location, number).await?;
    let sealer = sealer(link);
    let position = LogPosition {
        number,
        commitment: sealer.commitment(),
    };
    let put = SealedLog {
        bytes: write::seal(sealer, payload, &[]),
        position,
        link,
    };
    *inner.unanswered.lock() = Some(Unanswered {
        put_id: put_id.unwrap_or_default(),
        put: put.clone(),
    });
    Ok(put)
}

/// What the object of this number has to hold.
async fn link(inner: &Inner, at: &Path, number: u64) -> Result<Link, Error> {
    let exists = || Error::AlreadyExists {
        path: at.to_string(),
        source: "this log object is there already".into(),
    };
    if !inner.chain.lock().is_writing() && later_in_bucket(inner, number).await? {
        return Err(match read::header(inner, at).await {
            Ok(()) => exists(),
            Err(Error::NotFound { .. }) if inner.chain.lock().is_tolerant() => {
                let later = inner.chain.lock().from(number).unwrap_or(number);
                inner.refuse_log(LogFault::Missing { number, later })
            }
            Err(Error::NotFound { .. }) => exists(),
            Err(error) => error,
        });
    }
    for _ in 0..LOOKS_MAX {
        let next = inner.chain.lock().next(number);
        match next.map_err(|fault| inner.refuse_log(fault))? {
            Next::Link(link) => return Ok(link),
            Next::Exists => return Err(exists()),
            // Asked for, since this may be a writer that does not know yet that it was fenced off.
            Next::Later(_) => match read::header(inner, at).await {
                Err(Error::NotFound { .. }) if inner.chain.lock().is_tolerant() => {
                    inner.chain.lock().forget_unread(number);
                }
                // Collected since: whoever did that has written a newer manifest, which SlateDB looks for now.
                Ok(()) | Err(Error::NotFound { .. }) => return Err(exists()),
                Err(error) => return Err(error),
            },
            Next::Unknown => {
                let before = number.saturating_sub(1);
                match read::header(inner, &location(before)).await {
                    Ok(()) => {}
                    Err(Error::NotFound { .. }) => {
                        let chain = &mut *inner.chain.lock();
                        if !chain.is_empty() {
                            let fault = LogFault::Missing {
                                number: before,
                                later: number,
                            };
                            chain
                                .found(fault)
                                .map_err(|fault| inner.refuse_log(fault))?;
                        }
                        // A volume of format 1 whose log was collected: the chain begins here.
                        return Ok(LogPosition::START.link());
                    }
                    Err(error) => return Err(error),
                }
            }
        }
    }
    Err(super::unusable(format!(
        "{at}: the log changes as it is read"
    )))
}

/// Whether the bucket has log objects beyond this one: SlateDB finds the end of the log by trying numbers, and a gap looks like the end.
async fn later_in_bucket(inner: &Inner, number: u64) -> Result<bool, Error> {
    let prefix = format!("{ROOT}wal/");
    let page = inner
        .store
        .list_page(&prefix, Some(&key_of(&location(number))))
        .await
        .map_err(|error| from_store(error, &prefix))?;
    let mut numbers = page
        .iter()
        .filter_map(|entry| self::number(&Path::parse(entry.key.strip_prefix(ROOT)?).ok()?));
    match numbers.next() {
        None => Ok(false),
        Some(later) => {
            inner.chain.lock().listed(later);
            Ok(true)
        }
    }
}

/// The PUT of a log object has an outcome.
pub(super) fn put_ended(
    inner: &Inner,
    put: &SealedLog,
    outcome: &Result<PutOutcome, StoreError>,
) -> Result<(), Error> {
    // Otherwise SlateDB tries again, or it reads what is there and `read` recognises it.
    if outcome.is_err() {
        return Ok(());
    }
    inner
        .unanswered
        .lock()
        .take_if(|unanswered| unanswered.put.position == put.position);
    let written = inner.chain.lock().written(put.position, put.link);
    written.map_err(|fault| inner.refuse_log(fault))
}

/// What a manifest ends with, if the position in the log is known.
pub(super) fn trailer(inner: &Inner, location: &Path, mode: &PutMode) -> Option<Vec<u8>> {
    let manifest = manifest_number(location)?;
    let position = match inner.chain.lock().certain() {
        None if begins(manifest, mode) => LogPosition::START,
        known => known?,
    };
    let mut trailer = position.number.to_be_bytes().to_vec();
    trailer.extend_from_slice(&position.commitment);
    Some(trailer)
}

/// A new volume: its chain begins with its first log object.
fn begins(manifest: u64, mode: &PutMode) -> bool {
    manifest == 1 && *mode == PutMode::Create
}

/// A manifest is in the store.
pub(super) fn manifest_written(
    inner: &Inner,
    location: &Path,
    mode: &PutMode,
) -> Result<(), Error> {
    let Some(manifest) = manifest_number(location) else {
        return Ok(());
    };
    let chain = &mut *inner.chain.lock();
    chain.is_newest_manifest(manifest);
    match chain.certain() {
        None if begins(manifest, mode) => chain
            .noted(LogPosition::START)
            .map_err(|fault| inner.refuse_log(fault)),
        _ => Ok(()),
    }
}

/// Takes the position off a manifest of format 2, and compares it with the log if no newer manifest was read.
pub(super) fn manifest_read(
    inner: &Inner,
    location: &Path,
    opener: &Opener,
    plaintext: &mut Vec<u8>,
) -> Result<(), Error> {
    let Some(manifest) = manifest_number(location) else {
        return Ok(());
    };
    let position = match opener.link() {
        None => None,
        Some(_) => Some(take_position(plaintext).ok_or_else(|| {
            inner.refuse(SealError::Header {
                path: key_of(location),
                why: "is shorter than its position in the log",
            })
        })?),
    };
    let chain = &mut *inner.chain.lock();
    if !chain.is_newest_manifest(manifest) {
        return Ok(());
    }
    match position {
        Some(position) => chain
            .noted(position)
            .map_err(|fault| inner.refuse_log(fault)),
        None => Ok(()),
    }
}

fn take_position(plaintext: &mut Vec<u8>) -> Option<LogPosition> {
    let trailer = plaintext.split_off(plaintext.len().checked_sub(TRAILER_LEN)?);
    let (number, commitment) = trailer.split_first_chunk()?;
    Some(LogPosition {
        number: u64::from_be_bytes(*number),
        commitment: commitment.try_into().ok()?,
    })
}
