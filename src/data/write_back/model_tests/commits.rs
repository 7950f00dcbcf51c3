//! Commits and syncs.

use std::collections::HashSet;

use super::world::{Place, World};
use crate::meta::{Extent, ExtentSource};

impl World {
    pub(super) fn commit(&mut self, index: usize) {
        self.commit_part(index);
        self.bury();
    }

    /// Objects that are recorded and that nothing names are dead for good.
    pub(super) fn bury(&mut self) {
        let named: HashSet<u64> = self
            .files
            .iter()
            .flat_map(|file| file.record.bytes.values())
            .filter_map(|place| match place {
                Place::In(object, _) => Some(*object),
                Place::Here(_) => None,
            })
            .collect();
        let dead = self
            .recorded
            .iter()
            .filter(|object| !named.contains(object));
        self.dead.extend(dead);
    }

    pub(super) fn commit_part(&mut self, index: usize) {
        let Some(commit) = self.files[index].content.next_commit() else {
            return;
        };
        let file = &mut self.files[index];
        if let Some(cut) = commit.cut {
            file.record.bytes.retain(|at, _| *at < cut);
        }
        for Extent {
            offset,
            len,
            source,
        } in &commit.extents
        {
            assert!(offset + len <= commit.size, "an extent beyond the size");
            for step in 0..*len {
                let place = match source {
                    ExtentSource::Object { object, at } => Place::In(object.number, at + step),
                    ExtentSource::Inline(bytes) => Place::Here(bytes[step as usize]),
                };
                file.record.bytes.insert(offset + step, place);
            }
        }
        file.record.bytes.retain(|at, _| *at < commit.size);
        file.record.size = commit.size;
        for new in &commit.objects {
            self.recorded.insert(new.object.number);
        }
        for extent in &commit.extents {
            if let ExtentSource::Object { object, .. } = extent.source {
                assert!(
                    !self.dead.contains(&object.number),
                    "object {} is named after it died",
                    object.number
                );
            }
        }
        file.content.commit_ended(&commit, 0);
        self.seen.commits += 1;
        let committed = file.content.committed;
        let done = file.syncs.iter().filter(|(change, _)| *change <= committed);
        if let Some(at) = done.map(|(_, at)| *at).max() {
            self.seen.syncs += 1;
            file.syncs.retain(|(change, _)| *change > committed);
            let drop = at - file.forgotten;
            file.history.drain(..drop);
            file.forgotten = at;
        }
    }

    pub(super) fn sync(&mut self, index: usize) {
        let file = &mut self.files[index];
        let at = file.forgotten + file.history.len() - 1;
        file.syncs.push((file.content.change, at));
    }
}
