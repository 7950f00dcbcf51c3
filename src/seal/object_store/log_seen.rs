//! Log objects as they are read: each has to fit into the chain, and one that is missing may be a
//! fault.

use bytes::Bytes;
use object_store::{Error, path::Path};

use super::{
    Inner,
    locations::log_number,
    manifest,
    position::{LogFault, LogPosition},
};
use crate::seal::codec::{Link, Opener};

/// A log object whose PUT has not succeeded. SlateDB tries again, and then the same bytes are sent:
/// whichever of the requests takes effect, the chain goes on from the same object. There is one at
/// a time, because SlateDB writes its log in order.
pub(super) struct Unanswered {
    pub put_id: String,
    pub put: SealedLog,
}

/// A log object that is ready to be sent.
#[derive(Clone)]
pub(super) struct SealedLog {
    pub bytes: Bytes,
    pub position: LogPosition,
    pub link: Link,
}

/// Notes the header of a table that was read. If it is a log object, it has to fit.
pub(super) fn read(inner: &Inner, location: &Path, opener: &Opener) -> Result<(), Error> {
    let Some(number) = log_number(location) else {
        return Ok(());
    };
    let position = LogPosition {
        number,
        commitment: opener.commitment(),
    };
    // The outcome of the PUT of that number is known now.
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

/// Turns the failure to read a table into an error. For a log object that must be there, it says
/// so.
pub(super) async fn not_read(inner: &Inner, location: &Path, error: Error) -> Error {
    let (Error::NotFound { .. }, Some(number)) = (&error, log_number(location)) else {
        return error;
    };
    let (later, known) = {
        let chain = inner.chain.lock();
        (chain.from(number), chain.newest_manifest())
    };
    let Some(later) = later else { return error };
    // A newer manifest may have made it superfluous, so that it was collected.
    match manifest::newer_than(inner, known).await {
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
