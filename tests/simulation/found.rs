//! A volume as somebody found it.

use std::{collections::BTreeMap, sync::Arc};

/// An inode's number.
pub type Number = u64;

/// Extended attributes of one inode.
pub type Attributes = BTreeMap<String, Arc<Vec<u8>>>;

/// A directory and a name in it.
pub type Place = (Number, String);

/// A volume as it was found after a crash.
#[derive(Debug, Default)]
pub struct Found {
    pub names: BTreeMap<Place, (Number, bool)>,
    pub contents: BTreeMap<Number, Vec<u8>>,
    /// Attributes of everything that is there, directories included, if they were looked at.
    pub attributes: BTreeMap<Number, Attributes>,
}

impl Found {
    /// The part below a directory.
    pub fn below(&self, root: Number) -> Found {
        let mut below = Found::default();
        let mut dirs = vec![root];
        while let Some(dir) = dirs.pop() {
            below.take_attributes(self, dir);
            let first = (dir, String::new());
            let entries = self.names.range(first..);
            for (place, (number, is_dir)) in entries.take_while(|(place, _)| place.0 == dir) {
                below.names.insert(place.clone(), (*number, *is_dir));
                match is_dir {
                    true => dirs.push(*number),
                    false => {
                        below.take_attributes(self, *number);
                        let bytes = self.contents[number].clone();
                        below.contents.insert(*number, bytes);
                    }
                }
            }
        }
        below
    }

    fn take_attributes(&mut self, of: &Found, number: Number) {
        let attributes = of.attributes.get(&number);
        self.attributes
            .extend(attributes.map(|attributes| (number, attributes.clone())));
    }
}
