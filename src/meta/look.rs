//! Looking before writing: the stored metadata is read and compared before the first object is
//! written.
//!
//! A writer that opens claims the database at once: it writes a manifest and a log object. So
//! [`Meta::look`] opens as a reader first, which writes nothing, and returns the generation that it
//! recovered. The caller compares that generation with the newest that it knows of the volume. The
//! writer that is opened then must recover at least as much ([`Meta::open_after`]), and can never
//! make a database where it finds none (`Existing`).

use std::sync::Arc;

use futures::StreamExt;
use slatedb::{
    DbReader, DbReaderMode,
    object_store::{ObjectStore, path::Path},
};

use super::{
    Meta, MetaConfig, MetaError, Totals,
    database::{
        backing::Backing,
        memory::BlockCache,
        settings::{DB_PATH, Sizes},
    },
    schema::{self, Counters, SCHEMA_VERSION, SCHEMA_VERSION_MIN, Table},
    state::sessions::Sessions,
};
use crate::seal::object_store::SealedObjectStore;

/// Where manifests are.
const MANIFESTS: &str = "manifest";

/// The result of a look. It is needed to open for writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// As [`Meta::generation`].
    pub generation: u64,
}

impl Meta {
    /// Reads the rows that a mount needs first, as a reader: nothing is written.
    ///
    /// # Errors
    /// [`MetaError::Missing`] where there is no database; an object that does not authenticate; the
    /// schema of a newer version.
    pub async fn look(
        store: Arc<SealedObjectStore>,
        config: MetaConfig,
    ) -> Result<Recovered, MetaError> {
        Meta::look_on(store, config).await
    }

    /// As [`Meta::look`], on any object store: for tests.
    pub async fn look_on(
        store: Arc<dyn ObjectStore>,
        config: MetaConfig,
    ) -> Result<Recovered, MetaError> {
        // As a follower that never looks for something newer: that spares it several requests.
        let meta = Meta::follow_frozen(store, config).await?;
        let generation = meta.generation();
        meta.close().await?;
        Ok(Recovered { generation })
    }
}

/// Opens a reader. It never writes anything.
pub(in crate::meta) async fn open_reader(
    store: Arc<dyn ObjectStore>,
    sizes: &Sizes,
    blocks: Arc<BlockCache>,
) -> Result<DbReader, MetaError> {
    let opened = DbReader::builder(DB_PATH, Arc::clone(&store))
        .with_reader_mode(DbReaderMode::FollowLatest)
        .with_options(sizes.follower())
        .with_db_cache(blocks, 0)
        .build()
        .await;
    match opened {
        Ok(reader) => Ok(reader),
        // SlateDB has no error kind for a missing database, so the listing decides.
        Err(error) => match store.list(Some(&Path::from(MANIFESTS))).next().await {
            None => Err(MetaError::Missing),
            Some(_) => Err(error.into()),
        },
    }
}

/// The rows that are read at open.
pub(in crate::meta) struct Opened {
    pub backing: Backing,
    pub counters: Counters,
    pub totals: Totals,
    pub sessions: Sessions,
}

impl Opened {
    pub async fn read(backing: Backing) -> Result<Opened, MetaError> {
        let missing = || MetaError::Missing;
        match backing.get(&Table::Schema.single()).await?.as_deref() {
            Some([SCHEMA_VERSION_MIN..=SCHEMA_VERSION]) => {}
            Some(_) => {
                return Err(MetaError::Store(
                    "the metadata was written by a newer version".into(),
                ));
            }
            None => return Err(missing()),
        }
        let counters = backing
            .get(&Table::Counters.single())
            .await?
            .ok_or_else(missing)?;
        let totals = backing
            .get(&Table::Totals.single())
            .await?
            .ok_or_else(missing)?;
        let sessions = Sessions::read(&backing).await?;
        let (counters, totals) = (
            schema::decode_counters(&counters)?,
            schema::decode_totals(&totals)?,
        );
        Ok(Opened {
            backing,
            counters,
            totals,
            sessions,
        })
    }
}
