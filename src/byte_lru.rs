//! A map that is bounded in bytes and lets go of its least recently used entries.

use std::hash::Hash;

use lru::LruCache;

/// Each entry counts with the bytes that its owner names for it, and with what the map itself
/// takes for an entry. Bounded by bytes alone, not by a count.
pub(crate) struct ByteLru<K: Hash + Eq, V> {
    entries: LruCache<K, (V, u64)>,
    entry_bytes: u64,
    bytes: u64,
    bytes_max: u64,
}

impl<K: Hash + Eq, V> ByteLru<K, V> {
    /// `entry_bytes` are added to each entry: its key, list links, map slot.
    pub(crate) fn new(bytes_max: u64, entry_bytes: u64) -> ByteLru<K, V> {
        ByteLru {
            entries: LruCache::unbounded(),
            entry_bytes,
            bytes: 0,
            bytes_max,
        }
    }

    /// The entry, which becomes the most recently used.
    pub(crate) fn get(&mut self, key: &K) -> Option<&V> {
        self.entries.get(key).map(|(value, _)| value)
    }

    /// Whether the entry is there; it does not become recent.
    pub(crate) fn contains(&self, key: &K) -> bool {
        self.entries.contains(key)
    }

    /// Puts an entry of `bytes`. One that is too big for the whole map is not kept.
    pub(crate) fn put(&mut self, key: K, value: V, bytes: u64) {
        let bytes = bytes + self.entry_bytes;
        if bytes > self.bytes_max {
            self.remove(&key);
            return;
        }
        if let Some((_, (_, old))) = self.entries.push(key, (value, bytes)) {
            self.bytes -= old;
        }
        self.bytes += bytes;
        while self.bytes > self.bytes_max {
            let Some((_, (_, old))) = self.entries.pop_lru() else {
                break;
            };
            self.bytes -= old;
        }
    }

    /// Takes an entry out.
    pub(crate) fn take(&mut self, key: &K) -> Option<V> {
        let (value, bytes) = self.entries.pop(key)?;
        self.bytes -= bytes;
        Some(value)
    }

    pub(crate) fn remove(&mut self, key: &K) {
        self.take(key);
    }

    pub(crate) fn clear(&mut self) {
        self.entries.clear();
        self.bytes = 0;
    }

    /// Bytes held now.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Bytes held at most.
    pub(crate) fn bytes_max(&self) -> u64 {
        self.bytes_max
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_holds_and_the_least_recently_used_goes_first() {
        let mut map = ByteLru::new(10 * (64 + 10), 64);
        for key in 0..100u64 {
            map.put(key, key, 10);
            map.get(&0);
        }
        assert!(map.bytes() <= map.bytes_max());
        assert_eq!(map.entries.len(), 10);
        assert_eq!(map.get(&0), Some(&0));
        assert_eq!(map.get(&99), Some(&99));
    }

    #[test]
    fn an_entry_that_is_too_big_is_not_kept_and_replaces_none() {
        let mut map = ByteLru::new(1000, 64);
        map.put(5, 'a', 10);
        map.put(5, 'b', 1 << 40);
        assert_eq!(map.get(&5), None);
        assert_eq!(map.bytes(), 0);
    }

    #[test]
    fn an_entry_that_is_replaced_or_taken_counts_once() {
        let mut map = ByteLru::new(1000, 64);
        map.put(1, 'a', 10);
        map.put(1, 'b', 20);
        assert_eq!(map.bytes(), 84);
        assert!(map.contains(&1));
        assert_eq!(map.take(&1), Some('b'));
        assert_eq!(map.bytes(), 0);
    }
}
