//! Settings of `mount` that suit this machine and this store.
//!
//! No option sets how many requests are under way at once: `--memory` does.

use std::time::Duration;

use super::report::{Measured, Recommendation};
use crate::{
    data::{MEMORY_MIN_BYTES, MemoryPlan},
    disk,
    session::disk_cache::DiskCacheSize,
    telemetry::human_size,
};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// Values of `--memory`, most first.
const MEMORY_STEPS: [u64; 4] = [GIB, 512 * MIB, 256 * MIB, MEMORY_MIN_BYTES];
/// From this latency on more memory is more speed: what is under way must be kept somewhere.
const FAR: Duration = Duration::from_millis(50);
/// A machine with so much can spare a GiB.
const ROOMY_BYTES: u64 = 4 * GIB;
/// From this latency on a large disk cache pays.
const DISK_CACHE_PAYS: Duration = Duration::from_millis(10);
const DISK_CACHE_MAX: u64 = 10 * GIB;

/// The facts that settings depend on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts {
    /// Memory of the machine, or of the control group.
    pub(super) memory_bytes: u64,
    /// The bytes that a disk cache has room for.
    pub(super) room_bytes: Option<u64>,
    pub(super) measured: Measured,
}

impl Facts {
    fn latency(&self) -> Option<Duration> {
        self.measured.latency_us.map(Duration::from_micros)
    }
}

/// One for each option that matters.
pub(super) fn recommended(facts: &Facts) -> Vec<Recommendation> {
    vec![memory(facts), disk_cache(facts)]
}

fn memory(facts: &Facts) -> Recommendation {
    let is_far = facts.latency().is_some_and(|latency| latency >= FAR);
    let wanted = match is_far && facts.memory_bytes >= ROOMY_BYTES {
        true => GIB,
        false => 512 * MIB,
    };
    // The page cache needs room beside it.
    let most = wanted.min(facts.memory_bytes / 4 * 3);
    let fits = MEMORY_STEPS.into_iter().find(|bytes| *bytes <= most);
    let bytes = fits.unwrap_or(MEMORY_MIN_BYTES);
    let requests = MemoryPlan::for_memory(bytes).connections_max;
    let because = match bytes {
        GIB => "the store is far: more data has to be under way",
        bytes if bytes < wanted => "there is not more to spare",
        _ => "it suits most work; more helps many readers at once",
    };
    Recommendation {
        option: "--memory",
        value: value(bytes),
        because: format!("{because} ({requests} requests at once)"),
    }
}

fn disk_cache(facts: &Facts) -> Recommendation {
    let of = |value: String, because: String| Recommendation {
        option: "--disk-cache",
        value,
        because,
    };
    let usual = DiskCacheSize::Default.bytes().unwrap_or_default();
    let without = |because: &str| of("off".to_owned(), because.to_owned());
    let Some(room) = facts.room_bytes else {
        return without("its directory cannot be used");
    };
    if room < disk::SIZE_MIN_BYTES {
        return without("there is no room for it");
    }
    let pays = facts
        .latency()
        .is_some_and(|latency| latency >= DISK_CACHE_PAYS);
    // Half of the room is left to others.
    let large = (room / 2).min(DISK_CACHE_MAX) / GIB * GIB;
    match pays && large > usual {
        true => of(
            value(large),
            format!(
                "reading again from the store takes long, and {} are free",
                human_size(room)
            ),
        ),
        false => of(
            "default".to_owned(),
            format!(
                "up to {}, as far as that is faster than the store",
                human_size(usual)
            ),
        ),
    }
}

/// As it is written on a command line.
fn value(bytes: u64) -> String {
    match bytes % GIB {
        0 => format!("{}GiB", bytes / GIB),
        _ => format!("{}MiB", bytes / MIB),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(memory_bytes: u64, room_bytes: Option<u64>, latency_ms: Option<u64>) -> [String; 2] {
        let measured = Measured {
            latency_us: latency_ms.map(|ms| ms * 1000),
            ..Measured::default()
        };
        let facts = Facts {
            memory_bytes,
            room_bytes,
            measured,
        };
        let both: [Recommendation; 2] = recommended(&facts).try_into().unwrap();
        let [memory, cache] = both;
        assert_eq!((memory.option, cache.option), ("--memory", "--disk-cache"));
        [memory.value, cache.value]
    }

    #[test]
    fn what_is_recommended_fits_the_machine_and_the_store() {
        for (memory, room, latency, expected) in [
            (16 * GIB, Some(100 * GIB), Some(1), ["512MiB", "default"]),
            (16 * GIB, Some(100 * GIB), Some(100), ["1GiB", "10GiB"]),
            (16 * GIB, Some(9 * GIB), Some(20), ["512MiB", "4GiB"]),
            (16 * GIB, Some(3 * GIB), Some(20), ["512MiB", "default"]),
            (2 * GIB, Some(0), Some(100), ["512MiB", "off"]),
            (512 * MIB, None, None, ["256MiB", "off"]),
            (200 * MIB, Some(GIB), None, ["128MiB", "default"]),
            (100 * MIB, Some(GIB), None, ["128MiB", "default"]),
        ] {
            let found = values(memory, room, latency);
            assert_eq!(found, expected, "{memory} {room:?} {latency:?}");
        }
    }
}
