//! Room on the local disk: the state directory, and the directory of the disk cache.

use std::path::{Path, PathBuf};

use nix::{
    sys::statvfs::statvfs,
    unistd::{AccessFlags, access},
};

use super::{
    machine::aside,
    report::{Check, Outcome},
    sheet::Sheet,
};
use crate::{disk, session::disk_cache::DiskCacheConfig, telemetry::human_size};

/// Logs and notes of a volume are some MiB.
const STATE_BYTES_LOW: u64 = 64 << 20;
/// Not even a note can be written.
const STATE_BYTES_MIN: u64 = 1 << 20;

/// A filesystem, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Space {
    total_bytes: u64,
    free_bytes: u64,
}

/// A directory that is there, or is to be made.
#[derive(Debug)]
struct Place {
    /// The nearest directory above it that is there.
    there: PathBuf,
    is_writable: bool,
    space: Result<Space, String>,
}

/// Looks at both. Returns the bytes that a disk cache has room for, if they are known.
pub(super) async fn look(
    sheet: &Sheet<'_>,
    state_root: &Path,
    cache: &DiskCacheConfig,
) -> Option<u64> {
    let root = state_root.to_owned();
    let state = aside(move || (state_directory(&root, &place(&root)), ()));
    sheet.check(Check::StateDirectory, state).await;
    let cache = cache.clone();
    let looked = aside(move || disk_cache(&cache, &place(cache.root())));
    sheet.check(Check::DiskCache, looked).await.flatten()
}

fn place(dir: &Path) -> Place {
    let there = dir.ancestors().find(|dir| dir.is_dir());
    // Of a relative path that is not there, the present directory is above it.
    let there = there.filter(|dir| !dir.as_os_str().is_empty());
    let there = there.unwrap_or(Path::new(".")).to_owned();
    let space = statvfs(&there).map(|found| Space {
        total_bytes: found.blocks() * found.fragment_size(),
        free_bytes: found.blocks_available() * found.fragment_size(),
    });
    Place {
        is_writable: access(&there, AccessFlags::W_OK | AccessFlags::X_OK).is_ok(),
        space: space.map_err(|errno| errno.desc().to_owned()),
        there,
    }
}

fn state_directory(dir: &Path, place: &Place) -> Outcome {
    let name = dir.display();
    let another = "name another one with --state-dir or STRONGROOM_STATE_DIR";
    if !place.is_writable {
        let there = place.there.display();
        return Outcome::failure(
            format!("{name} cannot be used: {there} is not writable"),
            another,
        );
    }
    match &place.space {
        Err(why) => Outcome::failure(format!("{name} cannot be used: {why}"), another),
        Ok(space) => {
            let found = format!("{name}: {} free", human_size(space.free_bytes));
            match space.free_bytes {
                ..STATE_BYTES_MIN => Outcome::failure(found, "make room there"),
                STATE_BYTES_MIN..STATE_BYTES_LOW => {
                    Outcome::warning(found, "make room there for logs")
                }
                _ => Outcome::ok(found),
            }
        }
    }
}

/// The outcome, and the bytes that a cache has room for.
fn disk_cache(cache: &DiskCacheConfig, place: &Place) -> (Outcome, Option<u64>) {
    let name = cache.root().display();
    let elsewhere = "name a directory with --disk-cache-dir, or give --disk-cache off";
    let space = match (&place.space, place.is_writable) {
        (Ok(space), true) => space,
        (Ok(_), false) => {
            let there = place.there.display();
            let found = format!("{name} cannot be used: {there} is not writable");
            return (Outcome::warning(found, elsewhere), None);
        }
        (Err(why), _) => {
            let found = format!("{name} cannot be used: {why}");
            return (Outcome::warning(found, elsewhere), None);
        }
    };
    // As the cache itself does.
    let room_bytes = space.free_bytes.saturating_sub(space.total_bytes / 10);
    let room = human_size(room_bytes);
    let found = format!(
        "{name}: {} free, of which a cache may take {room} (a tenth of the filesystem is left)",
        human_size(space.free_bytes)
    );
    let outcome = match cache.size.bytes() {
        None => Outcome::ok(format!("off; {found}")),
        Some(_) if room_bytes < disk::SIZE_MIN_BYTES => Outcome::warning(
            format!("{found}: nothing would be kept"),
            format!("make room there, or {elsewhere}"),
        ),
        Some(bytes) if room_bytes < bytes => Outcome::warning(
            format!(
                "{found}, less than the {} that it is to have",
                human_size(bytes)
            ),
            format!("make room there, or {elsewhere}"),
        ),
        Some(_) => Outcome::ok(found),
    };
    (outcome, Some(room_bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::{disk_cache::DiskCacheSize, doctor::report::Verdict};

    const GIB: u64 = 1 << 30;

    fn here(total_bytes: u64, free_bytes: u64) -> Place {
        Place {
            there: PathBuf::from("/var"),
            is_writable: true,
            space: Ok(Space {
                total_bytes,
                free_bytes,
            }),
        }
    }

    #[test]
    fn a_directory_that_is_not_there_is_looked_for_above_and_not_made() {
        let dir = tempfile::tempdir().unwrap();
        let below = dir.path().join("a/b/c");
        let found = place(&below);
        assert_eq!(found.there, dir.path());
        assert!(found.is_writable && found.space.unwrap().total_bytes > 0);
        assert!(!dir.path().join("a").exists());
        assert_eq!(place(Path::new("no/such/place")).there, Path::new("."));
    }

    #[test]
    fn a_cache_gets_what_a_tenth_of_the_filesystem_leaves() {
        let of = |size, place: &Place| {
            let cache = DiskCacheConfig::new(size, None, Path::new("/var/lib"));
            let (outcome, room) = disk_cache(&cache, place);
            (outcome.verdict, room)
        };
        let wide = here(100 * GIB, 30 * GIB);
        let one = DiskCacheSize::Default;
        assert_eq!(of(one, &wide), (Verdict::Ok, Some(20 * GIB)));
        let much = DiskCacheSize::Bytes(21 * GIB);
        assert_eq!(of(much, &wide).0, Verdict::Warning);
        let full = here(100 * GIB, 9 * GIB);
        assert_eq!(of(one, &full), (Verdict::Warning, Some(0)));
        assert_eq!(of(DiskCacheSize::Off, &full).0, Verdict::Ok);
        let locked = Place {
            is_writable: false,
            ..here(100 * GIB, 30 * GIB)
        };
        assert_eq!(of(one, &locked), (Verdict::Warning, None));
    }

    #[test]
    fn a_state_directory_needs_a_little_room_and_the_right_to_write() {
        let of = |place: &Place| state_directory(Path::new("/var/lib/x"), place).verdict;
        assert_eq!(of(&here(GIB, GIB / 2)), Verdict::Ok);
        assert_eq!(of(&here(GIB, STATE_BYTES_LOW - 1)), Verdict::Warning);
        assert_eq!(of(&here(GIB, STATE_BYTES_MIN - 1)), Verdict::Failure);
        let locked = Place {
            is_writable: false,
            ..here(GIB, GIB / 2)
        };
        assert_eq!(of(&locked), Verdict::Failure);
    }
}
