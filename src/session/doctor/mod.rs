//! Whether this machine and a store are fit for a mount, for `strongroom doctor`.
//!
//! Promises: each check is one line with a verdict, what was found and what to do; each has a time
//! limit; a check that another one's failure makes senseless is skipped; what is written below the
//! prefix is deleted again, also after a signal; no secret is asked for or told.
//! Never: opens a volume, or touches an object that it has not made.
//!
//! | file | what |
//! |---|---|
//! | `report.rs` | verdicts, lines, the report |
//! | `sheet.rs` | the sheet that is filled in, and the time limits |
//! | `machine.rs`, `space.rs` | this machine |
//! | `reach.rs`, `volume.rs`, `rules.rs` | the store, the volume in it, the bucket's rules |
//! | `trials.rs` | the trials of [`crate::store::probe`], one by one |
//! | `speed.rs` | latency and bandwidth |
//! | `settings.rs` | recommended settings |
//! | `refusal.rs` | errors of the store as outcomes |

mod machine;
mod reach;
mod refusal;
mod report;
mod rules;
mod settings;
mod sheet;
mod space;
mod speed;
mod trials;
mod volume;

use std::{path::PathBuf, time::Duration};

use tokio::time::timeout;

pub use report::{Check, Line, Measured, Recommendation, Report, Verdict};
pub use sheet::Watcher;

use self::{report::Outcome, settings::Facts, sheet::Sheet};
use super::{
    config::StoreSettings, disk_cache::DiskCacheConfig, errors, exit::Exit, failure::Failure,
    interrupt::Interrupt, memory_size::MemorySize,
};
use crate::{
    clock,
    store::{
        S3Url, Store, StoreError,
        probe::{Probe, clear_old_leftovers},
    },
};

/// The version of the report's form.
const FORMAT: u32 = 1;
/// No trial lasts so long: older objects of one belong to a process that was killed.
const LEFT_SECONDS: i64 = 3600;

/// The checks of the way to the bucket.
const ON_THE_WAY: [Check; 4] = [
    Check::Endpoint,
    Check::Clock,
    Check::Credentials,
    Check::Bucket,
];
/// The checks that need the bucket.
const IN_THE_BUCKET: [Check; 12] = [
    Check::Put,
    Check::Get,
    Check::List,
    Check::Delete,
    Check::ConditionalPut,
    Check::RangedGet,
    Check::Multipart,
    Check::Uploads,
    Check::Lifecycle,
    Check::Versioning,
    Check::Races,
    Check::Volume,
];

/// The things to be looked at, and how.
#[derive(Clone, Debug)]
pub struct DoctorPlan {
    /// A volume, or the place where one is to be; `None`: this machine alone.
    pub url: Option<S3Url>,
    /// How to reach the store.
    pub store: StoreSettings,
    /// `--memory` of the mount that is planned.
    pub memory: Option<MemorySize>,
    /// Its disk cache.
    pub disk_cache: DiskCacheConfig,
    /// The state directory of all volumes.
    pub state_root: PathBuf,
    /// The longest that a check may take; some take four times as long.
    pub limit: Duration,
}

/// Makes all checks.
///
/// # Errors
/// [`Exit::Interrupted`] by a signal, after what was written is deleted again.
pub async fn examine(plan: &DoctorPlan, watcher: &dyn Watcher) -> Result<Report, Failure> {
    let mut interrupt = Interrupt::catch()?;
    let sheet = Sheet::new(watcher, plan.limit);
    let machine = interrupt.unless(machine::look(&sheet, plan.memory)).await;
    let machine = machine.ok_or_else(|| interrupted(Ok(())))?;
    let room_bytes = match &plan.url {
        Some(url) => look_at_store(&sheet, plan, url, &mut interrupt).await?,
        None => {
            sheet.skip(
                Check::Clock,
                "it is compared with that of a store: give a URL",
            );
            let looked = space::look(&sheet, &plan.state_root, &plan.disk_cache);
            let looked = interrupt.unless(looked).await;
            looked.ok_or_else(|| interrupted(Ok(())))?
        }
    };
    let (checks, measured) = sheet.into_parts();
    let recommended = settings::recommended(&Facts {
        memory_bytes: machine.memory_bytes,
        room_bytes,
        measured,
    });
    let worst = checks.iter().map(|line| line.verdict).max();
    Ok(Report {
        format: FORMAT,
        version: env!("CARGO_PKG_VERSION"),
        url: plan.url.as_ref().map(ToString::to_string),
        verdict: worst
            .filter(|worst| *worst > Verdict::Skipped)
            .unwrap_or(Verdict::Ok),
        checks,
        measured,
        recommended,
    })
}

/// Everything that needs a URL, and cleaning up. Returns what a disk cache has room for.
async fn look_at_store(
    sheet: &Sheet<'_>,
    plan: &DoctorPlan,
    url: &S3Url,
    interrupt: &mut Interrupt,
) -> Result<Option<u64>, Failure> {
    let connected = interrupt
        .unless(reach::connect(sheet, url, &plan.store))
        .await;
    let Some(store) = connected.ok_or_else(|| interrupted(Ok(())))? else {
        sheet.skip_all(&ON_THE_WAY, "the store cannot be asked");
        return Ok(out_of_reach(sheet, plan).await);
    };
    let probe = Probe::new(&store).map_err(|error| errors::store(&error, url))?;
    let looked = interrupt
        .gently(Box::pin(in_store(sheet, plan, &store, &probe)), || {
            sheet.stop();
            probe.stop();
        })
        .await;
    // Nothing is deleted where nothing can have been written.
    let cleaned = match probe.has_begun() {
        true => {
            let work = within(plan.limit, async {
                probe.clean_up().await?;
                clear_old(sheet, &store).await;
                Ok::<(), StoreError>(())
            });
            let work = Box::pin(sheet.telling(Check::CleanUp, work));
            match interrupt.came() {
                true => interrupt.cleaning_up(work).await,
                // The first signal does not keep anything from being deleted.
                false => {
                    let cleaned = interrupt.gently(work, || {}).await;
                    cleaned.unwrap_or_else(|| Err("another signal came".to_owned()))
                }
            }
        }
        false => Ok(()),
    };
    if interrupt.came() {
        let left = cleaned.map_err(|why| (why, place_of(&probe, url)));
        return Err(interrupted(left));
    }
    if probe.has_begun() {
        sheet.note(
            Check::CleanUp,
            clean_up(sheet, cleaned, &place_of(&probe, url)),
        );
    }
    Ok(looked.flatten())
}

async fn in_store(
    sheet: &Sheet<'_>,
    plan: &DoctorPlan,
    store: &Store,
    probe: &Probe<'_>,
) -> Option<u64> {
    let url = store.url();
    if !reach::reach(sheet, store).await {
        sheet.skip_all(&ON_THE_WAY, "the store cannot be asked");
        return out_of_reach(sheet, plan).await;
    }
    trials::rights(sheet, probe, url).await;
    rules::look(sheet, store).await;
    trials::races(sheet, probe, url).await;
    volume::look(sheet, store).await;
    let room_bytes = space::look(sheet, &plan.state_root, &plan.disk_cache).await;
    speed::measure(sheet, probe, url).await;
    room_bytes
}

/// The checks that are left where the bucket cannot be used.
async fn out_of_reach(sheet: &Sheet<'_>, plan: &DoctorPlan) -> Option<u64> {
    let because = "the bucket cannot be used";
    sheet.skip_all(&IN_THE_BUCKET, because);
    let room_bytes = space::look(sheet, &plan.state_root, &plan.disk_cache).await;
    sheet.skip_all(&[Check::Latency, Check::Bandwidth], because);
    room_bytes
}

/// Removes what examinations have left that were killed. It is not ours, so a failure is none of
/// this one's.
async fn clear_old(sheet: &Sheet<'_>, store: &Store) {
    if !sheet.is_well(Check::List) || !sheet.is_well(Check::Delete) {
        return;
    }
    let mut ahead = None;
    sheet.measured(|measured| ahead = measured.clock_ahead_seconds);
    let now = clock::unix_seconds() - ahead.unwrap_or_default();
    if let Err(error) = clear_old_leftovers(store, now - LEFT_SECONDS).await {
        tracing::debug!("doctor: {error}");
    }
}

async fn within<E: ToString>(
    limit: Duration,
    work: impl Future<Output = Result<(), E>>,
) -> Result<(), String> {
    match timeout(limit, work).await {
        Ok(done) => done.map_err(|error| error.to_string()),
        Err(_) => Err("the store takes too long".to_owned()),
    }
}

/// Where the objects of this examination are, or were.
fn place_of(probe: &Probe<'_>, url: &S3Url) -> String {
    let url = url.to_string();
    format!("{}/{}*", url.trim_end_matches('/'), probe.key_prefix())
}

fn clean_up(sheet: &Sheet<'_>, cleaned: Result<(), String>, place: &str) -> Outcome {
    let Err(why) = cleaned else {
        return Outcome::ok("what was written is deleted again");
    };
    if !sheet.is_well(Check::Put) && !sheet.is_late() {
        return Outcome::skipped("nothing was written");
    }
    let found = format!("objects or uploads may be left at {place} ({why})");
    let advice = "delete them there, and abort unfinished uploads";
    let is_known = [Check::Delete, Check::Uploads]
        .iter()
        .any(|check| sheet.verdict(*check) == Some(Verdict::Failure));
    match is_known || sheet.is_late() {
        // The cause has a line of its own.
        true => Outcome::warning(found, advice),
        false => Outcome::failure(found, advice),
    }
}

/// A signal came. What could not be deleted has a reason and a place.
fn interrupted(cleaned: Result<(), (String, String)>) -> Failure {
    match cleaned {
        Ok(()) => Failure::new(
            Exit::Interrupted,
            "interrupted before all checks were made",
            "start it again; nothing was left in the store",
        ),
        Err((why, place)) => Failure::new(
            Exit::Interrupted,
            format!("interrupted, and objects or uploads may be left at {place} ({why})"),
            "delete them there, and abort unfinished uploads",
        ),
    }
}
