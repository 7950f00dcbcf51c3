//! Looking before writing: what is stored is read, and compared, before the first object is
//! written.
//!
//! A writer that opens claims the database at once: it writes a manifest and a log object. So
//! [`Meta::look`] opens as a reader first, which writes nothing, and tells what it recovered. The
//! caller compares that with what it knows of the volume. The writer that is opened then must
//! recover at least as much ([`Meta::open_after`]), and can never make a database where it finds
//! none ([`Existing`]).

use std::{fmt, ops::Range, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, stream::BoxStream};
use slatedb::{
    DbReader, DbReaderMode,
    object_store::{
        self, CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
        ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, path::Path,
    },
};

use super::{
    Meta, MetaConfig, MetaError,
    backing::Backing,
    memory::BlockCache,
    settings::{DB_PATH, Sizes},
    volume::Opened,
};
use crate::seal::object_store::SealedObjectStore;

/// The manifest that makes a database. SlateDB counts manifests from 1 and writes each once.
const FIRST_MANIFEST: &str = "manifest/00000000000000000001.manifest";
/// Where manifests are.
const MANIFESTS: &str = "manifest";

/// What a look found. Needed to open for writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// As [`Meta::generation`].
    pub generation: u64,
}

impl Meta {
    /// Reads what a mount needs first, as a reader: nothing is written.
    ///
    /// # Errors
    /// [`MetaError::Missing`] where there is no database; what does not authenticate; a newer
    /// version's schema.
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
        let sizes = Sizes::for_memory(config.memory_bytes);
        let reader = open_reader(store, &sizes, sizes.cache()).await?;
        let generation = reader.subscribe().borrow().durable_seq;
        let opened = Opened::read(Backing::Follower(Box::new(reader))).await?;
        if let Backing::Follower(reader) = opened.backing {
            reader.close().await?;
        }
        Ok(Recovered { generation })
    }
}

/// Opens a reader. It writes nothing, also later.
pub(super) async fn open_reader(
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
        // SlateDB gives no kind of its own to a database that is not there.
        Err(error) => match store.list(Some(&Path::from(MANIFESTS))).next().await {
            None => Err(MetaError::Missing),
            Some(_) => Err(error.into()),
        },
    }
}

/// A store in which a database exists: the manifest that would make one is refused.
#[derive(Debug)]
pub(super) struct Existing(pub Arc<dyn ObjectStore>);

/// The database is not there, or not shown.
#[derive(Debug, thiserror::Error)]
#[error("a mount does not make a database")]
pub(super) struct NotMade;

impl fmt::Display for Existing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[async_trait]
impl ObjectStore for Existing {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> object_store::Result<PutResult> {
        if options.mode == PutMode::Create && location.as_ref() == FIRST_MANIFEST {
            // Of a kind that SlateDB does not try again.
            return Err(object_store::Error::NotSupported {
                source: Box::new(NotMade),
            });
        }
        self.0.put_opts(location, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        self.0.put_multipart_opts(location, options).await
    }

    async fn get_opts(
        &self,
        location: &Path,
        options: GetOptions,
    ) -> object_store::Result<GetResult> {
        self.0.get_opts(location, options).await
    }

    async fn get_ranges(
        &self,
        location: &Path,
        ranges: &[Range<u64>],
    ) -> object_store::Result<Vec<Bytes>> {
        self.0.get_ranges(location, ranges).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, object_store::Result<Path>>,
    ) -> BoxStream<'static, object_store::Result<Path>> {
        self.0.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        self.0.list(prefix)
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        self.0.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> object_store::Result<ListResult> {
        self.0.list_with_delimiter(prefix).await
    }

    async fn copy_opts(
        &self,
        from: &Path,
        to: &Path,
        options: CopyOptions,
    ) -> object_store::Result<()> {
        self.0.copy_opts(from, to, options).await
    }
}
