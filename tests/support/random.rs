//! Chance that is the same each time.

use bytes::Bytes;

/// xorshift64.
#[derive(Clone)]
pub struct Random(pub u64);

impl Random {
    /// Seeds that are close to each other give sequences that have nothing in common.
    pub fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// From `STRONGROOM_SOAK_SEED`, or from the clock.
    pub fn of_this_run() -> Random {
        let given = std::env::var("STRONGROOM_SOAK_SEED");
        let seed = given.ok().and_then(|seed| seed.parse().ok());
        let seed = seed.unwrap_or_else(|| {
            let now = std::time::SystemTime::now();
            let since = now.duration_since(std::time::UNIX_EPOCH);
            since.map_or(1, |since| since.as_secs())
        });
        eprintln!("seed {seed}");
        Random::new(seed)
    }

    /// For a part with a number of its own.
    pub fn branch(&mut self, number: u64) -> Random {
        Random::new(self.next() ^ number)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Less than `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub fn between(&mut self, least: u64, most: u64) -> u64 {
        least + self.below(most - least + 1)
    }

    pub fn one_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len() as u64) as usize]
    }

    /// Bytes that do not compress.
    pub fn noise(&mut self, len: u64) -> Vec<u8> {
        let len = len as usize;
        let mut bytes = Vec::with_capacity(len + 8);
        while bytes.len() < len {
            bytes.extend_from_slice(&self.next().to_le_bytes());
        }
        bytes.truncate(len);
        bytes
    }

    pub fn shuffled<T>(&mut self, mut items: Vec<T>) -> Vec<T> {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last as u64 + 1) as usize);
        }
        items
    }
}

/// Bytes that do not compress, the same for the same seed. The stored volume of
/// `tests/fixtures/volume-1` holds some.
pub fn noise(seed: u64, len: usize) -> Vec<u8> {
    Random::new(seed).noise(len as u64)
}

/// Bytes in which no two places look alike.
pub fn pattern(len: usize) -> Bytes {
    noise(1, len).into()
}
