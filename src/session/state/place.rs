//! The knowledge that this machine has of the volume at one place, in `<state-dir>/places/`.
//!
//! A place is where the user says that the volume is: endpoint, bucket and prefix. Nothing that the
//! store supplies is part of it, so a store cannot choose which knowledge it is compared with.
//!
//! A place has two files. `<place>.json` holds all of the knowledge, and is replaced whole by a
//! rename when a mount begins or ends and when a key slot changes. `<place>.state` holds one line,
//! the newest state alone, and is written over in place with each flush of the log: a rename would
//! make the filesystem write to the disk at once, and cost ten times as much. A line that was torn
//! by a loss of power does not fit its check, and then the state in the first file counts.
//!
//! Both are written under a lock, and a note never makes them older, because several mounts and
//! commands may note at once. They are not synced to the disk, so a machine that loses power may
//! forget the last notes. A process that is killed forgets nothing that was noted.

use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use nix::fcntl::{Flock, FlockArg};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::{
    form::{KnownJson, LINE_LEN, line_of, state_in_line},
    known::{Known, StateSeen},
};
use crate::{seal::keys::VolumeId, store::Store};

/// The directory of the files below the state directory.
const DIRECTORY: &str = "places";
/// Files read to find a volume that is known from another place.
const PLACES_MAX: usize = 4096;

/// The knowledge of one place.
#[derive(Clone, Debug)]
pub struct PlaceMemory {
    root: PathBuf,
    place: String,
}

impl PlaceMemory {
    /// The knowledge of the place that `store` points to. Reads and makes nothing yet.
    pub fn new(root: &Path, store: &Store) -> PlaceMemory {
        let endpoint = store.endpoint().trim_end_matches('/').to_ascii_lowercase();
        PlaceMemory {
            root: root.to_path_buf(),
            place: format!("{endpoint} {}", store.url()),
        }
    }

    /// The known state of the volume at this place. A volume that was never met here is looked for
    /// among the other places and in the notes of earlier versions: then it is known as `volume`. A
    /// file that cannot be read counts as absent.
    pub fn known(&self, volume: VolumeId) -> Option<Known> {
        if let Some(known) = read(&self.file()) {
            return Some(known);
        }
        let mut known = self.earlier_versions(volume);
        for (_, other) in self.elsewhere(volume) {
            match &mut known {
                Some(known) => known.merge(&other),
                None => known = Some(other),
            }
        }
        known
    }

    /// The place from which the volume is known, as people read it, if nothing is known of it here:
    /// of several, the one with the newest state.
    pub fn known_from(&self, volume: VolumeId) -> Option<String> {
        if read(&self.file()).is_some() {
            return None;
        }
        let newest = |(_, known): &(PathBuf, Known)| {
            let log = known.state.log.map(|head| head.number);
            (known.header_revision, known.state.generation, log)
        };
        let (file, _) = self.elsewhere(volume).max_by_key(newest)?;
        KnownJson::place(&fs::read(file).ok()?)
    }

    /// The files of all places where this volume is, and what they say.
    fn elsewhere(&self, volume: VolumeId) -> impl Iterator<Item = (PathBuf, Known)> {
        let files = fs::read_dir(self.root.join(DIRECTORY))
            .into_iter()
            .flatten();
        files
            .take(PLACES_MAX)
            .filter_map(|entry| {
                let path = entry.ok()?.path();
                let known = read(&path)?;
                Some((path, known))
            })
            .filter(move |(_, known)| known.volume == volume)
    }

    /// Notes those parts of `found` that are newer than the known ones. If another volume is known
    /// here by now, nothing is noted.
    ///
    /// # Errors
    /// The directory cannot be written.
    pub fn note(&self, found: &Known) -> io::Result<()> {
        self.write(|known| match known {
            Some(known) if known.volume != found.volume => None,
            Some(mut known) => {
                known.merge(found);
                Some(known)
            }
            None => Some(found.clone()),
        })
    }

    /// Notes `found` in place of all earlier knowledge.
    ///
    /// # Errors
    /// The directory cannot be written.
    pub fn replace(&self, found: &Known) -> io::Result<()> {
        self.write(|_| {
            // Its state is no longer wanted. If the process ends here, less is known, and nothing
            // wrong.
            let _ = fs::remove_file(self.file().with_extension("state"));
            Some(found.clone())
        })
    }

    /// Notes a newer state of the volume that is known here. It happens with each flush of the log,
    /// so it is quick.
    ///
    /// # Errors
    /// The directory cannot be written.
    pub fn note_state(&self, volume: VolumeId, found: &StateSeen) -> io::Result<()> {
        let _lock = self.lock()?;
        let path = self.file().with_extension("state");
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)?;
        let mut line = [0; LINE_LEN];
        let read = file.read_at(&mut line, 0)?;
        let mut newest = *found;
        if let Some(before) = state_in_line(line.get(..read).unwrap_or_default(), volume) {
            newest.merge(&before);
        }
        file.write_all_at(line_of(volume, &newest).as_bytes(), 0)
    }

    /// Replaces the file's contents by the result of `change`, if there is one.
    fn write(&self, change: impl FnOnce(Option<Known>) -> Option<Known>) -> io::Result<()> {
        let _lock = self.lock()?;
        let file = self.file();
        let before = read(&file);
        let Some(known) = change(before.clone()) else {
            return Ok(());
        };
        if before.as_ref() == Some(&known) {
            return Ok(());
        }
        let temporary = file.with_extension("tmp");
        OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&temporary)?
            .write_all(&KnownJson::write(&self.place, &known)?)?;
        fs::rename(&temporary, &file)
    }

    /// Holds the lock of the directory, which is made if it is not there. It is held for one read
    /// and one write.
    fn lock(&self) -> io::Result<Flock<fs::File>> {
        let directory = self.root.join(DIRECTORY);
        match lock(&directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                DirBuilder::new()
                    .recursive(true)
                    .mode(0o700)
                    .create(&directory)?;
                lock(&directory)
            }
            locked => locked,
        }
    }

    fn file(&self) -> PathBuf {
        let name = Sha256::digest(self.place.as_bytes());
        let name = data_encoding::HEXLOWER.encode(&name);
        self.root.join(DIRECTORY).join(name).with_extension("json")
    }

    /// `<volume id>/seen.json`, which versions before this one wrote.
    fn earlier_versions(&self, volume: VolumeId) -> Option<Known> {
        #[derive(Deserialize)]
        struct Seen {
            generation: u64,
            header_revision: u64,
        }
        let text = fs::read(self.root.join(volume.to_string()).join("seen.json")).ok()?;
        let seen: Seen = serde_json::from_slice(&text).ok()?;
        Some(Known {
            volume,
            header_revision: seen.header_revision,
            header_mac: None,
            state: StateSeen {
                generation: seen.generation,
                log: None,
            },
        })
    }
}

/// All places that this machine knows, as people read them, with the ids of their volumes.
pub fn places(root: &Path) -> Vec<(String, String)> {
    let files = fs::read_dir(root.join(DIRECTORY)).into_iter().flatten();
    let place = |entry: io::Result<fs::DirEntry>| {
        let path = entry.ok()?.path();
        let volume = read(&path)?.volume;
        Some((KnownJson::place(&fs::read(path).ok()?)?, volume.to_string()))
    };
    files.take(PLACES_MAX).filter_map(place).collect()
}

fn lock(directory: &Path) -> io::Result<Flock<fs::File>> {
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(directory.join("lock"))?;
    Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, errno)| errno.into())
}

fn read(file: &Path) -> Option<Known> {
    if file.extension()? != "json" {
        return None;
    }
    let text = fs::read(file).ok()?;
    let Some(mut known) = KnownJson::read(&text) else {
        tracing::warn!("{} cannot be read and is ignored", file.display());
        return None;
    };
    if let Ok(line) = fs::read(file.with_extension("state"))
        && let Some(state) = state_in_line(&line, known.volume)
    {
        known.state.merge(&state);
    }
    Some(known)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seal::object_store::LogPosition;

    const VOLUME: VolumeId = VolumeId([7; 16]);

    fn place(root: &Path, place: &str) -> PlaceMemory {
        PlaceMemory {
            root: root.to_path_buf(),
            place: place.to_owned(),
        }
    }

    fn known(generation: u64, number: u64) -> Known {
        Known {
            volume: VOLUME,
            header_revision: 2,
            header_mac: Some([1; 32]),
            state: StateSeen {
                generation,
                log: Some(LogPosition {
                    number,
                    commitment: [9; 32],
                }),
            },
        }
    }

    #[test]
    fn a_note_never_makes_what_is_known_older() {
        let root = tempfile::tempdir().expect("a directory");
        let here = place(root.path(), "here");
        assert_eq!(here.known(VOLUME), None);
        here.note(&known(9, 5)).expect("noted");
        here.note(&known(7, 6)).expect("noted");
        assert_eq!(here.known(VOLUME), Some(known(9, 6)));
        here.replace(&known(3, 1)).expect("replaced");
        assert_eq!(here.known(VOLUME), Some(known(3, 1)));
    }

    #[test]
    fn many_notes_at_once_leave_the_newest() {
        let root = tempfile::tempdir().expect("a directory");
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let here = place(root.path(), "here");
                scope.spawn(move || {
                    for generation in 0..100 {
                        let known = known(generation * 4 + thread, generation);
                        match generation % 2 {
                            0 => here.note(&known),
                            _ => here.note_state(VOLUME, &known.state),
                        }
                        .expect("noted");
                    }
                });
            }
        });
        let here = place(root.path(), "here");
        assert_eq!(here.known(VOLUME), Some(known(399, 99)));
    }

    #[test]
    fn a_state_that_was_noted_in_place_counts_until_it_is_replaced_or_torn() {
        let root = tempfile::tempdir().expect("a directory");
        let here = place(root.path(), "here");
        here.note(&known(3, 1)).expect("noted");
        let (newest, longest) = (known(9, 5), known(u64::MAX, u64::MAX));
        here.note_state(VOLUME, &newest.state).expect("noted");
        here.note_state(VOLUME, &known(4, 2).state).expect("noted");
        assert_eq!(here.known(VOLUME), Some(newest.clone()));
        assert_eq!(line_of(VOLUME, &longest.state).len(), LINE_LEN);
        let line = here.file().with_extension("state");
        let whole = fs::read(&line).expect("read");
        for torn in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[torn] ^= 1;
            fs::write(&line, &bytes).expect("written");
            let state = here.known(VOLUME).expect("known").state;
            assert!(state == known(3, 1).state || state == newest.state);
        }
        fs::write(&line, &whole).expect("written");
        here.replace(&known(2, 1)).expect("replaced");
        assert_eq!(here.known(VOLUME), Some(known(2, 1)));
        // A line of another volume says nothing.
        let other = VolumeId([8; 16]);
        here.note_state(other, &newest.state).expect("noted");
        assert_eq!(here.known(VOLUME), Some(known(2, 1)));
    }

    #[test]
    fn a_volume_is_known_from_its_place_from_another_place_and_from_an_earlier_version() {
        let root = tempfile::tempdir().expect("a directory");
        let (here, elsewhere) = (place(root.path(), "here"), place(root.path(), "elsewhere"));
        let directory = root.path().join(VOLUME.to_string());
        fs::create_dir(&directory).expect("made");
        fs::write(
            directory.join("seen.json"),
            br#"{"generation":4,"header_revision":1}"#,
        )
        .expect("written");
        let earlier = here.known(VOLUME).expect("known");
        assert_eq!((earlier.state.generation, earlier.header_revision), (4, 1));
        assert_eq!(here.known_from(VOLUME), None);
        elsewhere.note(&known(9, 5)).expect("noted");
        place(root.path(), "older")
            .note(&known(8, 4))
            .expect("noted");
        assert_eq!(here.known(VOLUME), Some(known(9, 5)));
        assert_eq!(here.known_from(VOLUME).as_deref(), Some("elsewhere"));
        assert_eq!(here.known_from(VolumeId([8; 16])), None);
        here.note(&known(2, 1)).expect("noted");
        assert_eq!(here.known(VOLUME), Some(known(2, 1)));
        assert_eq!(here.known_from(VOLUME), None);
        // The place decides, whatever id the store supplies.
        assert_eq!(here.known(VolumeId([8; 16])), Some(known(2, 1)));
        let other = Known {
            volume: VolumeId([8; 16]),
            ..known(50, 50)
        };
        here.note(&other).expect("left");
        assert_eq!(here.known(VOLUME), Some(known(2, 1)));
    }

    #[test]
    fn what_is_damaged_is_not_known() {
        let root = tempfile::tempdir().expect("a directory");
        let here = place(root.path(), "here");
        here.note(&known(9, 5)).expect("noted");
        for damage in [&b""[..], b"{", b"[]", &[0xff; 100]] {
            fs::write(here.file(), damage).expect("written");
            assert_eq!(here.known(VOLUME), None);
        }
        here.note(&known(3, 1)).expect("noted");
        assert_eq!(here.known(VOLUME), Some(known(3, 1)));
    }
}
