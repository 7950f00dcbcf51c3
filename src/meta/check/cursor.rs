//! Walking along a table whose keys begin with a number.

use std::ops::Range;

use bytes::Bytes;

use crate::meta::{
    MetaError,
    database::backing::Scan,
    volume::{FencedRows, Inner},
};

/// The rows of a table that are still to come, with the first of them in hand.
pub(super) struct Cursor<'a> {
    rows: FencedRows<'a>,
    head: Option<(Bytes, Bytes)>,
}

impl<'a> Cursor<'a> {
    /// Reads with one request at a time: several tables are walked along together, and each table
    /// of the database underneath has a read-ahead of its own.
    pub async fn open(inner: &'a Inner, range: Range<Vec<u8>>) -> Result<Cursor<'a>, MetaError> {
        let mut rows = inner.scan(range, Scan::Near).await?;
        let head = rows.next().await?;
        Ok(Cursor { rows, head })
    }

    /// The number that the next row's key begins with. A key that is too short for one counts as 0.
    pub fn number(&self) -> Option<u64> {
        let (key, _) = self.head.as_ref()?;
        let number = key.get(1..9).and_then(|bytes| bytes.try_into().ok());
        Some(number.map_or(0, u64::from_be_bytes))
    }

    /// The key of the next row, which is not taken.
    pub fn key(&self) -> Option<&[u8]> {
        self.head.as_ref().map(|(key, _)| key.as_ref())
    }

    /// The next row.
    pub async fn next(&mut self) -> Result<Option<(Bytes, Bytes)>, MetaError> {
        let Some(row) = self.head.take() else {
            return Ok(None);
        };
        self.head = self.rows.next().await?;
        Ok(Some(row))
    }

    /// The next row, if its key begins with `number`.
    pub async fn next_of(&mut self, number: u64) -> Result<Option<(Bytes, Bytes)>, MetaError> {
        if self.number() != Some(number) {
            return Ok(None);
        }
        self.next().await
    }
}
