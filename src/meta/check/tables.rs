//! Checks the objects of the database: each table is there and authenticates from its first frame
//! to its last, and the log has no gap.
//!
//! The other passes read most of the tables, but not the filters, nor rows that newer ones hide.
//! And a reader takes the log for ended where an object of it is missing, so it would check an
//! older state and find that whole.

use std::collections::BTreeSet;

use futures::StreamExt;
use slatedb::{
    VersionedManifest,
    object_store::{ObjectStore, ObjectStoreExt, path::Path},
};

use super::{Collector, Counted, Fault, Halt};
use crate::meta::{Meta, MetaError, database::backing::Backing};

impl Meta {
    pub(super) async fn check_tables(&self, found: &mut Collector<'_>) -> Result<Counted, Halt> {
        let manifest = self.manifest();
        let store = self.inner.store().ok_or_else(|| {
            let why = "the metadata is open without its store";
            Halt::Failed(MetaError::Store(why.to_owned()))
        })?;
        // One table may have several views.
        let tables: BTreeSet<String> = manifest
            .all_sst_views()
            .map(|view| format!("compacted/{}.sst", view.sst.id.value()))
            .collect();
        for table in tables {
            if let Err(why) = read_whole(&*store, &Path::from(table.as_str())).await {
                found.add(Fault::Table {
                    path: table,
                    why: why.to_string(),
                })?;
            }
        }
        if let Some(missing) = self.gap_in_the_log(&*store).await? {
            found.add(Fault::Table {
                path: format!("wal/{missing:020}.sst"),
                why: "missing, and a later one is there".to_owned(),
            })?;
        }
        Ok(Counted::default())
    }

    pub(super) fn manifest(&self) -> VersionedManifest {
        match &self.inner.backing {
            Backing::Writer(db) => db.manifest(),
            Backing::Follower(reader) => reader.manifest(),
        }
    }

    /// The first log object that is missing although a later one is there. Log objects that the
    /// manifest makes superfluous may be missing. A living writer may have written a newer manifest
    /// since, and have deleted the objects that it makes superfluous.
    async fn gap_in_the_log(&self, store: &dyn ObjectStore) -> Result<Option<u64>, MetaError> {
        let after = self.manifest().replay_after_wal_id();
        if gap_after(store, after).await?.is_none() {
            return Ok(None);
        }
        let newer = self.look_again().await?;
        let after = newer.as_ref().map_or(after, |newer| {
            newer.manifest().replay_after_wal_id().max(after)
        });
        let gap = gap_after(store, after).await;
        if let Some(newer) = newer {
            newer.close().await?;
        }
        gap
    }
}

/// The first number after `after` that a log object is missing for, if there is a later one.
async fn gap_after(store: &dyn ObjectStore, after: u64) -> Result<Option<u64>, MetaError> {
    let mut listed = store.list(Some(&Path::from("wal")));
    let mut numbers = BTreeSet::new();
    while let Some(object) = listed.next().await {
        let object = object.map_err(|error| MetaError::Store(error.to_string()))?;
        let number = object.location.filename().and_then(|name| {
            let number: u64 = name.strip_suffix(".sst")?.parse().ok()?;
            Some(number)
        });
        numbers.extend(number.filter(|number| *number > after));
    }
    let expected = (after + 1..).zip(&numbers);
    Ok(expected
        .into_iter()
        .find(|(expected, number)| expected != *number)
        .map(|(expected, _)| expected))
}

/// Reads a table without keeping it.
async fn read_whole(store: &dyn ObjectStore, path: &Path) -> slatedb::object_store::Result<()> {
    let mut pieces = store.get(path).await?.into_stream();
    while let Some(piece) = pieces.next().await {
        piece?;
    }
    Ok(())
}
