//! How a follower keeps up with the writer: the store that decides when SlateDB's reader looks for
//! something new.
//!
//! A look of SlateDB's reader is a GET of the next manifest, one of a boundary of the manifests,
//! and eight HEADs of log objects after the last one; all but one are answered with 404 on an idle
//! volume, and the reader says nowhere when it has taken over what it found. So the reader is made
//! to look all the time (`READER_TICK`), through [`FollowerStore`]. That store holds the first
//! request of each look back:
//! - until the time has come (`pace.rs`) *and* the next log object is there, which costs one
//!   request. Log objects are numbered without a gap, so no later one is there if that one is not.
//!   Every `WHOLE_LOOK_EVERY` the look goes on without a new log object, for a new manifest alone;
//! - and takes its arrival as the sign that the look before it is over and that its findings are in
//!   place. Only then is the new generation *published*.
//!
//! Promises: reads see the published generation or a later one; between two looks nothing changes.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use futures::stream::BoxStream;
use slatedb::object_store::{
    self, CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, path::Path,
};

use super::pace::{LOG_DIRECTORY, Pace};

/// The volume's metadata as a follower's reader sees it; see the module's head.
pub(in crate::meta) struct FollowerStore {
    store: Arc<dyn ObjectStore>,
    pace: Arc<Pace>,
}

impl FollowerStore {
    pub fn new(store: Arc<dyn ObjectStore>, pace: Arc<Pace>) -> FollowerStore {
        FollowerStore { store, pace }
    }

    async fn get_manifest(
        &self,
        location: &Path,
        options: GetOptions,
    ) -> object_store::Result<GetResult> {
        let asks_for_manifests = self.pace.asks_for_manifests();
        if !asks_for_manifests && !self.pace.admit(&self.store).await {
            return Err(missing(location));
        }
        let answer = self.store.get_opts(location, options).await;
        self.pace.manifest_answered(answer.is_ok());
        answer
    }

    async fn head_log(
        &self,
        log: u64,
        location: &Path,
        options: GetOptions,
    ) -> object_store::Result<GetResult> {
        let is_known = self.pace.is_present(log);
        let _turn = match is_known {
            true => None,
            false => Some(self.pace.probe_lock().await),
        };
        if self.pace.is_missing(log) {
            return Err(missing(location));
        }
        let answer = self.store.get_opts(location, options).await;
        match &answer {
            Ok(_) => self.pace.note_log(log, true),
            Err(object_store::Error::NotFound { .. }) => self.pace.note_log(log, false),
            Err(_) => {}
        }
        answer
    }
}

/// Where SlateDB keeps its manifests.
const MANIFEST_DIRECTORY: &str = "manifest";

/// The number of an object in a directory that SlateDB numbers.
fn number_in(directory: &str, location: &Path) -> Option<u64> {
    let name = location
        .as_ref()
        .strip_prefix(directory)?
        .strip_prefix('/')?;
    name.split('.').next()?.parse().ok()
}

fn missing(location: &Path) -> object_store::Error {
    object_store::Error::NotFound {
        path: location.to_string(),
        source: "not there when last looked for".into(),
    }
}

#[async_trait]
impl ObjectStore for FollowerStore {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> object_store::Result<PutResult> {
        self.store.put_opts(location, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        self.store.put_multipart_opts(location, options).await
    }

    async fn get_opts(
        &self,
        location: &Path,
        options: GetOptions,
    ) -> object_store::Result<GetResult> {
        if number_in(MANIFEST_DIRECTORY, location).is_some() {
            return self.get_manifest(location, options).await;
        }
        match number_in(LOG_DIRECTORY, location) {
            Some(log) if options.head => self.head_log(log, location, options).await,
            _ => self.store.get_opts(location, options).await,
        }
    }

    async fn get_ranges(
        &self,
        location: &Path,
        ranges: &[std::ops::Range<u64>],
    ) -> object_store::Result<Vec<bytes::Bytes>> {
        self.store.get_ranges(location, ranges).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, object_store::Result<Path>>,
    ) -> BoxStream<'static, object_store::Result<Path>> {
        self.store.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        self.store.list(prefix)
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        self.store.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> object_store::Result<ListResult> {
        self.store.list_with_delimiter(prefix).await
    }

    async fn copy_opts(
        &self,
        from: &Path,
        to: &Path,
        options: CopyOptions,
    ) -> object_store::Result<()> {
        self.store.copy_opts(from, to, options).await
    }
}

impl fmt::Debug for FollowerStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FollowerStore").finish_non_exhaustive()
    }
}

impl fmt::Display for FollowerStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FollowerStore")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meta::database::pace::log_path;

    #[test]
    fn numbers_are_found_in_the_names_that_slatedb_gives() {
        assert_eq!(number_in(LOG_DIRECTORY, &log_path(7)), Some(7));
        let manifest = Path::from("manifest/00000000000000000012.manifest");
        assert_eq!(number_in(MANIFEST_DIRECTORY, &manifest), Some(12));
        assert_eq!(number_in(LOG_DIRECTORY, &manifest), None);
        let boundary = Path::from("gc/wal.boundary");
        assert_eq!(number_in(LOG_DIRECTORY, &boundary), None);
    }
}
