//! Operations carried out on the database and on the model.

use std::{collections::BTreeMap, sync::Arc};

use strongroom::meta::{
    ContentCommit, FileKind, Ino, Meta, MetaError, NewObject, ObjectId, RenameMode, XattrMode,
};

use super::{Model, NAMES, Node, Op, read};

use crate::volume::{CountingStore, at, extent, new, object, open};

pub struct Run {
    pub store: Arc<CountingStore>,
    pub meta: Meta,
    pub model: Model,
    /// States since the last flush; a crash may leave any of them.
    pub history: Vec<Model>,
    pub all_objects: BTreeMap<ObjectId, u64>,
    pub clock: i64,
    pub next_object: u64,
}

impl Run {
    async fn reap(&mut self, ino: Ino) {
        // A state in which the inode is an orphan looks the same from the root.
        self.meta.reap(ino).await.unwrap();
    }

    pub async fn step(&mut self, op: Op) {
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
            ctime: Some(at(self.clock)),
            ..ContentCommit::new(file, extents, node.bytes.len() as u64)
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

    /// Opens the volume as after a crash: the state found is one of those since the last flush.
    pub async fn reopen(&mut self) {
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
