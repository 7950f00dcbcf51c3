//! A load of metadata: entries of all kinds come, move and go. After a crash the tree is as it was
//! after one of the changes since the last sync, as a whole.
//!
//! Beside it, bursts of small files that are written, read and removed again, and of which nothing
//! is promised.

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    path::Path,
    time::Duration,
};

use super::{Worker, sync_dir};
use crate::{
    stage::{Place, Stopped},
    support::random::{Random, noise},
};

const STEPS: u64 = 60;
const ENTRIES_MAX: usize = 400;
const BURST: u64 = 60;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Node {
    Dir,
    /// Files of one number are hard links to each other.
    File(u64),
    Link(String),
}

/// By path below the root, parents before what is in them.
type Tree = BTreeMap<String, Node>;

#[derive(Clone, Debug)]
enum Change {
    Make(String, Node),
    Rename(String, String),
    Remove(String),
}

impl Change {
    fn apply(&self, tree: &mut Tree) {
        match self {
            Change::Make(path, node) => {
                tree.insert(path.clone(), node.clone());
            }
            Change::Remove(path) => {
                tree.remove(path);
            }
            Change::Rename(from, to) => {
                let below = format!("{from}/");
                let moved: Vec<String> = tree
                    .keys()
                    .filter(|path| *path == from || path.starts_with(&below))
                    .cloned()
                    .collect();
                for path in moved {
                    let node = tree.remove(&path).expect("listed");
                    tree.insert(format!("{to}{}", &path[from.len()..]), node);
                }
            }
        }
    }

    fn perform(&self, root: &Path, tree: &Tree) -> io::Result<()> {
        match self {
            Change::Make(path, Node::Dir) => fs::create_dir(root.join(path)),
            Change::Make(path, Node::Link(target)) => symlink(target, root.join(path)),
            Change::Make(path, Node::File(number)) => {
                let other = tree.iter().find(|(_, node)| **node == Node::File(*number));
                match other {
                    Some((other, _)) => fs::hard_link(root.join(other), root.join(path)),
                    None => fs::File::create_new(root.join(path)).map(|_| ()),
                }
            }
            Change::Rename(from, to) => fs::rename(root.join(from), root.join(to)),
            Change::Remove(path) if tree.get(path) == Some(&Node::Dir) => {
                fs::remove_dir(root.join(path))
            }
            Change::Remove(path) => fs::remove_file(root.join(path)),
        }
    }
}

pub struct Names {
    random: Random,
    /// The tree after all changes.
    tree: Tree,
    /// The tree at the last sync.
    kept: Tree,
    /// Since then, the last of them perhaps not.
    changes: Vec<Change>,
    number: u64,
}

impl Names {
    pub fn new(random: Random) -> Names {
        Names {
            random,
            tree: Tree::new(),
            kept: Tree::new(),
            changes: Vec::new(),
            number: 0,
        }
    }

    fn next_change(&mut self) -> Change {
        self.number += 1;
        let dirs: Vec<&str> = std::iter::once("")
            .chain(
                self.tree
                    .iter()
                    .filter(|(path, node)| **node == Node::Dir && path.matches('/').count() < 3)
                    .map(|(path, _)| path.as_str()),
            )
            .collect();
        let dir = *self.random.pick(&dirs);
        let name = match dir {
            "" => format!("n{}", self.number),
            dir => format!("{dir}/n{}", self.number),
        };
        let all: Vec<&String> = self.tree.keys().collect();
        let some = match all.is_empty() {
            true => return Change::Make(name, Node::Dir),
            false => (*self.random.pick(&all)).clone(),
        };
        let below = format!("{some}/");
        let is_empty = !all.iter().any(|path| path.starts_with(&below));
        let full = all.len() > ENTRIES_MAX;
        match self.random.below(if full { 20 } else { 10 }) {
            0 => Change::Make(name, Node::Dir),
            1..4 => Change::Make(name, Node::File(self.number)),
            4 => Change::Make(name, Node::Link(format!("../{some}"))),
            5 => match self.tree[&some] {
                Node::File(number) => Change::Make(name, Node::File(number)),
                _ => Change::Make(name, Node::File(self.number)),
            },
            // Not below itself.
            6..8 if !name.starts_with(&below) => Change::Rename(some, name),
            _ if is_empty => Change::Remove(some),
            _ => Change::Make(name, Node::File(self.number)),
        }
    }

    fn step(&mut self, root: &Path) -> io::Result<()> {
        let change = self.next_change();
        self.changes.push(change.clone());
        change.perform(root, &self.tree)?;
        change.apply(&mut self.tree);
        if let Change::Make(path, Node::File(_)) = &change {
            let mode = fs::Permissions::from_mode(0o600 + (self.number % 64) as u32);
            fs::set_permissions(root.join(path), mode)?;
        }
        Ok(())
    }

    fn burst(&mut self, dir: &Path) -> io::Result<()> {
        fs::create_dir_all(dir)?;
        let first = self.random.next();
        let contents = |number: u64| noise(first ^ number, 100 + (number * 97 % 4000) as usize);
        for number in 0..BURST {
            fs::write(dir.join(format!("b{number}")), contents(number))?;
        }
        for number in 0..BURST {
            if fs::read(dir.join(format!("b{number}")))? != contents(number) {
                return Err(io::Error::other(format!("b{number} differs")));
            }
        }
        fs::remove_dir_all(dir)
    }

    /// One of the states since the last sync is the one that was found.
    fn settle(&mut self, found: Tree) -> Result<(), String> {
        let mut state = self.kept.clone();
        let mut fits = canonical(&state) == found;
        for change in &self.changes {
            if fits {
                break;
            }
            change.apply(&mut state);
            fits = canonical(&state) == found;
        }
        if !fits {
            return Err(self.difference(&found));
        }
        (self.kept, self.tree) = (state.clone(), state);
        self.changes.clear();
        Ok(())
    }

    fn difference(&self, found: &Tree) -> String {
        let kept = canonical(&self.kept);
        let gone = kept
            .iter()
            .filter(|(path, node)| found.get(*path) != Some(node));
        let new = found
            .iter()
            .filter(|(path, node)| kept.get(*path) != Some(node));
        format!(
            "the tree is as it never was since the last sync: of that, {:?} are not there, and {:?} are; since then {:?}",
            gone.take(20).collect::<Vec<_>>(),
            new.take(20).collect::<Vec<_>>(),
            self.changes
        )
    }
}

/// Hard links numbered by the first path of each, as a walk finds them.
fn canonical(tree: &Tree) -> Tree {
    let mut first = BTreeMap::new();
    let number = |(index, (path, node)): (usize, (&String, &Node))| {
        let node = match node {
            Node::File(number) => Node::File(*first.entry(*number).or_insert(index as u64)),
            node => node.clone(),
        };
        (path.clone(), node)
    };
    tree.iter().enumerate().map(number).collect()
}

fn walk(root: &Path) -> io::Result<Tree> {
    let mut tree = Tree::new();
    for entry in walkdir::WalkDir::new(root).min_depth(1) {
        let entry = entry?;
        let path = entry.path().strip_prefix(root).expect("below");
        let kind = entry.file_type();
        let node = match () {
            () if kind.is_dir() => Node::Dir,
            () if kind.is_symlink() => {
                Node::Link(fs::read_link(entry.path())?.to_string_lossy().into_owned())
            }
            () => Node::File(fs::symlink_metadata(entry.path())?.ino()),
        };
        tree.insert(path.to_string_lossy().into_owned(), node);
    }
    Ok(canonical(&tree))
}

impl Worker for Names {
    fn name(&self) -> &'static str {
        "names"
    }

    fn look(&mut self, at: &Place<'_>) -> Result<(), Stopped> {
        let root = at.life.dir.join("names");
        at.io("mkdir", fs::create_dir_all(&root))?;
        match fs::remove_dir_all(at.life.dir.join("burst")) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            result => at.io("burst", result)?,
        }
        let found = at.io("walk", walk(&root))?;
        let wrong = |text| Stopped::Wrong(format!("mount {}: {text}", at.life.number));
        self.settle(found).map_err(wrong)
    }

    fn round(&mut self, at: &Place<'_>) -> Result<(), Stopped> {
        let root = at.life.dir.join("names");
        let steps = self.random.between(STEPS / 2, STEPS);
        for _ in 0..steps {
            if at.is_wanted_back() {
                return Ok(());
            }
            let step = self.step(&root);
            at.io("names", step)?;
        }
        at.io("sync of the directory", sync_dir(&root))?;
        self.kept.clone_from(&self.tree);
        self.changes.clear();
        let burst = self.burst(&at.life.dir.join("burst"));
        at.io("burst", burst)
    }

    fn pause(&self) -> Duration {
        Duration::from_millis(700)
    }
}
