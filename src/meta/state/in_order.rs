//! Which lookups may go through a directory in the order of its names. See `names/read_along`.

use parking_lot::Mutex;

use crate::meta::Ino;

/// Directories in which names are followed at once, some 300 bytes each.
const FOLLOWED_MAX: usize = 16;

/// Lookups that are passed over after a scan in vain, at most.
const PAUSE_MAX: u32 = 64;

struct Followed {
    dir: Ino,
    /// The last name that was found, or read along.
    last: Box<[u8]>,
}

#[derive(Default)]
struct State {
    /// In the order of their latest lookups.
    followed: Vec<Followed>,
    /// A scan is under way. There is one at a time.
    scans: bool,
    pause: u32,
    pause_next: u32,
}

/// The directories in which lookups are followed, and whether a scan is under way.
#[derive(Default)]
pub(in crate::meta) struct InOrder(Mutex<State>);

impl InOrder {
    /// Notes that a name was found in the database. Returns the name that was found before it in
    /// this directory, if this one may follow directly. Then the caller scans, and ends with
    /// [`InOrder::ended`].
    pub fn found(&self, dir: Ino, name: &[u8]) -> Option<Box<[u8]>> {
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

    /// Notes the end of a scan. With `last`, the name did follow directly, and names were read up
    /// to `last`.
    pub fn ended(&self, dir: Ino, last: Option<&[u8]>) {
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

#[cfg(test)]
mod tests {
    use super::*;

    const DIR: Ino = Ino(5);

    pub fn found(in_order: &InOrder, dir: Ino, name: &str) -> Option<String> {
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
