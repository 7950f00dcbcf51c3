//! The last names under which files were met, for messages: requests name inodes, people name
//! paths.

use std::num::NonZeroUsize;

use lru::LruCache;
use parking_lot::Mutex;

use crate::meta::Ino;

/// Names that are kept: about half a megabyte of usual names, and more than the directories on any
/// path.
const NAMES_MAX: NonZeroUsize = NonZeroUsize::new(4096).unwrap();

/// Directories that a path is followed up through at most.
const DEPTH_MAX: usize = 256;

/// A directory, and a name in it.
type Place = (Ino, Box<[u8]>);

/// See the module's head.
pub(super) struct Names {
    known: Mutex<LruCache<Ino, Place>>,
}

impl Names {
    pub(super) fn new() -> Names {
        Names {
            known: Mutex::new(LruCache::new(NAMES_MAX)),
        }
    }

    /// `ino` was met as `name` in `dir`.
    pub(super) fn met(&self, ino: Ino, dir: Ino, name: &[u8]) {
        let mut known = self.known.lock();
        let is_known = known
            .get(&ino)
            .is_some_and(|(known_dir, known_name)| *known_dir == dir && **known_name == *name);
        if !is_known {
            known.put(ino, (dir, name.into()));
        }
    }

    /// The path from the mount's root, as far as it is known, with control characters escaped.
    pub(super) fn path(&self, ino: Ino) -> String {
        let known = self.known.lock();
        let (mut names, mut at) = (Vec::new(), ino);
        while at != Ino::ROOT && names.len() < DEPTH_MAX {
            let Some((dir, name)) = known.peek(&at) else {
                names.push(format!("(ino:{})", at.0));
                break;
            };
            names.push(name.escape_ascii().to_string());
            at = *dir;
        }
        names.reverse();
        names.join("/")
    }

    /// The path from the mount's root, beginning with a slash; `None` if no name of the file is
    /// known.
    pub(super) fn path_for_log(&self, ino: Ino) -> Option<String> {
        let is_known = ino == Ino::ROOT || self.known.lock().contains(&ino);
        is_known.then(|| format!("/{}", self.path(ino)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_told_as_far_as_it_is_known() {
        let names = Names::new();
        names.met(Ino(5), Ino::ROOT, b"backups");
        names.met(Ino(6), Ino(5), b"mon\nday");
        names.met(Ino(8), Ino(7), b"lost");
        assert_eq!(names.path(Ino(6)), "backups/mon\\nday");
        assert_eq!(names.path(Ino(8)), "(ino:7)/lost");
        assert_eq!(names.path(Ino(9)), "(ino:9)");
        assert_eq!(names.path_for_log(Ino(9)), None);
        let backups = names.path_for_log(Ino(5));
        assert_eq!(backups.as_deref(), Some("/backups"));
    }
}
