//! Extended attributes: what a program does with them, and how they are read.

use std::{collections::BTreeMap, sync::Arc};

use nix::errno::Errno;
use strongroom::{fs::FsError, meta::Ino};

use crate::{
    client::{Client, ROOT},
    found::{Attributes, Number},
    worker::{Step, Worker, pattern},
};

const NAMES: [&str; 5] = ["user.a", "user.b", "user.c", "trusted.d", "security.e"];
/// The limit of Linux.
const VALUE_LEN_MAX: u64 = 64 << 10;

/// All of an inode's.
pub async fn read(client: &Client, number: Number) -> Result<Attributes, FsError> {
    let list = client.fs.listxattr(ROOT, Ino(number)).await?;
    let mut attributes = BTreeMap::new();
    for name in list
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
    {
        let value = client.fs.getxattr(Ino(number), name).await?;
        let name = String::from_utf8(name.to_vec()).unwrap();
        attributes.insert(name, Arc::new(value.to_vec()));
    }
    Ok(attributes)
}

impl Worker {
    /// Sets, removes or reads attributes of a file or a directory.
    pub(crate) async fn attribute(&mut self) -> Step {
        let (root, below): (Number, Vec<Number>) = {
            let model = self.model.lock();
            let below = model.names().values().filter_map(|entry| entry.number);
            (model.root, below.collect())
        };
        // The directory itself as often as all below it, so that one inode has several at times.
        let number = match self.rng.permille(500) {
            true => root,
            false => self.rng.pick(&below).copied().unwrap_or(root),
        };
        let name = *self.rng.pick(&NAMES).unwrap();
        let there = self.model.lock().attributes(number);
        self.network.count(|stats| stats.attributes += 1);
        match self.rng.below(10) {
            0..6 => self.set_attribute(number, name, &there).await,
            6..8 => self.remove_attribute(number, name, &there).await,
            _ => {
                self.did(format!("read the attributes of {number}"));
                let found = read(&self.client, number).await;
                let found = found.map_err(|error| self.failed("reading attributes", error))?;
                let shown = |attributes: &Attributes| {
                    let lens = attributes
                        .iter()
                        .map(|(name, value)| (name.clone(), value.len()));
                    lens.collect::<Vec<_>>()
                };
                assert!(
                    found == there,
                    "attributes of {number}: {:?}, not {:?}",
                    shown(&found),
                    shown(&there)
                );
                Ok(())
            }
        }
    }

    async fn set_attribute(&mut self, number: Number, name: &str, there: &Attributes) -> Step {
        let len = match self.rng.below(20) {
            0 => 0,
            1..16 => self.rng.below(200),
            16..19 => self.rng.below(6000),
            _ => self.rng.below(VALUE_LEN_MAX + 1),
        };
        let (flags, refusal) = match self.rng.below(4) {
            0 if there.contains_key(name) => (libc::XATTR_CREATE, Some(Errno::EEXIST)),
            0 => (libc::XATTR_CREATE, None),
            1 if !there.contains_key(name) => (libc::XATTR_REPLACE, Some(Errno::ENODATA)),
            1 => (libc::XATTR_REPLACE, None),
            _ => (0, None),
        };
        self.did(format!("set {name} of {number}: {len}, flags {flags}"));
        self.stamp += 1;
        let value = pattern(self.stamp, number, len);
        if refusal.is_none() {
            let value = Arc::new(value.clone());
            self.model.lock().change_attributes(number, |attributes| {
                attributes.insert(name.to_owned(), value);
            });
        }
        let fs = &self.client.fs;
        let set = fs.setxattr(ROOT, Ino(number), name.as_bytes(), &value, flags);
        self.answered("set an attribute", set.await, refusal)
    }

    async fn remove_attribute(&mut self, number: Number, name: &str, there: &Attributes) -> Step {
        self.did(format!("remove {name} of {number}"));
        let refusal = match there.contains_key(name) {
            true => None,
            false => Some(Errno::ENODATA),
        };
        if refusal.is_none() {
            self.model.lock().change_attributes(number, |attributes| {
                attributes.remove(name);
            });
        }
        let fs = &self.client.fs;
        let removed = fs.removexattr(Ino(number), name.as_bytes()).await;
        self.answered("remove an attribute", removed, refusal)
    }

    fn answered(&self, what: &str, answer: Result<(), FsError>, refusal: Option<Errno>) -> Step {
        match (answer, refusal) {
            (Ok(()), None) => Ok(()),
            (Err(error), Some(refusal)) if error.errno == refusal => Ok(()),
            (Ok(()), Some(refusal)) => panic!("{what}: no {refusal}"),
            (Err(error), _) => Err(self.failed(what, error)),
        }
    }
}
