//! Random operations against a model in memory, with crashes in between.

mod run;

use std::collections::BTreeMap;

use proptest::{prelude::*, sample::select};
use strongroom::meta::{ExtentSource, FileKind, Ino, Meta, ObjectId, RenameMode, Totals};

use run::Run;

use crate::volume::volume;

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
