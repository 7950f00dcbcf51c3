//! The states that the volume may be in: every one that it was in since the last that is known to
//! be durable.
//!
//! Names and contents are kept apart, as docs/semantics.md promises them apart. The names have one
//! order: after a crash they are as they were after one of the operations since the last sync.
//! The contents of each file are, byte by byte, some that it had since its own last sync.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    found::{Attributes, Found, Number, Place},
    versions::{Version, explained, explained_at},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// `None` while it is being made: nobody knows its number yet.
    pub number: Option<Number>,
    pub is_dir: bool,
}

/// One file took the place of another by rename. Until the contents of the new one are durable, a
/// crash may bring the old one back.
#[derive(Clone, Debug)]
struct Replacement {
    /// The operation that did it.
    operation: usize,
    old: Entry,
    /// The contents that the new one had: it may be there with these or later ones only.
    new: Number,
    version: usize,
}

#[derive(Clone, Debug, Default)]
pub struct State {
    pub names: BTreeMap<Place, Entry>,
    /// Oldest first; all of one name.
    replaced: BTreeMap<Place, Vec<Replacement>>,
    /// Attributes of the inodes that have any, or had.
    attributes: BTreeMap<Number, Attributes>,
}

impl State {
    fn check_attributes(&self, found: &Found) -> Result<(), String> {
        let none = Attributes::new();
        for (number, there) in &found.attributes {
            let expected = self.attributes.get(number).unwrap_or(&none);
            let names = expected.keys().chain(there.keys());
            for name in names {
                let (there, expected) = (there.get(name), expected.get(name));
                if there != expected {
                    let len = |value: Option<&Arc<Vec<u8>>>| value.map(|value| value.len());
                    return Err(format!(
                        "{name} of {number} has {:?} bytes, where {:?} were",
                        len(there),
                        len(expected)
                    ));
                }
            }
        }
        Ok(())
    }
}

#[derive(Clone, Debug)]
struct File {
    /// From the base on; the number of a version is its place here.
    versions: Vec<Version>,
    /// This one or a later one is durable.
    synced: usize,
}

#[derive(Clone, Debug)]
pub struct Model {
    /// The directory that all of this is in.
    pub root: Number,
    states: Vec<State>,
    synced: usize,
    files: BTreeMap<Number, File>,
    /// Operations whose replacement is final, by the number of the new file: all up to there.
    finals: BTreeMap<Number, usize>,
    /// The same for all files.
    all_final: usize,
    /// A state that a reader elsewhere may still see.
    before: Option<Before>,
}

/// The files as an earlier mount had them: one that ended, or was taken over.
#[derive(Clone, Debug)]
struct Before {
    files: BTreeMap<Number, File>,
    /// A reader of this generation of the metadata sees what the next mount found.
    until: u64,
}

/// The state that a sync reaches which begins now.
#[derive(Clone, Copy, Debug)]
pub struct SyncPoint {
    operation: usize,
    file: Option<(Number, usize)>,
}

impl Model {
    /// All that was found is durable.
    pub fn based_on(root: Number, found: Found) -> Model {
        let names = found.names.into_iter().map(|(place, (number, is_dir))| {
            let number = Some(number);
            (place, Entry { number, is_dir })
        });
        let state = State {
            names: names.collect(),
            replaced: BTreeMap::new(),
            attributes: found.attributes,
        };
        let files = found.contents.into_iter().map(|(number, bytes)| {
            let versions = vec![Version {
                bytes: Arc::new(bytes),
                anew: false,
            }];
            let synced = 0;
            (number, File { versions, synced })
        });
        Model {
            root,
            states: vec![state],
            synced: 0,
            files: files.collect(),
            finals: BTreeMap::new(),
            all_final: 0,
            before: None,
        }
    }

    /// A mount has found this, and goes on from there. It began with this generation of the
    /// metadata.
    pub fn goes_on(&mut self, found: Found, generation: u64) {
        let after = Model::based_on(self.root, found);
        let files = std::mem::replace(self, after).files;
        self.before = Some(Before {
            files,
            until: generation,
        });
    }

    pub fn now(&self) -> &State {
        self.states.last().unwrap()
    }

    pub fn names(&self) -> &BTreeMap<Place, Entry> {
        &self.now().names
    }

    pub fn entry(&self, place: &Place) -> Option<Entry> {
        self.names().get(place).copied()
    }

    /// A change of names is about to be made. It may have happened from now on.
    pub fn change_names(&mut self, change: impl FnOnce(&mut State)) {
        let mut state = self.now().clone();
        change(&mut state);
        self.states.push(state);
    }

    /// The number of what was made last is known.
    pub fn made(&mut self, place: &Place, number: Number) {
        let entry = self.states.last_mut().unwrap().names.get_mut(place);
        let entry = entry.unwrap();
        entry.number = Some(number);
        if !entry.is_dir {
            let versions = vec![Version {
                bytes: Arc::default(),
                anew: false,
            }];
            self.files.insert(
                number,
                File {
                    versions,
                    synced: 0,
                },
            );
        }
    }

    /// Rename, over another file where there is one.
    pub fn rename(&mut self, from: &Place, to: &Place) {
        let operation = self.states.len();
        let versions = |number: Option<Number>| {
            let file = number.and_then(|number| self.files.get(&number));
            file.map_or(0, |file| file.versions.len() - 1)
        };
        let entry = self.names()[from];
        let (version, old) = (versions(entry.number), self.entry(to));
        self.change_names(|state| {
            state.names.remove(from);
            state.replaced.remove(from);
            state.names.insert(to.clone(), entry);
            let (Some(old), Some(new)) = (old, entry.number) else {
                return;
            };
            if old.is_dir {
                return;
            }
            let replacement = Replacement {
                operation,
                old,
                new,
                version,
            };
            state
                .replaced
                .entry(to.clone())
                .or_default()
                .push(replacement);
        });
    }

    /// Both names change their files.
    pub fn exchange(&mut self, one: &Place, other: &Place) {
        let (first, second) = (self.names()[one], self.names()[other]);
        self.change_names(|state| {
            for place in [one, other] {
                state.replaced.remove(place);
            }
            state.names.insert(one.clone(), second);
            state.names.insert(other.clone(), first);
        });
    }

    pub fn unlink(&mut self, place: &Place) {
        self.change_names(|state| {
            state.names.remove(place);
            state.replaced.remove(place);
        });
    }

    pub fn attributes(&self, number: Number) -> Attributes {
        let attributes = self.now().attributes.get(&number);
        attributes.cloned().unwrap_or_default()
    }

    /// They have one order with the names.
    pub fn change_attributes(&mut self, number: Number, change: impl FnOnce(&mut Attributes)) {
        self.change_names(|state| change(state.attributes.entry(number).or_default()));
    }

    /// The contents of the file now.
    pub fn bytes(&self, number: Number) -> Arc<Vec<u8>> {
        let file = &self.files[&number];
        Arc::clone(&file.versions.last().unwrap().bytes)
    }

    /// Its contents are about to be changed.
    pub fn change_bytes(&mut self, number: Number, anew: bool, change: impl FnOnce(&mut Vec<u8>)) {
        let file = self.files.get_mut(&number).unwrap();
        let mut bytes = file.versions.last().unwrap().bytes.as_ref().clone();
        change(&mut bytes);
        file.versions.push(Version {
            bytes: Arc::new(bytes),
            anew,
        });
    }

    /// A sync of a file, or of all names, begins.
    pub fn sync_begins(&self, file: Option<Number>) -> SyncPoint {
        let version = |number| self.files[&number].versions.len() - 1;
        SyncPoint {
            operation: self.states.len() - 1,
            file: file.map(|number| (number, version(number))),
        }
    }

    /// It returned, and without an error.
    pub fn synced(&mut self, point: SyncPoint) {
        self.synced = self.synced.max(point.operation);
        match point.file {
            Some((number, version)) => {
                let file = self.files.get_mut(&number).unwrap();
                file.synced = file.synced.max(version);
                let last = self.finals.entry(number).or_default();
                *last = (*last).max(point.operation);
            }
            None => self.all_final = self.all_final.max(point.operation),
        }
    }

    /// Everything is durable.
    pub fn all_synced(&mut self) {
        self.synced = self.states.len() - 1;
        self.all_final = self.synced;
        for file in self.files.values_mut() {
            file.synced = file.versions.len() - 1;
        }
    }

    /// Whether what was found after a crash may be there.
    pub fn check(&self, found: &Found) -> Result<(), String> {
        let mut whys = Vec::new();
        for index in (self.synced..self.states.len()).rev() {
            let checked = self.check_names(index, found);
            match checked.and_then(|floors| self.check_contents(found, &floors)) {
                Ok(()) => return Ok(()),
                Err(why) => whys.push(format!("after operation {index}: {why}")),
            }
        }
        whys.truncate(12);
        Err(format!(
            "what was found is none of the {} states that it could be:\n{}",
            self.states.len() - self.synced,
            whys.join("\n")
        ))
    }

    /// The names are those of one state. Says which versions of files are the least, then.
    fn check_names(&self, index: usize, found: &Found) -> Result<BTreeMap<Number, usize>, String> {
        let state = &self.states[index];
        let mut floors: BTreeMap<Number, usize> = BTreeMap::new();
        for (place, there) in &found.names {
            let Some(entry) = state.names.get(place) else {
                return Err(format!("{place:?} is there: {there:?}"));
            };
            let mut replaced = state.replaced.get(place).map_or(&[][..], Vec::as_slice);
            let mut entry = *entry;
            loop {
                let last = replaced.split_last();
                if self.is(entry, *there) {
                    if let Some((last, _)) = last {
                        let floor = floors.entry(last.new).or_default();
                        *floor = (*floor).max(last.version);
                    }
                    break;
                }
                match last {
                    Some((last, before)) if !self.is_final(last) => {
                        (entry, replaced) = (last.old, before);
                    }
                    _ => return Err(format!("{place:?} is {there:?} where {entry:?} was")),
                }
            }
        }
        match state
            .names
            .keys()
            .find(|place| !found.names.contains_key(*place))
        {
            Some(missing) => Err(format!("{missing:?} is missing")),
            None => state.check_attributes(found).map(|()| floors),
        }
    }

    fn is(&self, entry: Entry, (number, is_dir): (Number, bool)) -> bool {
        let is_number = match entry.number {
            Some(known) => known == number,
            None => !self.files.contains_key(&number),
        };
        is_number && entry.is_dir == is_dir
    }

    fn is_final(&self, replacement: &Replacement) -> bool {
        let last = self.finals.get(&replacement.new).copied().unwrap_or(0);
        replacement.operation <= last.max(self.all_final)
    }

    fn check_contents(
        &self,
        found: &Found,
        floors: &BTreeMap<Number, usize>,
    ) -> Result<(), String> {
        for (number, bytes) in &found.contents {
            let Some(file) = self.files.get(number) else {
                if !bytes.is_empty() {
                    return Err(format!("file {number} was just made and is not empty"));
                }
                continue;
            };
            let from = file.synced.max(floors.get(number).copied().unwrap_or(0));
            explained(bytes, &file.versions[from..]).map_err(|why| {
                let of = file.versions.len() - 1;
                format!("file {number}, versions {from} to {of}: {why}")
            })?;
        }
        Ok(())
    }

    /// Whether a reader elsewhere that sees this generation of the metadata, or a later one, may
    /// see this of the file: any version since the base, or what was before while it lags behind.
    pub fn may_be_seen(&self, number: Number, bytes: &[u8], generation: u64) -> Result<(), String> {
        self.seen(number, generation, |versions| explained(bytes, versions))
    }

    /// The same of a part of the file, from byte `from` on.
    pub fn may_be_seen_at(
        &self,
        number: Number,
        from: usize,
        bytes: &[u8],
        generation: u64,
    ) -> Result<(), String> {
        self.seen(number, generation, |versions| {
            explained_at(bytes, from, versions)
        })
    }

    fn seen(
        &self,
        number: Number,
        generation: u64,
        explained: impl Fn(&[Version]) -> Result<(), String>,
    ) -> Result<(), String> {
        let seen_in = |files: &BTreeMap<Number, File>| match files.get(&number) {
            Some(file) => explained(&file.versions),
            None => Err(format!("nobody made file {number}")),
        };
        let now = seen_in(&self.files);
        match &self.before {
            Some(before) if now.is_err() && generation < before.until => seen_in(&before.files)
                .map_err(|why| format!("{why}, before generation {}", before.until)),
            _ => now,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: Number = 1;
    const FILE: Number = 17;

    fn found(file: Number, bytes: &[u8]) -> Found {
        Found {
            names: BTreeMap::from([((ROOT, "a".to_owned()), (file, false))]),
            contents: BTreeMap::from([(file, bytes.to_vec())]),
            ..Found::default()
        }
    }

    #[test]
    fn only_a_reader_that_lags_may_be_with_what_an_earlier_mount_had() {
        let mut model = Model::based_on(ROOT, found(FILE, b"old"));
        model.change_bytes(FILE, false, |bytes| *bytes = b"older".to_vec());
        model.goes_on(found(FILE, b"as found"), 100);
        model.change_bytes(FILE, false, |bytes| *bytes = b"as written".to_vec());
        for before in [&b"old"[..], b"older"] {
            assert_eq!(model.may_be_seen(FILE, before, 99), Ok(()));
            assert!(model.may_be_seen(FILE, before, 100).is_err());
        }
        for now in [&b"as found"[..], b"as written"] {
            assert_eq!(model.may_be_seen(FILE, now, 99), Ok(()));
            assert_eq!(model.may_be_seen(FILE, now, 100), Ok(()));
        }
        for never in [&b"new"[..], b"old found", b""] {
            assert!(model.may_be_seen(FILE, never, 99).is_err());
        }
    }

    #[test]
    fn a_file_that_was_replaced_is_seen_by_who_lags_only() {
        let mut model = Model::based_on(ROOT, found(FILE, b"old"));
        model.goes_on(found(FILE + 1, b"new"), 100);
        assert_eq!(model.may_be_seen(FILE, b"old", 99), Ok(()));
        assert!(model.may_be_seen(FILE, b"old", 100).is_err());
        assert!(model.may_be_seen(FILE, b"new", 99).is_err());
        assert!(model.may_be_seen(FILE + 2, b"", 99).is_err());
    }
}
