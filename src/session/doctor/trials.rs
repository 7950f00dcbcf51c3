//! The abilities of the store, and the rights of the key: the trials of `init`, one by one.

use super::{refusal::tried, report::Check, sheet::Sheet};
use crate::store::{
    S3Url,
    probe::{Probe, Trial},
};

/// A trial as a check.
struct Step {
    check: Check,
    trial: Trial,
    /// Checks without which it makes no sense.
    needs: &'static [Check],
    /// The words where it goes well.
    well: &'static str,
}

/// The trials of what a key must be allowed to do, and a store be able to.
const RIGHTS: [Step; 8] = [
    Step {
        check: Check::Put,
        trial: Trial::Put,
        needs: &[],
        well: "an object was written",
    },
    Step {
        check: Check::Get,
        trial: Trial::Get,
        needs: &[Check::Put],
        well: "it was read again",
    },
    Step {
        check: Check::List,
        trial: Trial::List,
        needs: &[Check::Put],
        well: "objects are listed as they were written",
    },
    Step {
        check: Check::Delete,
        trial: Trial::Delete { listed: true },
        needs: &[Check::Put],
        well: "objects are gone once they are deleted",
    },
    Step {
        check: Check::ConditionalPut,
        trial: Trial::Conditions,
        needs: &[Check::Put],
        well: "If-None-Match and If-Match are kept",
    },
    Step {
        check: Check::RangedGet,
        trial: Trial::Ranges,
        needs: &[Check::Get],
        well: "ranges are what was written there",
    },
    Step {
        check: Check::Multipart,
        trial: Trial::Multipart,
        needs: &[Check::Get],
        well: "parts were joined to an object",
    },
    Step {
        check: Check::Uploads,
        trial: Trial::Uploads,
        needs: &[Check::Multipart],
        well: "an upload can be aborted",
    },
];

/// The trial of what no single request shows.
const RACES: Step = Step {
    check: Check::Races,
    trial: Trial::Races,
    needs: &[Check::ConditionalPut, Check::Get],
    well: "exactly one of the writes that race wins",
};

/// Makes the trials that a single client can fail.
pub(super) async fn rights(sheet: &Sheet<'_>, probe: &Probe<'_>, url: &S3Url) {
    for step in &RIGHTS {
        make(sheet, probe, step, url).await;
    }
}

/// Lets writes race.
pub(super) async fn races(sheet: &Sheet<'_>, probe: &Probe<'_>, url: &S3Url) {
    make(sheet, probe, &RACES, url).await;
}

async fn make(sheet: &Sheet<'_>, probe: &Probe<'_>, step: &Step, url: &S3Url) {
    if let Some(missing) = step.needs.iter().find(|need| !sheet.is_well(**need)) {
        let because = format!("it needs '{}'", missing.name());
        return sheet.skip(step.check, &because);
    }
    let trial = match step.trial {
        // A listing that fails says nothing of what was deleted.
        Trial::Delete { .. } => Trial::Delete {
            listed: sheet.is_well(Check::List),
        },
        trial => trial,
    };
    let work = async {
        let outcome = probe.attempt(trial).await;
        (tried(outcome, step.well, url), ())
    };
    sheet.check(step.check, work).await;
}
