//! Log objects on their way to the store: the I/O around [`Chain`](super::chain::Chain).
//!
//! Promises: a log object is sent only with the link to its predecessor, and only where none was
//! before; the same PUT tried again sends the same bytes. The whole log is looked at before the
//! first log object of a process is written, which costs one LIST, and no more if the log was read
//! before. After that the chain costs no requests.

use futures::{FutureExt, future::join_all};
use object_store::{Error, PutPayload, path::Path};

use super::{
    Inner, ROOT,
    chain::Next,
    errors::from_store,
    key_of,
    locations::{log_location, log_number},
    log_seen::{SealedLog, Unanswered},
    outgoing::{self, PUT_ID},
    position::{LogFault, LogPosition},
    read,
};
use crate::{
    seal::codec::{Link, Sealer},
    store::{PutOutcome, StoreError},
};

/// Questions to the store before a log object is sent: its predecessor's header, its own, and each
/// once more.
const LOOKS_MAX: usize = 4;
/// Log objects that are looked at concurrently before the first one is written: as many as a mount
/// has connections.
const READ_AT_ONCE: usize = 16;

/// Seals the next log object, or finds the sealed bytes of the same PUT.
///
/// # Errors
/// `AlreadyExists` if it is known to be there; a fault of the log.
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
        bytes: outgoing::seal(sealer, payload, &[]),
        position,
        link,
    };
    *inner.unanswered.lock() = Some(Unanswered {
        put_id: put_id.unwrap_or_default(),
        put: put.clone(),
    });
    Ok(put)
}

/// The link that the object of this number has to hold.
async fn link(inner: &Inner, at: &Path, number: u64) -> Result<Link, Error> {
    let exists = || already_exists(at);
    if !inner.chain.lock().is_writing() {
        before_writing(inner, at, number).await?;
    }
    for _ in 0..LOOKS_MAX {
        let next = inner.chain.lock().next(number);
        match next.map_err(|fault| inner.refuse_log(fault))? {
            Next::Link(link) => return Ok(link),
            Next::Exists => return Err(exists()),
            // It is asked for, since this may be a writer that does not know yet that it was fenced
            // off.
            Next::Later(_) => match read::header(inner, at).await {
                Err(Error::NotFound { .. }) if inner.chain.lock().is_tolerant() => {
                    inner.chain.lock().forget_unread(number);
                }
                // It was collected since. The mount that did so has written a newer manifest, which
                // SlateDB looks for now.
                Ok(()) | Err(Error::NotFound { .. }) => return Err(exists()),
                Err(error) => return Err(error),
            },
            Next::Unknown => {
                let before = number.saturating_sub(1);
                match read::header(inner, &log_location(before)).await {
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
                        // The log of a volume of format 1 was collected, so the chain begins here.
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

/// Looks at the whole log that this process is about to continue, as far as it was not read yet.
/// SlateDB writes before it reads, and objects added to a log that does not hold together make it
/// harder to mend.
async fn before_writing(inner: &Inner, at: &Path, number: u64) -> Result<(), Error> {
    if later_in_bucket(inner, number).await? {
        return Err(match read::header(inner, at).await {
            Err(Error::NotFound { .. }) if inner.chain.lock().is_tolerant() => {
                let later = inner.chain.lock().from(number).unwrap_or(number);
                inner.refuse_log(LogFault::Missing { number, later })
            }
            // It was collected since. The mount that did so has written a newer manifest, which
            // SlateDB looks for now.
            Ok(()) | Err(Error::NotFound { .. }) => already_exists(at),
            Err(error) => error,
        });
    }
    let unread = inner.chain.lock().unread(number);
    let unread: Vec<Path> = unread.into_iter().map(log_location).collect();
    for some in unread.chunks(READ_AT_ONCE) {
        let read = some
            .iter()
            .map(|unread| read::header(inner, unread).boxed());
        for read in join_all(read).await {
            match read {
                Ok(()) | Err(Error::NotFound { .. }) => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}

fn already_exists(at: &Path) -> Error {
    Error::AlreadyExists {
        path: at.to_string(),
        source: "this log object is there already".into(),
    }
}

/// Whether the bucket has log objects beyond this one: SlateDB finds the end of the log by trying
/// numbers, and a gap looks like the end.
async fn later_in_bucket(inner: &Inner, number: u64) -> Result<bool, Error> {
    let prefix = format!("{ROOT}wal/");
    let page = inner
        .store
        .list_page(&prefix, Some(&key_of(&log_location(number))))
        .await
        .map_err(|error| from_store(error, &prefix))?;
    let mut numbers = page
        .iter()
        .filter_map(|entry| log_number(&Path::parse(entry.key.strip_prefix(ROOT)?).ok()?));
    match numbers.next() {
        None => Ok(false),
        Some(later) => {
            inner.chain.lock().listed(later);
            Ok(true)
        }
    }
}

/// Notes the outcome of the PUT of a log object.
pub(super) fn put_ended(
    inner: &Inner,
    put: &SealedLog,
    outcome: &Result<PutOutcome, StoreError>,
) -> Result<(), Error> {
    // Otherwise SlateDB tries again, or it reads the object that is there and `read` recognises it.
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
