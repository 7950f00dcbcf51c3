//! Which objects a range of a file lies in.

use std::ops::Range;

use crate::meta::{
    Extent, ExtentSource, Ino, Meta, MetaError, ObjectId, ObjectRecord,
    database::backing::Scan,
    schema::{self, RowSource},
};

impl Meta {
    /// The extents that overlap `range`, sorted, not clipped; at most `limit` (the caller goes on
    /// after the last).
    pub async fn extents(
        &self,
        ino: Ino,
        range: Range<u64>,
        limit: usize,
    ) -> Result<Vec<Extent>, MetaError> {
        let mut extents = Vec::new();
        if range.is_empty()
            || self
                .find_inode(ino)
                .await?
                .is_none_or(|inode| inode.allocated == 0)
        {
            return Ok(extents);
        }
        let mut rows = self
            .inner
            .scan(schema::extent_range(ino, range.start + 1), Scan::Near)
            .await?;
        while extents.len() < limit {
            let Some((key, value)) = rows.next().await? else {
                break;
            };
            let end = schema::second_of_key(&key)?;
            let row = schema::decode_extent(end, &value)?;
            if row.start >= range.end {
                break;
            }
            let source = match row.source {
                RowSource::Object { object, at } => ExtentSource::Object {
                    object: self.object_id(object).await?,
                    at,
                },
                RowSource::Inline(bytes) => ExtentSource::Inline(bytes),
            };
            extents.push(Extent {
                offset: row.start,
                len: end - row.start,
                source,
            });
        }
        Ok(extents)
    }

    /// The record of an object, from a cache or the database.
    pub async fn object(&self, object: ObjectId) -> Result<Option<ObjectRecord>, MetaError> {
        match self.object_key(object).await? {
            Some(key) => Ok(self.stored_object(key).await?.map(|stored| stored.record)),
            None => Ok(None),
        }
    }
}
