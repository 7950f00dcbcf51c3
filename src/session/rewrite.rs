//! Writing a volume anew under its newest key epoch, without serving it.
//!
//! Contents first ([`Data::rewrite`]), each object as it is committed. Then the notes on the key
//! slots, and the metadata: what is only in its log becomes a table, and a compaction of everything
//! replaces the tables. At the end the headers of what is stored tell what is left.
//!
//! Nothing is noted about how far it is, because every object tells its epoch. So it may be stopped
//! or killed anywhere, and called again.

use std::{collections::HashSet, sync::Arc};

use parking_lot::Mutex;

use super::{
    Opening, Visit, VisitConfig, errors, exit::Exit, failure::Failure, signals::Signals,
    slot_notes, visit::interrupted,
};
use crate::{
    budget::Governor,
    data::{Data, DataError, OlderContents, Rewriting, Rewritten},
    seal::{OlderObject, keys::Epoch, older_objects, volume::SLOT_NOTES_KEY},
    store::StoreError,
};

/// Where the metadata's objects are, its tables among them.
const METADATA: &str = "meta/";
const TABLES: &str = "meta/compacted/";

/// Compactions of everything, at most. One is enough, unless an earlier one was interrupted: then
/// some of its tables are under an older epoch, and are replaced by the next.
const COMPACTIONS_MAX: u32 = 3;

/// The step that takes long.
const CONTENTS: &str = "rewriting contents";

/// How far it is, for a display.
#[derive(Debug, Default)]
pub struct RewriteProgress {
    step: Mutex<&'static str>,
    contents: Rewriting,
}

impl RewriteProgress {
    /// The step under way.
    pub fn step(&self) -> &'static str {
        match *self.step.lock() {
            CONTENTS if self.bytes().1 == 0 => "looking for contents under older keys",
            step => step,
        }
    }

    /// Bytes of contents that were moved, of those that are to be moved.
    pub fn bytes(&self) -> (u64, u64) {
        self.contents.bytes()
    }

    fn begin(&self, step: &'static str) {
        *self.step.lock() = step;
    }
}

/// Objects and their stored bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Objects.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Count {
    fn add(&mut self, object: &OlderObject) {
        self.objects += 1;
        self.bytes += object.bytes;
    }
}

/// Objects that are still sealed under older epochs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Left {
    /// Contents of files, and contents that wait to be deleted.
    pub contents: OlderContents,
    /// Objects of the metadata that it needs.
    pub metadata: Count,
    /// Objects of the metadata that it needs no more, and that wait to be deleted.
    pub superfluous: Count,
    /// Objects of the metadata's log without content.
    pub fences: u64,
}

impl Left {
    /// Whether the volume needs something that is under an older epoch.
    pub fn is_needed(&self) -> bool {
        self.contents.objects + self.metadata.objects > 0
    }
}

/// The outcome.
#[derive(Debug)]
pub struct Report {
    /// The epoch that everything was brought under.
    pub epoch: Epoch,
    /// The contents that were written anew.
    pub contents: Rewritten,
    /// Tables of the metadata that were replaced.
    pub tables: u64,
    /// The objects that are still under older epochs.
    pub left: Left,
}

/// Opens the volume, writes anew all that is sealed under older epochs, and closes it. A first
/// signal ends it after what is on its way, a second one at once. `tell` shows a line to the user.
/// After a failure the caller lets `opening` give back the lease.
///
/// # Errors
/// As for a mount; [`Exit::Interrupted`]; the store or the metadata fails.
pub async fn rewrite(
    config: VisitConfig,
    opening: &Opening,
    progress: &RewriteProgress,
    tell: &(dyn Fn(&str) + Send + Sync),
) -> Result<Report, Failure> {
    let mut signals = Signals::catch(false)?;
    progress.begin("opening the volume");
    let visit = tokio::select! {
        visit = Visit::open(config, true, opening, tell) => visit?,
        () = signals.stop() => return Err(interrupted()),
    };
    let data = Data::start(
        visit.plan.data,
        Governor::new(visit.plan.shares),
        visit.store.clone(),
        Arc::clone(&visit.opened.unlocked.keys),
        visit.meta.clone(),
        None,
    );
    let outcome = tokio::select! {
        outcome = carry_out(&visit, &data, progress, tell) => outcome,
        () = visit.lost() => Err(errors::taken_over()),
        () = signals.stop() => Err(interrupted()),
    };
    if matches!(&outcome, Err(failure) if failure.exit == Exit::Interrupted) {
        tell("strongroom: finishing what is on its way; Ctrl-C again gives that up");
    }
    // Moved bytes are committed where they were too, so giving up loses nothing. But an object may
    // then be stored that nobody commits, and the next mount has to look for it.
    let finished = tokio::select! {
        finished = data.finish() => finished.map_err(|error| data_failed(&visit, error)),
        () = visit.lost() => Err(errors::taken_over()),
        () = signals.give_up() => Err(interrupted()),
    };
    data.shutdown().await;
    if let Err(failure) = finished {
        visit.abandon().await;
        return outcome.and(Err(failure));
    }
    let closed = visit.close().await;
    let report = outcome?;
    closed.map(|()| report)
}

async fn carry_out(
    visit: &Visit,
    data: &Data,
    progress: &RewriteProgress,
    tell: &(dyn Fn(&str) + Send + Sync),
) -> Result<Report, Failure> {
    let (store, keys) = (&visit.store, &visit.opened.unlocked.keys);
    let store_failed = |error: StoreError| errors::store(&error, store.url());
    let data_failed = |error| data_failed(visit, error);
    progress.begin(CONTENTS);
    let contents = data
        .rewrite(&progress.contents)
        .await
        .map_err(data_failed)?;
    progress.begin("rewriting metadata");
    let notes = older_objects(store, keys, SLOT_NOTES_KEY).await;
    if notes
        .map_err(store_failed)?
        .iter()
        .any(|note| note.key == SLOT_NOTES_KEY)
    {
        let header = &visit.opened.loaded.header;
        let changed = slot_notes::change(store, keys, header, |_| ()).await;
        // Notes are remarks: the rest goes on without them.
        if let Err(error) = changed {
            tell(&error.to_string());
        }
    }
    let tables = rewrite_tables(visit).await?;
    progress.begin("looking at what is left");
    Ok(Report {
        epoch: keys.current_epoch(),
        contents,
        tables,
        left: Left {
            contents: data.older_contents().await.map_err(data_failed)?,
            ..metadata_left(visit).await?
        },
    })
}

fn data_failed(visit: &Visit, error: DataError) -> Failure {
    match error {
        DataError::Store(error) => errors::store(&error, visit.store.url()),
        DataError::Meta(error) => errors::meta(&error, "the metadata cannot be read or written"),
        error => Failure::unexpected(error.to_string()),
    }
}

/// Replaces the tables that are sealed under older epochs. Returns how many there were.
async fn rewrite_tables(visit: &Visit) -> Result<u64, Failure> {
    let mut replaced = 0;
    for compaction in 0..COMPACTIONS_MAX {
        let named = needed_tables(visit);
        let older = older_objects(&visit.store, &visit.opened.unlocked.keys, TABLES)
            .await
            .map_err(|error| errors::store(&error, visit.store.url()))?;
        let names = older.iter().filter_map(|table| table_name(&table.key));
        let old: HashSet<String> = names
            .filter(|name| named.contains(*name))
            .map(str::to_owned)
            .collect();
        // The first round is made in any case, because rows may be in the log alone.
        if compaction > 0 && old.is_empty() {
            break;
        }
        replaced += old.len() as u64;
        let rewritten = visit.meta.rewrite_tables(old).await;
        rewritten.map_err(|error| errors::meta(&error, "the metadata cannot be written anew"))?;
    }
    visit.meta.collect().await;
    Ok(replaced)
}

fn needed_tables(visit: &Visit) -> HashSet<String> {
    visit.meta.database_objects().tables.into_iter().collect()
}

/// The table's name in the key of its object.
fn table_name(key: &str) -> Option<&str> {
    key.strip_prefix(TABLES)?.strip_suffix(".sst")
}

/// The number of a log object in its key.
fn log_number(key: &str) -> Option<u64> {
    let digits = key.strip_prefix("meta/wal/")?.strip_suffix(".sst")?;
    digits.parse().ok()
}

async fn metadata_left(visit: &Visit) -> Result<Left, Failure> {
    let (store, keys) = (&visit.store, &visit.opened.unlocked.keys);
    let older = older_objects(store, keys, METADATA)
        .await
        .map_err(|error| errors::store(&error, store.url()))?;
    let needed = visit.meta.database_objects();
    let tables: HashSet<String> = needed.tables.into_iter().collect();
    let mut left = Left::default();
    for object in &older {
        let is_needed = match (table_name(&object.key), log_number(&object.key)) {
            (Some(table), _) => tables.contains(table),
            (None, Some(number)) => number > needed.log_until,
            // The newest manifest is this session's, and the others tell of older states.
            (None, None) => false,
        };
        match (object.is_empty, is_needed) {
            (true, _) => left.fences += 1,
            (false, true) => left.metadata.add(object),
            (false, false) => left.superfluous.add(object),
        }
    }
    Ok(left)
}
