//! Listings and deletes.

use bytes::Bytes;
use futures::future::join_all;

use super::{Probe, ProbeFailure, lacks, refuse};
use crate::store::{Condition, StoreErrorKind};

/// The names of the keys that are listed, ascending, and what no other name begins with.
const LISTED: [&str; 3] = ["listed1", "listed2", "listed3"];
const LISTED_PREFIX: &str = "listed";

const LIST: &str = "ListObjectsV2";
const DELETE: &str = "delete";

impl Probe<'_> {
    /// Objects are listed once they are written, and are gone once they are deleted.
    pub(super) async fn listed_and_deleted(&self) -> Result<(), ProbeFailure> {
        self.listed_as_written().await?;
        self.deleted(true).await
    }

    /// The same without a look at the listing, unless `listed`.
    pub(super) async fn written_and_deleted(&self, listed: bool) -> Result<(), ProbeFailure> {
        self.write_listed().await?;
        self.deleted(listed).await
    }

    async fn write_listed(&self) -> Result<(), ProbeFailure> {
        self.go_on()?;
        let keys = LISTED.map(|name| self.key(name));
        let puts = keys.iter().map(|key| {
            self.store
                .put(key, vec![Bytes::from_static(b"x")], Condition::None, &[])
        });
        for put in join_all(puts).await {
            put?;
        }
        Ok(())
    }

    /// Objects are listed once they are written.
    pub(super) async fn listed_as_written(&self) -> Result<(), ProbeFailure> {
        self.write_listed().await?;
        self.go_on()?;
        let keys = LISTED.map(|name| self.key(name));
        let [first, rest @ ..] = &keys;
        let (listed, after) = tokio::join!(
            self.listed(LISTED_PREFIX, None),
            self.listed(LISTED_PREFIX, Some(first))
        );
        let (listed, after) = (listed?, after?);
        if listed != keys {
            return Err(refuse(
                LIST,
                format!("{keys:?} were written and {listed:?} are listed"),
            ));
        }
        if after != rest {
            return Err(refuse(LIST, "start-after is ignored"));
        }
        Ok(())
    }

    /// They are gone once they are deleted, one by itself and one with others.
    async fn deleted(&self, listed: bool) -> Result<(), ProbeFailure> {
        self.go_on()?;
        let keys = LISTED.map(|name| self.key(name));
        let (alone, others) = keys.split_at(1);
        let (one, several) = tokio::join!(self.delete(alone), self.delete(others));
        one.and(several)?;
        self.go_on()?;
        let [first, second, _] = &keys;
        let (first, second, found) =
            tokio::join!(self.store.head(first), self.store.head(second), async {
                match listed {
                    true => self.listed(LISTED_PREFIX, None).await,
                    false => Ok(Vec::new()),
                }
            });
        for there in [first, second] {
            match there {
                Ok(_) => return Err(refuse(DELETE, "a deleted object is still there")),
                Err(error) if error.kind == StoreErrorKind::NotFound => {}
                // A key that may not list, or not read, is denied the look for what is not there.
                Err(error) if error.kind == StoreErrorKind::Denied => {}
                Err(error) => return Err(error.into()),
            }
        }
        match found?.first() {
            Some(key) => Err(refuse(
                DELETE,
                format!("{key} is still listed after it was deleted"),
            )),
            None => Ok(()),
        }
    }

    /// The keys of this trial whose names begin so, and which come after `after`.
    pub(super) async fn listed(
        &self,
        name: &str,
        after: Option<&str>,
    ) -> Result<Vec<String>, ProbeFailure> {
        let page = self
            .store
            .list_page(&self.key(name), after)
            .await
            .map_err(|error| lacks(LIST, error))?;
        Ok(page.into_iter().map(|entry| entry.key).collect())
    }
}
