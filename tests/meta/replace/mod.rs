//! Renaming over a file whose replacement is not committed: whoever reads what is durable finds the
//! old contents or the new ones, whole, at whatever batch the mount dies.

mod cases;

use std::{collections::BTreeMap, slice::from_ref, sync::Arc, time::Duration};

use proptest::{prelude::*, sample::select};
use strongroom::meta::{
    ContentCommit, Dentry, Ino, Meta, MetaError, RenameMode, RenameSource, Totals,
};
use tokio::time::timeout;

use crate::volume::{
    CountingStore, at, directory, extent, file, follow, get, object, open, volume,
};

type Place = (Ino, &'static str);

const NAMES: [&str; 4] = ["a", "b", "c", "d"];

/// A file. The bytes after its n-th change are n bytes, so the size says which changes are
/// committed.
#[derive(Clone, Debug, Default)]
struct File {
    change: u64,
    committed: u64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Entry {
    ino: Ino,
    /// The inode it falls back to until this change of the file is committed.
    fallback: Option<(Ino, u64)>,
}

#[derive(Clone, Debug, Default)]
struct Model {
    files: BTreeMap<Ino, File>,
    entries: BTreeMap<Place, Entry>,
}

impl Model {
    /// The state after a crash if everything that was done is durable.
    fn after_crash(&self) -> Model {
        let entries: BTreeMap<Place, Entry> = self
            .entries
            .iter()
            .map(|(place, entry)| {
                let ino = entry.fallback.map_or(entry.ino, |(old, _)| old);
                let fallback = None;
                (*place, Entry { ino, fallback })
            })
            .collect();
        let mut files = self.files.clone();
        files.retain(|ino, file| {
            file.change = file.committed;
            entries.values().any(|entry| entry.ino == *ino)
        });
        Model { files, entries }
    }

    fn links(&self, ino: Ino) -> u32 {
        self.entries
            .values()
            .filter(|entry| entry.ino == ino)
            .count() as u32
    }

    fn is_pinned(&self, ino: Ino) -> bool {
        self.entries
            .values()
            .any(|entry| entry.fallback.is_some_and(|(old, _)| old == ino))
    }

    fn uncommitted(&self, ino: Ino) -> Option<u64> {
        let file = &self.files[&ino];
        (file.committed < file.change).then_some(file.change)
    }
}

/// The names of both directories hold what the model says, and nothing else is there.
async fn check(meta: &Meta, dirs: [Ino; 2], model: &Model, what: &str) {
    for dir in dirs {
        let listed = meta.read_dir(dir, 0, usize::MAX).await.unwrap();
        for name in NAMES {
            let expected = model.entries.get(&(dir, name)).map(|entry| entry.ino);
            let found = meta.lookup(dir, name.as_bytes()).await.unwrap();
            assert_eq!(
                found.map(|dentry| dentry.ino),
                expected,
                "{what}: {name} in {dir:?}"
            );
            let listed = listed.iter().find(|entry| entry.name == name.as_bytes());
            assert_eq!(
                listed.map(|entry| Dentry {
                    ino: entry.ino,
                    kind: entry.kind,
                    cookie: entry.cookie
                }),
                found,
                "{what}: {name} is listed as it is found"
            );
        }
        let here = model.entries.keys().filter(|(in_dir, _)| *in_dir == dir);
        let subdirectories = usize::from(dir == Ino::ROOT);
        assert_eq!(
            get(meta, dir).await.entries as usize,
            here.count() + subdirectories,
            "{what}"
        );
    }
}

async fn check_files(meta: &Meta, model: &Model, what: &str) {
    for (ino, file) in &model.files {
        let inode = get(meta, *ino).await;
        assert_eq!(inode.size, file.committed, "{what}: size of {ino:?}");
        assert_eq!(inode.nlink, model.links(*ino), "{what}: links of {ino:?}");
    }
    let totals = Totals {
        inodes: model.files.len() as u64 + 2,
        bytes: model.files.values().map(|file| file.committed).sum(),
    };
    assert_eq!(meta.totals(), totals, "{what}");
}

struct Run {
    store: Arc<CountingStore>,
    meta: Meta,
    dirs: [Ino; 2],
    model: Model,
    next_object: u64,
    clock: i64,
}

#[derive(Clone, Debug)]
enum Op {
    Create(usize),
    Link(usize, usize),
    Unlink(usize),
    Rename(usize, usize, RenameMode),
    Change(usize),
    Commit { file: usize, back: u64 },
    Crash,
}

fn op() -> impl Strategy<Value = Op> {
    let place = || 0..2 * NAMES.len();
    let modes = &[
        RenameMode::Replace,
        RenameMode::Replace,
        RenameMode::Replace,
        RenameMode::Exchange,
        RenameMode::NoReplace,
    ][..];
    prop_oneof![
        3 => place().prop_map(Op::Create),
        1 => (place(), place()).prop_map(|(from, to)| Op::Link(from, to)),
        1 => place().prop_map(Op::Unlink),
        8 => (place(), place(), select(modes)).prop_map(|(from, to, mode)| Op::Rename(from, to, mode)),
        6 => place().prop_map(Op::Change),
        4 => (place(), 0..2u64).prop_map(|(file, back)| Op::Commit { file, back }),
        1 => Just(Op::Crash),
    ]
}

impl Run {
    async fn start() -> Run {
        let (store, meta) = volume().await;
        let dir = directory(&meta, Ino::ROOT, "dir").await.ino;
        Run {
            store,
            meta,
            dirs: [Ino::ROOT, dir],
            model: Model::default(),
            next_object: 0,
            clock: 100,
        }
    }

    fn place(&self, index: usize) -> Place {
        (self.dirs[index / NAMES.len()], NAMES[index % NAMES.len()])
    }

    /// The file of a place, or else of any.
    fn file(&self, index: usize) -> Option<Ino> {
        let there = self.model.entries.get(&self.place(index));
        there
            .or(self.model.entries.values().next())
            .map(|entry| entry.ino)
    }

    async fn commit(&mut self, ino: Ino, covers: u64) {
        let whole = object(&self.meta, self.next_object, covers.max(1));
        self.next_object += 1;
        let extents = match covers {
            0 => Vec::new(),
            len => vec![extent(0, len, &whole, 0)],
        };
        let part = ContentCommit {
            covers,
            ..ContentCommit::new(ino, extents, covers)
        };
        self.meta
            .commit_content(from_ref(&whole), &[part])
            .await
            .unwrap();
        self.model.files.get_mut(&ino).unwrap().committed = covers;
        for entry in self.model.entries.values_mut() {
            if entry.ino == ino && entry.fallback.is_some_and(|(_, change)| change <= covers) {
                entry.fallback = None;
            }
        }
    }

    /// Deletes what nobody has a name for: nothing is open. What is pinned must stay.
    async fn reap_orphans(&mut self) {
        let files: Vec<Ino> = self.model.files.keys().copied().collect();
        for ino in files {
            if self.model.links(ino) > 0 {
                continue;
            }
            self.meta.reap(ino).await.unwrap();
            if self.model.is_pinned(ino) {
                assert!(self.meta.inode(ino).await.unwrap().is_some(), "{ino:?}");
                continue;
            }
            self.model.files.remove(&ino);
            let gone = async {
                while self.meta.inode(ino).await.unwrap().is_some() {
                    tokio::task::yield_now().await;
                }
            };
            timeout(Duration::from_secs(10), gone)
                .await
                .expect("what was replaced is deleted");
        }
    }

    async fn rename(&mut self, from: Place, to: Place, mode: RenameMode) {
        loop {
            let (Some(source), target) = (
                self.model.entries.get(&from).copied(),
                self.model.entries.get(&to).copied(),
            ) else {
                return;
            };
            if mode == RenameMode::Exchange {
                for entry in [Some(source), target].into_iter().flatten() {
                    if let Some(change) = self.model.uncommitted(entry.ino) {
                        self.commit(entry.ino, change).await;
                    }
                }
                self.exchange(from, to).await;
                return;
            }
            let uncommitted = self.model.uncommitted(source.ino);
            let renamed = self
                .meta
                .rename_source(
                    RenameSource {
                        ino: source.ino,
                        uncommitted,
                    },
                    (from.0, from.1.as_bytes()),
                    (to.0, to.1.as_bytes()),
                    mode,
                    at(self.clock),
                )
                .await;
            if mode == RenameMode::NoReplace && target.is_some() {
                assert!(matches!(renamed, Err(MetaError::Exists)));
                return;
            }
            if target.is_some_and(|target| target.ino == source.ino) {
                assert!(renamed.unwrap().is_none());
                return;
            }
            if source.fallback.is_some() {
                assert!(matches!(renamed, Err(MetaError::Uncommitted(ino)) if ino == source.ino));
                self.commit(source.ino, uncommitted.unwrap()).await;
                continue;
            }
            renamed.unwrap();
            self.model.entries.remove(&from);
            let fallback = target.zip(uncommitted).and_then(|(target, change)| {
                let old = target.fallback.map_or(target.ino, |(old, _)| old);
                (old != source.ino).then_some((old, change))
            });
            let ino = source.ino;
            self.model.entries.insert(to, Entry { ino, fallback });
            return;
        }
    }

    async fn exchange(&mut self, from: Place, to: Place) {
        let exchanged = self
            .meta
            .rename(
                from.0,
                from.1.as_bytes(),
                to.0,
                to.1.as_bytes(),
                RenameMode::Exchange,
                at(self.clock),
            )
            .await;
        let (source, Some(target)) = (self.model.entries[&from], self.model.entries.get(&to))
        else {
            assert!(matches!(exchanged, Err(MetaError::NotFound)));
            return;
        };
        exchanged.unwrap();
        let target = *target;
        self.model.entries.insert(to, source);
        self.model.entries.insert(from, target);
    }

    async fn step(&mut self, op: Op) {
        self.clock += 1;
        match op {
            Op::Create(place) => {
                let place = self.place(place);
                if self.model.entries.contains_key(&place) {
                    return;
                }
                let ino = file(&self.meta, place.0, place.1).await.ino;
                self.model.files.insert(ino, File::default());
                let fallback = None;
                self.model.entries.insert(place, Entry { ino, fallback });
            }
            Op::Link(from, to) => {
                let (from, to) = (self.place(from), self.place(to));
                let Some(entry) = self.model.entries.get(&from).copied() else {
                    return;
                };
                if self.model.entries.contains_key(&to) {
                    return;
                }
                self.meta
                    .link(entry.ino, to.0, to.1.as_bytes(), at(self.clock))
                    .await
                    .unwrap();
                let fallback = None;
                self.model.entries.insert(to, Entry { fallback, ..entry });
            }
            Op::Unlink(place) => {
                let place = self.place(place);
                if self.model.entries.remove(&place).is_some() {
                    self.meta
                        .unlink(place.0, place.1.as_bytes(), at(self.clock))
                        .await
                        .unwrap();
                }
            }
            Op::Rename(from, to, mode) => {
                self.rename(self.place(from), self.place(to), mode).await;
            }
            Op::Change(place) => {
                if let Some(ino) = self.file(place) {
                    self.model.files.get_mut(&ino).unwrap().change += 1;
                }
                return;
            }
            Op::Commit { file, back } => {
                if let Some(ino) = self.file(file) {
                    let file = &self.model.files[&ino];
                    let covers = file.change.saturating_sub(back).max(file.committed);
                    self.commit(ino, covers).await;
                }
            }
            Op::Crash => {
                self.meta.flush().await.unwrap();
                self.model = self.model.after_crash();
                self.meta = open(&self.store).await;
                reap_orphans(&self.meta).await;
                self.next_object = 0;
            }
        }
        self.reap_orphans().await;
        self.meta.flush().await.unwrap();
        check(&self.meta, self.dirs, &self.model, "the mount that writes").await;
        check_files(&self.meta, &self.model, "the mount that writes").await;
        let left = self.model.after_crash();
        let fork = self.store.fork().await;
        let follower = follow(&fork).await;
        check(&follower, self.dirs, &left, "a follower").await;
        for ino in left.files.keys() {
            assert_eq!(
                get(&follower, *ino).await.size,
                left.files[ino].committed,
                "a follower reads what the name falls back to"
            );
        }
        follower.close().await.unwrap();
        // Twice: the mount after the crash may crash as well.
        for what in ["after a crash", "after a second crash"] {
            let meta = open(&fork).await;
            check(&meta, self.dirs, &left, what).await;
            if what == "after a second crash" {
                reap_orphans(&meta).await;
                check_files(&meta, &left, what).await;
            }
        }
    }
}

async fn reap_orphans(meta: &Meta) {
    for orphan in meta.orphans(usize::MAX).await.unwrap() {
        meta.reap(orphan).await.unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, max_shrink_iters: 60, ..ProptestConfig::default() })]

    #[test]
    fn a_name_keeps_its_last_whole_contents_whatever_batch_the_mount_dies_at(
        ops in prop::collection::vec(op(), 1..40)
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let mut run = Run::start().await;
            for op in ops {
                run.step(op).await;
            }
        });
    }
}
