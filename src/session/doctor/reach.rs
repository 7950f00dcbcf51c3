//! The way to the bucket: the endpoint, the clocks, the credentials, the bucket.

use std::sync::Arc;

use super::{
    refusal::{failed, refused},
    report::{Check, Outcome, Verdict},
    sheet::Sheet,
};
use crate::{
    session::{config::StoreSettings, exit::Exit, unlock::client},
    store::{Retry, S3Url, SKEW_SECONDS_MIN, Store, StoreError, StoreErrorKind},
    telemetry::Metrics,
};

/// As many requests as the races send at once.
const CONNECTIONS: usize = 24;
/// A failure that passes is no finding, and one that stays is to be told soon.
const PATIENCE: Retry = Retry::Attempts(3);
/// Where nothing answers, two tries with their timeouts are within the time of a check.
const PATIENCE_AT_FIRST: Retry = Retry::Attempts(2);
/// A clock that is off by more goes wrong further.
const SKEW_SECONDS_LOW: u64 = 30;

/// Makes the client; `None` if its settings cannot be used.
pub(super) async fn connect(
    sheet: &Sheet<'_>,
    url: &S3Url,
    settings: &StoreSettings,
) -> Option<Store> {
    let metrics = Arc::new(Metrics::default());
    match client(url, settings, CONNECTIONS, metrics).await {
        Ok(store) => Some(store.with_retry(PATIENCE)),
        Err(failure) => {
            let check = match failure.exit {
                Exit::NoCredentials => Check::Credentials,
                _ => Check::Endpoint,
            };
            sheet.note(check, failed(failure));
            None
        }
    }
}

/// Looks whether the bucket can be used at all.
pub(super) async fn reach(sheet: &Sheet<'_>, store: &Store) -> bool {
    if !endpoint_and_clock(sheet, store).await {
        return false;
    }
    let url = store.url();
    let asked = async {
        let asked = store.check_bucket().await;
        let clock_is_off = sheet.verdict(Check::Clock) == Some(Verdict::Failure);
        (credentials(&asked, clock_is_off, url), asked)
    };
    let Some(asked) = sheet.check(Check::Credentials, asked).await else {
        return false;
    };
    sheet.note(Check::Bucket, bucket(&asked, url));
    match asked {
        Ok(()) => true,
        Err(error) => error.kind == StoreErrorKind::Denied && sheet.is_well(Check::Credentials),
    }
}

async fn endpoint_and_clock(sheet: &Sheet<'_>, store: &Store) -> bool {
    let (first, url) = (store.with_retry(PATIENCE_AT_FIRST), store.url());
    let asked = async {
        let asked = first.clock_difference().await;
        (endpoint(&asked, store), asked)
    };
    match sheet.check(Check::Endpoint, asked).await {
        Some(Ok(difference)) => {
            sheet.measured(|measured| measured.clock_ahead_seconds = difference);
            sheet.note(Check::Clock, clock(difference));
            true
        }
        Some(Err(error)) => {
            sheet.skip(Check::Clock, "the store gave no answer to compare with");
            if error.kind == StoreErrorKind::NoCredentials {
                sheet.note(Check::Credentials, refused(&error, url));
            }
            false
        }
        None => {
            sheet.skip(Check::Clock, "the store gave no answer to compare with");
            false
        }
    }
}

fn endpoint(asked: &Result<Option<i64>, StoreError>, store: &Store) -> Outcome {
    match asked {
        Ok(_) => Outcome::ok(format!("{} answers as an S3 store does", store.endpoint())),
        Err(error) if error.kind == StoreErrorKind::NoCredentials => {
            Outcome::skipped("nothing is sent without credentials")
        }
        Err(error) => refused(error, store.url()),
    }
}

fn clock(ahead_seconds: Option<i64>) -> Outcome {
    let Some(ahead) = ahead_seconds else {
        return Outcome::skipped("the store's answers have no date");
    };
    let difference = match ahead.unsigned_abs() {
        seconds if seconds < 120 => format!("{seconds} s"),
        seconds => format!("{} minutes", (seconds + 30) / 60),
    };
    let side = match ahead < 0 {
        true => "behind",
        false => "ahead of",
    };
    let found = format!("this machine's clock is {difference} {side} that of the store");
    let advice = "set the clock right, with timedatectl set-ntp true for example";
    match ahead.unsigned_abs() {
        SKEW_SECONDS_MIN.. => Outcome::failure(
            format!("{found}: stores refuse requests that are signed at another time than theirs"),
            advice,
        ),
        SKEW_SECONDS_LOW.. => Outcome::warning(found, advice),
        // A date has whole seconds.
        0..=2 => Outcome::ok("this machine's clock is that of the store"),
        _ => Outcome::ok(found),
    }
}

fn credentials(asked: &Result<(), StoreError>, clock_is_off: bool, url: &S3Url) -> Outcome {
    use StoreErrorKind as Kind;
    match asked {
        Ok(()) => Outcome::ok("the store accepts them"),
        Err(error) => match error.kind {
            Kind::Denied | Kind::BadCredentials if clock_is_off => {
                Outcome::skipped("the store refuses them, perhaps because of the clock")
            }
            Kind::NoCredentials | Kind::BadCredentials => refused(error, url),
            Kind::Denied | Kind::NoBucket => Outcome::ok("the store knows the key"),
            _ => Outcome::skipped("the store answers something else"),
        },
    }
}

fn bucket(asked: &Result<(), StoreError>, url: &S3Url) -> Outcome {
    use StoreErrorKind as Kind;
    match asked {
        Ok(()) => Outcome::ok(format!("{} is there", url.bucket)),
        Err(error) => match error.kind {
            Kind::NoCredentials | Kind::BadCredentials => {
                Outcome::skipped("the store does not say without credentials that it accepts")
            }
            // The check of listings says so.
            Kind::Denied => Outcome::skipped("this key may not ask for it"),
            _ => refused(error, url),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_judged_by_what_stores_refuse() {
        for (ahead, verdict, words) in [
            (Some(0), Verdict::Ok, "that of the store"),
            (Some(-2), Verdict::Ok, "that of the store"),
            (Some(-29), Verdict::Ok, "29 s behind"),
            (Some(30), Verdict::Warning, "30 s ahead of"),
            (Some(-299), Verdict::Warning, "5 minutes behind"),
            (Some(300), Verdict::Failure, "5 minutes ahead of"),
            (Some(-1020), Verdict::Failure, "17 minutes behind"),
            (None, Verdict::Skipped, "no date"),
        ] {
            let line = clock(ahead).line(Check::Clock);
            assert_eq!(line.verdict, verdict, "{ahead:?}");
            assert!(line.found.contains(words), "{line:?}");
        }
    }
}
