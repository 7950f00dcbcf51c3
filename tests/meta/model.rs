//! Random operations against a model in memory, with crashes in between.

use std::{collections::BTreeMap, sync::Arc};

use proptest::{prelude::*, sample::select};
use strongroom::meta::{
    ContentCommit, ExtentSource, FileKind, Ino, Meta, MetaError, NewObject, ObjectId, RenameMode,
    Totals, XattrMode,
};

use crate::volume::{CountingStore, at, extent, new, object, open, volume};

#[derive(Clone, Debug, PartialEq, Default)]
struct Node {
    directory: bool,
    nlink: u32,
    /// Directories: name to inode.
    names: BTreeMap<String, Ino>,
    /// Files: for each byte, object number and offset there.
    bytes: Vec<Option<(ObjectId, u64)>>,
    xattrs: BTreeMap<String, Vec<u8>>,
    changed: i64,
}

#[derive(Clone, Debug, PartialEq, Default)]
struct Model {
    nodes: BTreeMap<Ino, Node>,
    objects: BTreeMap<ObjectId, u64>,
}

#[derive(Clone, Debug)]
enum Op {
    Create {
        dir: usize,
        name: usize,
        directory: bool,
    },
    Link {
        file: usize,
        dir: usize,
        name: usize,
    },
    Remove {
        dir: usize,
        name: usize,
    },
    Rename {
        from: (usize, usize),
        to: (usize, usize),
        mode: RenameMode,
    },
    Write {
        file: usize,
        parts: Vec<(u64, u64)>,
    },
    Truncate {
        file: usize,
        size: u64,
    },
    Punch {
        file: usize,
        from: u64,
        len: u64,
    },
    Xattr {
        node: usize,
        name: usize,
        value: Option<u8>,
    },
    Chmod {
        node: usize,
    },
    Flush,
    Close,
    Crash,
}

const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];

fn op() -> impl Strategy<Value = Op> {
    let place = || (0..8usize, 0..NAMES.len());
    prop_oneof![
        6 => (place(), any::<bool>()).prop_map(|((dir, name), directory)| Op::Create { dir, name, directory }),
        2 => (0..8usize, place()).prop_map(|(file, (dir, name))| Op::Link { file, dir, name }),
        4 => place().prop_map(|(dir, name)| Op::Remove { dir, name }),
        6 => (place(), place(), select(&[RenameMode::Replace, RenameMode::NoReplace, RenameMode::Exchange][..]))
            .prop_map(|(from, to, mode)| Op::Rename { from, to, mode }),
        6 => (0..8usize, prop::collection::vec((0..20u64, 1..30u64), 1..4)).prop_map(|(file, gaps)| {
            let mut at = 0;
            let parts = gaps.into_iter().map(|(gap, len)| {
                let part = (at + gap, len);
                at += gap + len;
                part
            });
            Op::Write { file, parts: parts.collect() }
        }),
        2 => (0..8usize, 0..100u64).prop_map(|(file, size)| Op::Truncate { file, size }),
        2 => (0..8usize, 0..80u64, 1..40u64).prop_map(|(file, from, len)| Op::Punch { file, from, len }),
        2 => (0..8usize, 0..NAMES.len(), any::<Option<u8>>()).prop_map(|(node, name, value)| Op::Xattr { node, name, value }),
        1 => (0..8usize).prop_map(|node| Op::Chmod { node }),
        2 => Just(Op::Flush),
        1 => Just(Op::Close),
        1 => Just(Op::Crash),
    ]
}

impl Model {
    fn nth(&self, index: usize, directory: bool) -> Option<Ino> {
        let all: Vec<_> = self
            .nodes
            .iter()
            .filter(|(_, node)| node.directory == directory && node.nlink > 0)
            .map(|(ino, _)| *ino)
            .collect();
        (!all.is_empty()).then(|| all[index % all.len()])
    }

    fn is_below(&self, dir: Ino, ancestor: Ino) -> bool {
        dir == ancestor
            || self.nodes.iter().any(|(up, node)| {
                node.directory
                    && node.names.values().any(|ino| *ino == dir)
                    && self.is_below(*up, ancestor)
            })
    }

    fn drop_link(&mut self, ino: Ino) -> bool {
        let node = self.nodes.get_mut(&ino).unwrap();
        node.nlink = if node.directory { 0 } else { node.nlink - 1 };
        if node.nlink == 0 {
            self.nodes.remove(&ino);
            return true;
        }
        false
    }

    fn live(&self) -> BTreeMap<ObjectId, u64> {
        let mut live: BTreeMap<ObjectId, u64> =
            self.objects.keys().map(|object| (*object, 0)).collect();
        for (object, _) in self
            .nodes
            .values()
            .flat_map(|node| node.bytes.iter().flatten())
        {
            *live.get_mut(object).unwrap() += 1;
        }
        live
    }

    fn totals(&self) -> Totals {
        let bytes = self
            .nodes
            .values()
            .flat_map(|node| node.bytes.iter().flatten())
            .count() as u64;
        Totals {
            inodes: self.nodes.len() as u64,
            bytes,
        }
    }
}

/// The database as a model, and what must hold in it whatever was done.
async fn read(meta: &Meta, objects: &BTreeMap<ObjectId, u64>) -> Model {
    let mut model = Model::default();
    let mut queue = vec![Ino::ROOT];
    while let Some(ino) = queue.pop() {
        let inode = meta
            .inode(ino)
            .await
            .unwrap()
            .expect("a name points to an inode");
        if model.nodes.contains_key(&ino) {
            continue;
        }
        let mut node = Node {
            directory: inode.kind == FileKind::Directory,
            nlink: inode.nlink,
            changed: inode.ctime.seconds,
            ..Node::default()
        };
        if node.directory {
            let mut subdirectories = 0;
            for entry in meta.read_dir(ino, 0, usize::MAX).await.unwrap() {
                let name = String::from_utf8(entry.name.to_vec()).unwrap();
                let dentry = meta
                    .lookup(ino, &entry.name)
                    .await
                    .unwrap()
                    .expect("what is listed is found");
                assert_eq!(
                    (dentry.ino, dentry.kind, dentry.cookie),
                    (entry.ino, entry.kind, entry.cookie)
                );
                subdirectories += u32::from(entry.kind == FileKind::Directory);
                queue.push(entry.ino);
                assert!(node.names.insert(name, entry.ino).is_none());
            }
            for name in NAMES {
                assert_eq!(
                    meta.lookup(ino, name.as_bytes()).await.unwrap().is_some(),
                    node.names.contains_key(name)
                );
            }
            assert_eq!(
                (inode.nlink, inode.entries),
                (2 + subdirectories, node.names.len() as u64)
            );
        } else {
            node.bytes = vec![None; inode.size as usize];
            let mut end = 0;
            for part in meta.extents(ino, 0..u64::MAX, usize::MAX).await.unwrap() {
                assert!(part.offset >= end && part.len > 0, "extents overlap");
                end = part.offset + part.len;
                let ExtentSource::Object { object, at } = part.source else {
                    panic!("nothing was written inline")
                };
                for byte in 0..part.len {
                    node.bytes[(part.offset + byte) as usize] = Some((object, at + byte));
                }
            }
            assert_eq!(inode.allocated, node.bytes.iter().flatten().count() as u64);
        }
        for name in meta.xattr_names(ino).await.unwrap() {
            let value = meta.xattr(ino, &name).await.unwrap().unwrap();
            node.xattrs
                .insert(String::from_utf8(name.to_vec()).unwrap(), value.to_vec());
        }
        model.nodes.insert(ino, node);
    }
    for (ino, node) in &model.nodes {
        for (name, child) in &node.names {
            let child_inode = meta.inode(*child).await.unwrap().unwrap();
            assert!(
                child_inode.kind != FileKind::Directory || child_inode.parent == *ino,
                "{name}"
            );
        }
    }
    for (object, len) in objects {
        if meta.knows_object(*object).await.unwrap() {
            model.objects.insert(*object, *len);
        }
    }
    let live = model.live();
    for (object, bytes) in &live {
        assert_eq!(
            meta.object(*object).await.unwrap().unwrap().live_bytes,
            *bytes
        );
    }
    let sparse: Vec<_> = meta.repack_candidates(None, usize::MAX).await.unwrap();
    let expected: Vec<_> = live
        .iter()
        .filter(|(object, live)| **live > 0 && **live * 2 < objects[object])
        .map(|(object, _)| *object)
        .collect();
    assert_eq!(sparse.len(), expected.len());
    for (object, members) in sparse {
        assert!(expected.contains(&object));
        for (ino, node) in &model.nodes {
            assert!(
                members.contains(ino)
                    || !node
                        .bytes
                        .iter()
                        .flatten()
                        .any(|(named, _)| *named == object),
                "members miss an inode"
            );
        }
    }
    model
}

struct Run {
    store: Arc<CountingStore>,
    meta: Meta,
    model: Model,
    /// States since the last flush; a crash may leave any of them.
    history: Vec<Model>,
    all_objects: BTreeMap<ObjectId, u64>,
    clock: i64,
    next_object: u64,
}

impl Run {
    async fn reap(&mut self, ino: Ino) {
        // A state in which the inode is an orphan looks the same from the root.
        self.meta.reap(ino).await.unwrap();
    }

    async fn step(&mut self, op: Op) {
        self.clock += 1;
        let now = at(self.clock);
        match op {
            Op::Create {
                dir,
                name,
                directory,
            } => {
                let dir = self.model.nth(dir, true).unwrap();
                let kind = if directory {
                    FileKind::Directory
                } else {
                    FileKind::File
                };
                let made = self
                    .meta
                    .create(dir, NAMES[name].as_bytes(), new(kind, self.clock))
                    .await;
                let parent = self.model.nodes.get_mut(&dir).unwrap();
                if parent.names.contains_key(NAMES[name]) {
                    assert!(matches!(made, Err(MetaError::Exists)));
                    return;
                }
                let ino = made.unwrap().ino;
                parent.names.insert(NAMES[name].into(), ino);
                parent.nlink += u32::from(directory);
                parent.changed = self.clock;
                let nlink = if directory { 2 } else { 1 };
                assert!(
                    self.model
                        .nodes
                        .insert(
                            ino,
                            Node {
                                directory,
                                nlink,
                                changed: self.clock,
                                ..Node::default()
                            }
                        )
                        .is_none()
                );
            }
            Op::Link { file, dir, name } => {
                let (Some(file), Some(dir)) =
                    (self.model.nth(file, false), self.model.nth(dir, true))
                else {
                    return;
                };
                let linked = self.meta.link(file, dir, NAMES[name].as_bytes(), now).await;
                let parent = self.model.nodes.get_mut(&dir).unwrap();
                if parent.names.contains_key(NAMES[name]) {
                    assert!(matches!(linked, Err(MetaError::Exists)));
                    return;
                }
                linked.unwrap();
                parent.names.insert(NAMES[name].into(), file);
                parent.changed = self.clock;
                let node = self.model.nodes.get_mut(&file).unwrap();
                (node.nlink, node.changed) = (node.nlink + 1, self.clock);
            }
            Op::Remove { dir, name } => {
                let dir = self.model.nth(dir, true).unwrap();
                let Some(ino) = self.model.nodes[&dir].names.get(NAMES[name]).copied() else {
                    assert!(matches!(
                        self.meta.unlink(dir, NAMES[name].as_bytes(), now).await,
                        Err(MetaError::NotFound)
                    ));
                    return;
                };
                let node = &self.model.nodes[&ino];
                let removal = if node.directory {
                    let removal = self.meta.remove_dir(dir, NAMES[name].as_bytes(), now).await;
                    if !node.names.is_empty() {
                        assert!(matches!(removal, Err(MetaError::NotEmpty)));
                        return;
                    }
                    self.model.nodes.get_mut(&dir).unwrap().nlink -= 1;
                    removal.unwrap()
                } else {
                    self.meta
                        .unlink(dir, NAMES[name].as_bytes(), now)
                        .await
                        .unwrap()
                };
                let parent = self.model.nodes.get_mut(&dir).unwrap();
                parent.names.remove(NAMES[name]);
                parent.changed = self.clock;
                self.model.nodes.get_mut(&ino).unwrap().changed = self.clock;
                let gone = self.model.drop_link(ino);
                assert_eq!((removal.ino, removal.nlink == 0), (ino, gone));
                if gone {
                    self.history.push(self.model.clone());
                    self.reap(ino).await;
                }
            }
            Op::Rename { from, to, mode } => self.rename(from, to, mode).await,
            Op::Write { file, parts } => {
                let Some(file) = self.model.nth(file, false) else {
                    return;
                };
                let len: u64 = parts.iter().map(|(_, len)| len).sum();
                let new = object(&self.meta, self.next_object, len);
                self.next_object += 1;
                self.write(file, new, parts).await;
            }
            Op::Truncate { file, size } => {
                let Some(file) = self.model.nth(file, false) else {
                    return;
                };
                let inode = self.meta.truncate(file, size, now, now).await.unwrap();
                assert_eq!(inode.size, size);
                let node = self.model.nodes.get_mut(&file).unwrap();
                node.bytes.resize(size as usize, None);
                node.changed = self.clock;
            }
            Op::Punch { file, from, len } => {
                let Some(file) = self.model.nth(file, false) else {
                    return;
                };
                self.meta
                    .punch_hole(file, from..from + len, now, now)
                    .await
                    .unwrap();
                let node = self.model.nodes.get_mut(&file).unwrap();
                node.changed = self.clock;
                node.bytes
                    .iter_mut()
                    .skip(from as usize)
                    .take(len as usize)
                    .for_each(|byte| *byte = None);
            }
            Op::Xattr { node, name, value } => {
                let Some(ino) = self.model.nth(node, node % 2 == 0) else {
                    return;
                };
                let node = self.model.nodes.get_mut(&ino).unwrap();
                match value {
                    Some(value) => {
                        self.meta
                            .set_xattr(
                                ino,
                                NAMES[name].as_bytes(),
                                &[value],
                                XattrMode::Set,
                                None,
                                now,
                            )
                            .await
                            .unwrap();
                        node.xattrs.insert(NAMES[name].into(), vec![value]);
                    }
                    None => {
                        let removed = self
                            .meta
                            .remove_xattr(ino, NAMES[name].as_bytes(), now)
                            .await;
                        assert_eq!(removed.is_ok(), node.xattrs.remove(NAMES[name]).is_some());
                        if removed.is_err() {
                            return;
                        }
                    }
                }
                node.changed = self.clock;
            }
            Op::Chmod { node } => {
                let Some(ino) = self.model.nth(node, node % 2 == 0) else {
                    return;
                };
                let changed = self.meta.update_inode(ino, |inode| {
                    inode.ctime = now;
                    Ok(())
                });
                changed.await.unwrap();
                self.model.nodes.get_mut(&ino).unwrap().changed = self.clock;
            }
            Op::Flush => {
                self.meta.flush().await.unwrap();
                self.history.clear();
            }
            Op::Close => {
                self.meta.close().await.unwrap();
                self.history.clear();
                self.reopen().await;
            }
            Op::Crash => self.reopen().await,
        }
        self.history.push(self.model.clone());
    }

    async fn write(&mut self, file: Ino, new: NewObject, parts: Vec<(u64, u64)>) {
        let node = self.model.nodes.get_mut(&file).unwrap();
        let mut extents = Vec::new();
        let mut from = 0;
        for (offset, len) in parts {
            extents.push(extent(offset, len, &new, from));
            let end = (offset + len) as usize;
            if node.bytes.len() < end {
                node.bytes.resize(end, None);
            }
            for byte in 0..len {
                node.bytes[(offset + byte) as usize] = Some((new.object, from + byte));
            }
            from += len;
        }
        node.changed = self.clock;
        let commit = ContentCommit {
            cut: None,
            ino: file,
            extents,
            size: node.bytes.len() as u64,
            mtime: None,
            ctime: Some(at(self.clock)),
            covers: 0,
        };
        self.model.objects.insert(new.object, new.plaintext_len);
        self.all_objects.insert(new.object, new.plaintext_len);
        self.meta.commit_content(&[new], &[commit]).await.unwrap();
    }

    async fn rename(&mut self, from: (usize, usize), to: (usize, usize), mode: RenameMode) {
        let (from_dir, to_dir) = (
            self.model.nth(from.0, true).unwrap(),
            self.model.nth(to.0, true).unwrap(),
        );
        let (from_name, to_name) = (NAMES[from.1], NAMES[to.1]);
        let result = self
            .meta
            .rename(
                from_dir,
                from_name.as_bytes(),
                to_dir,
                to_name.as_bytes(),
                mode,
                at(self.clock),
            )
            .await;
        let source = self.model.nodes[&from_dir].names.get(from_name).copied();
        let target = self.model.nodes[&to_dir].names.get(to_name).copied();
        let Some(source) = source else {
            assert!(matches!(result, Err(MetaError::NotFound)));
            return;
        };
        let is_directory = |ino: Ino| self.model.nodes[&ino].directory;
        let refused = match (mode, target) {
            (RenameMode::NoReplace, Some(_)) | (RenameMode::Exchange, None) => true,
            (_, Some(target)) if target == source => {
                assert!(result.unwrap().is_none());
                return;
            }
            (RenameMode::Exchange, Some(target)) => {
                (is_directory(source) && self.model.is_below(to_dir, source))
                    || (is_directory(target) && self.model.is_below(from_dir, target))
            }
            (_, target) => {
                (is_directory(source) && self.model.is_below(to_dir, source))
                    || target.is_some_and(|target| {
                        is_directory(target) != is_directory(source)
                            || !self.model.nodes[&target].names.is_empty()
                    })
            }
        };
        if refused {
            assert!(result.is_err(), "{mode:?} should be refused");
            return;
        }
        let removal = result.unwrap();
        let directory = |model: &Model, ino: Ino| u32::from(model.nodes[&ino].directory);
        let source_links = directory(&self.model, source);
        for dir in [from_dir, to_dir, source] {
            self.model.nodes.get_mut(&dir).unwrap().changed = self.clock;
        }
        if mode == RenameMode::Exchange {
            let target = target.unwrap();
            let target_links = directory(&self.model, target);
            self.model.nodes.get_mut(&target).unwrap().changed = self.clock;
            let parent = self.model.nodes.get_mut(&from_dir).unwrap();
            parent.names.insert(from_name.into(), target);
            parent.nlink = parent.nlink + target_links - source_links;
            let parent = self.model.nodes.get_mut(&to_dir).unwrap();
            parent.names.insert(to_name.into(), source);
            parent.nlink = parent.nlink + source_links - target_links;
            return;
        }
        let parent = self.model.nodes.get_mut(&from_dir).unwrap();
        parent.names.remove(from_name);
        parent.nlink -= source_links;
        let parent = self.model.nodes.get_mut(&to_dir).unwrap();
        parent.names.insert(to_name.into(), source);
        parent.nlink += source_links;
        if let Some(target) = target {
            self.model.nodes.get_mut(&to_dir).unwrap().nlink -= directory(&self.model, target);
            self.model.nodes.get_mut(&target).unwrap().changed = self.clock;
            let gone = self.model.drop_link(target);
            let removal = removal.unwrap();
            assert_eq!((removal.ino, removal.nlink == 0), (target, gone));
            if gone {
                self.history.push(self.model.clone());
                self.reap(target).await;
            }
        }
    }

    /// As after a crash: what is found is one of the states since the last flush.
    async fn reopen(&mut self) {
        self.meta = open(&self.store).await;
        for orphan in self.meta.orphans(usize::MAX).await.unwrap() {
            self.meta.reap(orphan).await.unwrap();
        }
        let mut found = read(&self.meta, &self.all_objects).await;
        assert_eq!(self.meta.totals(), found.totals());
        let position = self
            .history
            .iter()
            .rposition(|state| state.nodes == found.nodes);
        assert!(
            position.is_some() || self.history.is_empty() && found.nodes == self.model.nodes,
            "a crash left a state that never was"
        );
        std::mem::swap(&mut self.model, &mut found);
        self.meta.flush().await.unwrap();
        self.history = vec![self.model.clone()];
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, max_shrink_iters: 400, ..ProptestConfig::default() })]

    #[test]
    fn random_operations_and_crashes_leave_what_the_model_says(ops in prop::collection::vec(op(), 1..120)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let (store, meta) = volume().await;
            let model = read(&meta, &BTreeMap::new()).await;
            let mut run = Run {
                store,
                meta,
                history: vec![model.clone()],
                model,
                all_objects: BTreeMap::new(),
                clock: 100,
                next_object: 0,
            };
            for op in ops {
                run.step(op).await;
            }
            let found = read(&run.meta, &run.all_objects).await;
            assert_eq!(found.nodes, run.model.nodes);
            assert_eq!(run.meta.totals(), run.model.totals());
            assert_eq!(found.objects.keys().collect::<Vec<_>>(), run.model.objects.keys().collect::<Vec<_>>());
            run.meta.close().await.unwrap();
            run.history = vec![run.model.clone()];
            run.reopen().await;
        });
    }
}
