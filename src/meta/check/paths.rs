//! The paths by which a user knows inodes.

use std::collections::{BTreeSet, HashMap};

use bytes::Bytes;

use super::{cursor::Cursor, objects::ino_of};
use crate::meta::{
    Ino, Meta, MetaError,
    schema::{self, Reader, Table},
};

/// Directories whose path is remembered while names are looked for.
const DIRECTORIES_MAX: usize = 4096;
/// Components of a path; a longer one is cut off at its front.
const DEPTH_MAX: usize = 4096;

/// Names of an inode: the directory and the name in it.
type Names = Vec<(Ino, Bytes)>;

/// The paths of an inode.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Located {
    /// All its paths, from the root, in order; none if no entry names it.
    pub paths: Vec<Bytes>,
    pub(super) names: Names,
}

impl Meta {
    /// Finds the paths of these inodes, going through all entries once. An inode that no entry
    /// names is not in the answer.
    ///
    /// # Errors
    /// The metadata cannot be read.
    pub async fn locate(&self, inos: &BTreeSet<Ino>) -> Result<HashMap<Ino, Located>, MetaError> {
        let names = self.names_of(inos).await?;
        let mut known = HashMap::new();
        let mut located: HashMap<Ino, Located> = HashMap::new();
        if inos.contains(&Ino::ROOT) {
            let paths = vec![Bytes::from_static(b"/")];
            let names = Vec::new();
            located.insert(Ino::ROOT, Located { paths, names });
        }
        for (ino, names) in names {
            let mut paths = Vec::with_capacity(names.len());
            for (dir, name) in &names {
                paths.push(self.join(*dir, name, &mut known).await?);
            }
            paths.sort();
            located.insert(ino, Located { paths, names });
        }
        Ok(located)
    }

    /// The path of one entry.
    ///
    /// # Errors
    /// The metadata cannot be read.
    pub async fn path_of_entry(&self, dir: Ino, name: &[u8]) -> Result<Bytes, MetaError> {
        self.join(dir, name, &mut HashMap::new()).await
    }

    /// The entries that name these inodes, for the writer or for a follower.
    async fn names_of(&self, inos: &BTreeSet<Ino>) -> Result<HashMap<Ino, Names>, MetaError> {
        let mut names: HashMap<Ino, Names> = HashMap::new();
        if inos.is_empty() {
            return Ok(names);
        }
        let mut entries = Cursor::open(&self.inner, Table::Dentry.all()).await?;
        while let Some((key, value)) = entries.next().await? {
            let Ok((dentry, fallback)) = schema::decode_dentry_row(&value) else {
                continue;
            };
            let named = [Some(dentry.ino), fallback.map(|fallback| fallback.ino)];
            for ino in named.into_iter().flatten() {
                if inos.contains(&ino) {
                    let name = schema::name_of_key(&key)?;
                    let dir = Ino(ino_of(&key));
                    names.entry(ino).or_default().push((dir, name));
                }
            }
        }
        Ok(names)
    }

    async fn join(
        &self,
        dir: Ino,
        name: &[u8],
        known: &mut HashMap<Ino, Bytes>,
    ) -> Result<Bytes, MetaError> {
        let mut path = self.directory_path(dir, known).await?.to_vec();
        if path.last() != Some(&b'/') {
            path.push(b'/');
        }
        path.extend_from_slice(name);
        Ok(path.into())
    }

    async fn directory_path(
        &self,
        dir: Ino,
        known: &mut HashMap<Ino, Bytes>,
    ) -> Result<Bytes, MetaError> {
        if let Some(path) = known.get(&dir) {
            return Ok(path.clone());
        }
        let mut components: Vec<Bytes> = Vec::new();
        let mut passed = BTreeSet::new();
        let mut at = dir;
        while at != Ino::ROOT && components.len() < DEPTH_MAX {
            let is_new = passed.insert(at);
            match self.name_in_parent(at).await? {
                Some((parent, name)) if is_new => {
                    components.push(name);
                    at = parent;
                }
                _ => {
                    // It hangs on nothing, or on itself. This will be its name in lost+found.
                    components.push(format!("#{}", at.0).into());
                    break;
                }
            }
        }
        let mut path = Vec::new();
        for component in components.iter().rev() {
            path.push(b'/');
            path.extend_from_slice(component);
        }
        if path.is_empty() {
            path.push(b'/');
        }
        let path = Bytes::from(path);
        if known.len() < DIRECTORIES_MAX {
            known.insert(dir, path.clone());
        }
        Ok(path)
    }

    /// The entry of a directory in its parent.
    pub(super) async fn name_in_parent(&self, dir: Ino) -> Result<Option<(Ino, Bytes)>, MetaError> {
        let value = self.inner.get(&schema::inode_key(dir)).await?;
        let inode = value.and_then(|value| schema::decode_inode(dir, &value).ok());
        let Some(parent) = inode.map(|inode| inode.parent) else {
            return Ok(None);
        };
        // A directory's own number is its cookie, unless it was renamed over another one.
        let line = self.inner.get(&schema::listing_key(parent, dir.0)).await?;
        let line =
            line.and_then(|value| schema::decode_listing(dir.0, &value, Reader::Writer).ok());
        if let Some(line) = line.filter(|line| line.ino == dir) {
            return Ok(Some((parent, line.name)));
        }
        let mut listing = Cursor::open(&self.inner, schema::listing_range(parent, 0)).await?;
        while let Some((key, value)) = listing.next().await? {
            let cookie = schema::second_of_key(&key)?;
            let line = schema::decode_listing(cookie, &value, Reader::Writer);
            if let Ok(line) = line
                && line.ino == dir
            {
                return Ok(Some((parent, line.name)));
            }
        }
        Ok(None)
    }
}
