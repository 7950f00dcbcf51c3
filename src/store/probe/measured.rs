//! How fast the store is: small requests one after the other, and one object up and down.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::{Probe, ProbeFailure, contents::pattern, lacks, refuse};
use crate::store::Condition;

/// Small requests that are timed.
const ROUNDS: usize = 9;
/// The small object that they get.
const SMALL: &[u8] = b"Strongroom measures how long an answer takes.";
const NAME: &str = "measured";

const GET: &str = "GET";

/// How long it took to move an object up and down.
#[derive(Clone, Copy, Debug)]
pub struct Carried {
    /// From the first byte of the PUT to its answer.
    pub up: Duration,
    /// From the GET to its last byte.
    pub down: Duration,
}

impl Probe<'_> {
    /// A small object is taken, and has an ETag.
    pub(super) async fn write_measured(&self) -> Result<(), ProbeFailure> {
        self.put_tagged(NAME, SMALL).await.map(drop)
    }

    /// It can be read again.
    pub(super) async fn read_measured(&self) -> Result<(), ProbeFailure> {
        self.go_on()?;
        let fetched = self
            .store
            .get_bytes(&self.key(NAME), None, SMALL.len() as u64)
            .await;
        let (_, bytes) = fetched.map_err(|error| lacks(GET, error))?;
        match bytes == SMALL {
            true => Ok(()),
            false => Err(refuse(GET, "the bytes differ from those that were written")),
        }
    }

    /// How long each of some small requests took, one after the other. The object of
    /// [`super::Trial::Put`] must be there.
    ///
    /// # Errors
    /// As [`super::probe`].
    pub async fn latencies(&self) -> Result<Vec<Duration>, ProbeFailure> {
        let mut took = Vec::with_capacity(ROUNDS);
        for _ in 0..ROUNDS {
            let began = Instant::now();
            self.read_measured().await?;
            took.push(began.elapsed());
        }
        Ok(took)
    }

    /// How long an object of `len` bytes takes up and down.
    ///
    /// # Errors
    /// As [`super::probe`].
    pub async fn carry(&self, len: usize) -> Result<Carried, ProbeFailure> {
        self.go_on()?;
        let (key, body): (String, Bytes) = (self.key(NAME), pattern(len, 4));
        let began = Instant::now();
        self.store
            .put(&key, vec![body.clone()], Condition::None, &[])
            .await?;
        let up = began.elapsed();
        self.go_on()?;
        let began = Instant::now();
        let fetched = self.store.get_bytes(&key, None, len as u64).await;
        let (_, bytes) = fetched.map_err(|error| lacks(GET, error))?;
        let down = began.elapsed();
        match bytes == body {
            true => Ok(Carried { up, down }),
            false => Err(refuse(GET, "the bytes differ from those that were written")),
        }
    }
}
