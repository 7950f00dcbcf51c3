//! Names that are looked up one after the other, in their order: what follows is read along.
//!
//! A lookup that the caches do not answer asks all tables for the name, and again for the inode
//! behind it; the more files a volume has, the more tables those are. `git status` does that for
//! each of its files, and so does whatever goes through a tree with a list of its own. When the
//! name that was looked up is the very next one in its directory after the one before, the names
//! that follow are read with one scan, and their inodes with another. Nobody waits for that.
//!
//! Whether it is the next one only a scan can tell, so those who ask in no order pay for some scans
//! in vain: after each of these twice as many lookups go by before the next.

use parking_lot::Mutex;

use super::{Dentry, Ino, Meta, MetaError, backing::Scan, schema};

/// Names read along: two blocks of a table, about.
const NAMES_MAX: usize = 128;

/// Directories in which names are followed at once, some 300 bytes each.
const FOLLOWED_MAX: usize = 16;

/// Lookups that go by after a scan in vain, at most.
const PAUSE_MAX: u32 = 64;

struct Followed {
    dir: Ino,
    /// The last name that was found, or read along.
    last: Box<[u8]>,
}

#[derive(Default)]
struct State {
    /// The directory of the latest lookup last.
    followed: Vec<Followed>,
    /// A scan is under way. There is one at a time.
    scans: bool,
    pause: u32,
    pause_next: u32,
}

/// See the module's head.
#[derive(Default)]
pub(super) struct InOrder(Mutex<State>);

impl InOrder {
    /// A name was found in the database. Returns the one before it in this directory, if this may
    /// be the next one after that: then a scan has begun, which ends with [`InOrder::ended`].
    fn found(&self, dir: Ino, name: &[u8]) -> Option<Box<[u8]>> {
        let mut state = self.0.lock();
        let before = state.follow(dir, name);
        let ascends = before.filter(|before| **before < *name)?;
        if state.scans {
            return None;
        }
        if state.pause > 0 {
            state.pause -= 1;
            return None;
        }
        state.scans = true;
        Some(ascends)
    }

    /// The scan is over. With `last` it was the next one, and names were read up to that.
    fn ended(&self, dir: Ino, last: Option<&[u8]>) {
        let mut state = self.0.lock();
        state.scans = false;
        match last {
            Some(last) => {
                state.pause_next = 0;
                state.follow(dir, last);
            }
            None => {
                state.pause_next = (state.pause_next * 2).clamp(1, PAUSE_MAX);
                state.pause = state.pause_next;
            }
        }
    }
}

impl State {
    fn follow(&mut self, dir: Ino, name: &[u8]) -> Option<Box<[u8]>> {
        let at = self.followed.iter().position(|entry| entry.dir == dir);
        let before = at.map(|at| self.followed.remove(at).last);
        if self.followed.len() == FOLLOWED_MAX {
            self.followed.remove(0);
        }
        let last = name.into();
        self.followed.push(Followed { dir, last });
        before
    }
}

impl Meta {
    /// Call when a name was found in the database: what follows is read into the caches if it is
    /// the next one in its directory.
    pub(super) fn follow_lookup(&self, dir: Ino, name: &[u8]) {
        // Followers keep nothing above the database.
        if self.is_follower() {
            return;
        }
        if let Some(before) = self.inner.in_order.found(dir, name) {
            let (meta, name): (Meta, Box<[u8]>) = (self.clone(), name.into());
            tokio::spawn(async move {
                // What keeps it from being read is told to whoever asks for it.
                let last = meta.read_along(dir, &before, &name).await.unwrap_or(None);
                meta.inner.in_order.ended(dir, last.as_deref());
            });
        }
    }

    /// Reads names after `before` into the caches, and their inodes, if `next` is the first of
    /// them; returns the last one.
    async fn read_along(
        &self,
        dir: Ino,
        before: &[u8],
        next: &[u8],
    ) -> Result<Option<Box<[u8]>>, MetaError> {
        let stamps = self.inner.caches.listing_stamps();
        let range = schema::names_after(dir, before);
        let mut rows = self.inner.scan(range, Scan::Near).await?;
        let reader = self.inner.backing.reader();
        let mut names: Vec<(Box<[u8]>, Dentry)> = Vec::new();
        while names.len() < NAMES_MAX
            && let Some((key, value)) = rows.next().await?
        {
            let name = schema::name_of_key(&key)?;
            if names.is_empty() && *name != *next {
                return Ok(None);
            }
            names.push((name[..].into(), schema::decode_dentry(&value, reader)?));
        }
        let last = names.last().map(|(name, _)| name.clone());
        let inos: Vec<Ino> = names.iter().map(|(_, dentry)| dentry.ino).collect();
        self.inner
            .caches
            .fill_listed(&stamps, dir, names.into_iter());
        self.find_inodes(inos).await?;
        Ok(last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIR: Ino = Ino(5);

    fn found(in_order: &InOrder, dir: Ino, name: &str) -> Option<String> {
        let before = in_order.found(dir, name.as_bytes());
        before.map(|before| String::from_utf8(before.into()).unwrap())
    }

    #[test]
    fn names_that_ascend_are_followed_in_each_directory() {
        let in_order = InOrder::default();
        assert_eq!(found(&in_order, DIR, "a"), None);
        assert_eq!(found(&in_order, Ino(6), "x"), None);
        assert_eq!(found(&in_order, DIR, "b").as_deref(), Some("a"));
        in_order.ended(DIR, Some(b"f"));
        assert_eq!(found(&in_order, DIR, "g").as_deref(), Some("f"));
        assert_eq!(found(&in_order, Ino(6), "y"), None, "one scan at a time");
        in_order.ended(DIR, Some(b"p"));
        assert_eq!(found(&in_order, Ino(6), "z").as_deref(), Some("y"));
        in_order.ended(Ino(6), Some(b"z"));
        assert_eq!(found(&in_order, DIR, "c"), None, "it does not ascend");
    }

    #[test]
    fn scans_in_vain_become_rare() {
        let in_order = InOrder::default();
        let mut scans = 0;
        for number in 0..1000 {
            if found(&in_order, DIR, &format!("{number:04}")).is_some() {
                scans += 1;
                in_order.ended(DIR, None);
            }
        }
        assert!(scans <= 7 + 1000 / 64, "{scans}");
        in_order.ended(DIR, Some(b"1000"));
        in_order.0.lock().pause = 0;
        assert!(found(&in_order, DIR, "1001").is_some());
        in_order.ended(DIR, None);
        assert_eq!(in_order.0.lock().pause, 1, "from the beginning");
    }

    #[test]
    fn few_directories_are_followed() {
        let in_order = InOrder::default();
        for number in 0..100 {
            found(&in_order, Ino(number), "a");
        }
        assert_eq!(in_order.0.lock().followed.len(), FOLLOWED_MAX);
        assert_eq!(found(&in_order, Ino(99), "b").as_deref(), Some("a"));
        assert_eq!(found(&in_order, Ino(0), "b"), None);
    }
}
