//! Whether a volume is at the place, and whether its header reads. No key is needed, and nothing of
//! the header is believed.

use super::{
    refusal::{failed, refused},
    report::{Check, Outcome},
    sheet::Sheet,
};
use crate::{
    session::{exit::Exit, unlock::load_header},
    store::{Store, StoreError, probe::is_of_a_probe},
};

/// The header is read by ranges, and what is not there is only told to a key that may list.
const NEEDS: [Check; 2] = [Check::RangedGet, Check::List];

/// Looks for it.
pub(super) async fn look(sheet: &Sheet<'_>, store: &Store) {
    if let Some(missing) = NEEDS.iter().find(|need| !sheet.is_well(**need)) {
        let because = format!("it needs '{}'", missing.name());
        return sheet.skip(Check::Volume, &because);
    }
    let work = async {
        let outcome = header(store).await;
        let outcome = outcome.unwrap_or_else(|error| refused(&error, store.url()));
        (outcome, ())
    };
    sheet.check(Check::Volume, work).await;
}

async fn header(store: &Store) -> Result<Outcome, StoreError> {
    let url = store.url();
    let loaded = match load_header(store).await {
        Ok(loaded) => loaded,
        Err(failure) if failure.exit == Exit::NoVolume => return nothing(store).await,
        Err(failure) => return Ok(failed(failure)),
    };
    let slots = match loaded.header.slots().count() {
        1 => "1 key slot".to_owned(),
        count => format!("{count} key slots"),
    };
    let found = format!("{} is at {url}, with {slots}", loaded.header.volume());
    Ok(match loaded.fault(store).await? {
        None => Outcome::ok(found),
        Some((object, why)) => Outcome::warning(
            format!("{found}; but {object} is unusable ({why})"),
            "mount it for writing: that writes both copies of the header anew",
        ),
    })
}

/// No volume is there: can one be made?
async fn nothing(store: &Store) -> Result<Outcome, StoreError> {
    let url = store.url();
    let page = store.list_page("", None).await?;
    let others = page.iter().find(|entry| !is_of_a_probe(&entry.key));
    Ok(match others {
        None => Outcome::hint(
            format!("there is none at {url} yet, and nothing else"),
            format!("make one with 'strongroom init {url}'"),
        ),
        Some(entry) => Outcome::warning(
            format!(
                "there is none at {url}, but other objects, such as {}: 'init' would refuse",
                entry.key
            ),
            "choose an empty prefix, such as one more path segment",
        )
        .naming([entry.key.clone()]),
    })
}
