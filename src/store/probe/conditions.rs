//! Conditional PUTs, one after the other and in races.

use bytes::Bytes;
use futures::future::join_all;

use super::{Probe, ProbeFailure, lacks, refuse};
use crate::store::{Condition, StoreErrorKind};

/// Conditional PUTs that race for one key.
const RACERS: u8 = 8;

const IF_NONE_MATCH: &str = "conditional PUT (If-None-Match)";
const IF_MATCH: &str = "conditional PUT (If-Match)";

impl Probe<'_> {
    /// One after the other: the second one is refused.
    pub(super) async fn absent(&self) -> Result<(), ProbeFailure> {
        self.go_on()?;
        self.put("object", Bytes::from_static(b"first"), Condition::Absent)
            .await
            .map_err(|error| lacks(IF_NONE_MATCH, error))?;
        self.must_refuse(
            "object",
            Condition::Absent,
            IF_NONE_MATCH,
            "a second object was let replace the first",
        )
        .await
    }

    /// The same with the condition that the object is a certain one.
    pub(super) async fn matching(&self) -> Result<(), ProbeFailure> {
        let matches = Condition::Matches(self.put_tagged("match", b"first").await?);
        self.go_on()?;
        self.put("match", Bytes::from_static(b"second"), matches.clone())
            .await
            .map_err(|error| lacks(IF_MATCH, error))?;
        self.must_refuse(
            "match",
            matches,
            IF_MATCH,
            "a stale ETag was let replace a newer object",
        )
        .await
    }

    async fn must_refuse(
        &self,
        name: &'static str,
        condition: Condition,
        capability: &'static str,
        detail: &str,
    ) -> Result<(), ProbeFailure> {
        self.go_on()?;
        match self
            .put(name, Bytes::from_static(b"refused"), condition)
            .await
        {
            Ok(_) => Err(refuse(capability, detail)),
            Err(error) if error.kind == StoreErrorKind::Precondition => Ok(()),
            Err(error) => Err(lacks(capability, error)),
        }
    }

    pub(super) async fn race_to_be_first(&self) -> Result<(), ProbeFailure> {
        self.race("race", Condition::Absent, IF_NONE_MATCH).await
    }

    pub(super) async fn race_to_be_second(&self) -> Result<(), ProbeFailure> {
        let matches = Condition::Matches(self.put_tagged("second", b"first").await?);
        self.race("second", matches, IF_MATCH).await
    }

    /// All at once: one wins, and the object is the winner's.
    async fn race(
        &self,
        name: &'static str,
        condition: Condition,
        capability: &'static str,
    ) -> Result<(), ProbeFailure> {
        self.go_on()?;
        let racers = (0..RACERS).map(|racer| {
            let condition = condition.clone();
            async move {
                let body = Bytes::from(vec![racer; 64]);
                (racer, self.put(name, body, condition).await)
            }
        });
        let mut winner = None;
        for (racer, outcome) in join_all(racers).await {
            match outcome {
                Ok(_) if winner.is_none() => winner = Some(racer),
                Ok(_) => {
                    return Err(refuse(
                        capability,
                        "several of the PUTs that raced for one key were let through",
                    ));
                }
                Err(error) if error.kind == StoreErrorKind::Precondition => {}
                Err(error) => return Err(lacks(capability, error)),
            }
        }
        let winner = winner.ok_or_else(|| {
            refuse(
                capability,
                "of the PUTs that raced for one key none was let through",
            )
        })?;
        self.go_on()?;
        let (_, body) = self
            .store
            .get_bytes(&self.key(name), None, 64)
            .await
            .map_err(|error| lacks(capability, error))?;
        match body.iter().all(|byte| *byte == winner) {
            true => Ok(()),
            false => Err(refuse(
                capability,
                "the object is not that of the PUT that was let through",
            )),
        }
    }
}
