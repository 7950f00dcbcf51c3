//! Faults on demand: latency, a shared bandwidth limit, error answers, cut connections, outages.
//!
//! All can be changed while the server runs. With one seed and one order of requests the same
//! requests are hit. Faults never harm stored objects: a request that fails has not happened, one
//! whose answer is cut may have happened, as with any network.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::Instant;

/// Whether the server answers at all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outage {
    /// It does.
    #[default]
    None,
    /// Open connections are cut, new ones are reset at once.
    Refuse,
    /// Connections are accepted and nothing moves on any of them until the outage ends.
    Hang,
}

/// The faults of a server, and how often they happen. `Default` is a server without faults.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Faults {
    /// Added to each request before it is handled; concurrent requests wait concurrently.
    /// In JSON: `latency_ms`, milliseconds, may have a fraction.
    #[serde(rename = "latency_ms", with = "milliseconds")]
    pub latency: Duration,
    /// Bytes per second over all connections, both directions together; `None` is unlimited.
    pub bandwidth: Option<u64>,
    /// Share of requests (0 to 1) answered `503 SlowDown` or, every second time, `500
    /// InternalError`.
    pub error_rate: f64,
    /// Share of requests (0 to 1) whose connection is cut: in the middle of the request's or the
    /// answer's body, or, for requests without one, before or after they took effect.
    pub reset_rate: f64,
    /// Seed of the choices above. Setting it restarts the sequence.
    pub seed: u64,
    /// Whether the server answers at all.
    pub outage: Outage,
}

impl Faults {
    /// Refuses impossible values, and says why.
    ///
    /// # Errors
    /// A rate outside 0 to 1, or a bandwidth of 0.
    pub fn validate(&self) -> Result<(), String> {
        for (name, rate) in [
            ("error_rate", self.error_rate),
            ("reset_rate", self.reset_rate),
        ] {
            if !(0.0..=1.0).contains(&rate) {
                return Err(format!("{name} is {rate}, but must lie between 0 and 1"));
            }
        }
        if self.bandwidth == Some(0) {
            return Err("bandwidth is 0; leave it out for no limit, or use an outage".to_owned());
        }
        Ok(())
    }
}

mod milliseconds {
    use std::time::Duration;

    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(
        value: &Duration,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(value.as_secs_f64() * 1000.0)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Duration, D::Error> {
        let milliseconds = f64::deserialize(deserializer)?;
        Duration::try_from_secs_f64(milliseconds / 1000.0).map_err(D::Error::custom)
    }
}

/// The fate of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is handled.
    Pass,
    /// It is answered 503.
    SlowDown,
    /// It is answered 500.
    InternalError,
    /// Its connection is cut; the number chooses where.
    Reset(u64),
}

/// The faults in force, shared by all connections.
pub(super) struct FaultControl {
    current: watch::Sender<Faults>,
    sequence: AtomicU64,
    errors: AtomicU64,
    throttle: Throttle,
}

impl FaultControl {
    pub(super) fn new(faults: Faults) -> Self {
        let control = Self {
            current: watch::Sender::new(Faults::default()),
            sequence: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            throttle: Throttle::default(),
        };
        control.set(faults);
        control
    }

    pub(super) fn set(&self, faults: Faults) {
        self.throttle
            .rate
            .store(faults.bandwidth.unwrap_or(0), Ordering::Relaxed);
        if self.current.borrow().seed != faults.seed {
            self.sequence.store(0, Ordering::Relaxed);
        }
        self.current.send_replace(faults);
    }

    pub(super) fn get(&self) -> Faults {
        self.current.borrow().clone()
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<Faults> {
        self.current.subscribe()
    }

    pub(super) fn throttle(&self) -> &Throttle {
        &self.throttle
    }

    /// Waits the latency, then decides the fate of the request.
    pub(super) async fn judge(&self) -> Verdict {
        let faults = self.get();
        if !faults.latency.is_zero() {
            tokio::time::sleep(faults.latency).await;
        }
        if faults.error_rate <= 0.0 && faults.reset_rate <= 0.0 {
            return Verdict::Pass;
        }
        let number = self.sequence.fetch_add(1, Ordering::Relaxed);
        let random = splitmix64(faults.seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let share = (random >> 11) as f64 / (1u64 << 53) as f64;
        if share < faults.error_rate {
            return match self.errors.fetch_add(1, Ordering::Relaxed) % 2 {
                0 => Verdict::SlowDown,
                _ => Verdict::InternalError,
            };
        }
        if share < faults.error_rate + faults.reset_rate {
            return Verdict::Reset(splitmix64(random));
        }
        Verdict::Pass
    }
}

/// A token bucket over all sockets: a socket that moved bytes waits until they would have fitted.
#[derive(Default)]
pub(super) struct Throttle {
    /// Bytes per second, 0 for none.
    rate: AtomicU64,
    next_free: Mutex<Option<Instant>>,
}

impl Throttle {
    /// The most one read or write may move while a limit is in force, so that connections share it
    /// finely.
    pub(super) const SLICE_BYTES: usize = 32 * 1024;
    /// Idle time that may be made up for.
    const BURST: Duration = Duration::from_millis(5);

    pub(super) fn is_limited(&self) -> bool {
        self.rate.load(Ordering::Relaxed) != 0
    }

    /// Books `bytes` that were moved; returns when their mover may go on, if not at once.
    pub(super) fn book(&self, bytes: usize) -> Option<Instant> {
        let rate = self.rate.load(Ordering::Relaxed);
        if rate == 0 || bytes == 0 {
            return None;
        }
        let now = Instant::now();
        let cost = Duration::from_secs_f64(bytes as f64 / rate as f64);
        let mut next_free = self.next_free.lock();
        let earliest = now.checked_sub(Self::BURST).unwrap_or(now);
        let free = next_free.map_or(earliest, |free| free.max(earliest)) + cost;
        *next_free = Some(free);
        (free > now).then_some(free)
    }
}

/// One step of Steele, Lea and Flood's generator: a good 64-bit mix, no state to share.
fn splitmix64(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_seed_hits_the_same_requests_again() {
        let faults = Faults {
            error_rate: 0.2,
            reset_rate: 0.1,
            seed: 7,
            ..Faults::default()
        };
        let mut runs = Vec::new();
        for _ in 0..2 {
            let control = FaultControl::new(faults.clone());
            let mut run = Vec::new();
            for _ in 0..200 {
                run.push(control.judge().await);
            }
            runs.push(run);
        }
        assert_eq!(runs[0], runs[1]);
        let hit = runs[0]
            .iter()
            .filter(|verdict| **verdict != Verdict::Pass)
            .count();
        assert!(
            (30..90).contains(&hit),
            "{hit} of 200 were hit at a rate of 0.3"
        );
    }

    #[test]
    fn faults_in_json_refuse_unknown_fields_and_impossible_rates() {
        assert!(serde_json::from_str::<Faults>(r#"{"latncy_ms": 5}"#).is_err());
        let faults: Faults =
            serde_json::from_str(r#"{"latency_ms": 2.5, "outage": "hang"}"#).unwrap();
        assert_eq!(faults.latency, Duration::from_micros(2500));
        assert_eq!(faults.outage, Outage::Hang);
        let faults: Faults = serde_json::from_str(r#"{"error_rate": 1.5}"#).unwrap();
        assert!(faults.validate().is_err());
    }
}
