//! One step of a run: the seed chooses what happens to which file.

use super::world::{FILES, World};

impl World {
    pub(super) fn step(&mut self) {
        let index = self.rng.below(FILES as u64) as usize;
        let kind = self.rng.below(23);
        self.trace(index, kind);
        match kind {
            0..2 => self.write(index),
            2..4 => self.append(index),
            4 => self.truncate(index),
            5 => self.replace(index),
            6 => self.punch(index),
            7..10 => self.pump(index),
            10 => self.sweep(index),
            11 => self.pack(),
            12 => self.inline(index),
            13 => self.attributes(index),
            14 => self.arrive_late(),
            15 => self.sync(index),
            16 => self.commit(index),
            17 => self.slice(index),
            _ => self.deliver(),
        }
        self.poll();
    }

    /// With one seed only, says what is done to the file.
    pub(super) fn trace(&self, index: usize, kind: u64) {
        if std::env::var_os("STRONGROOM_MODEL_SEED").is_some() {
            let file = &self.files[index];
            println!(
                "file {index}: step {kind}, change {}, committed {}, live {}, base {}, visible {}, history {:?}, {}",
                file.content.change,
                file.content.committed,
                file.content.size,
                file.content.base_size,
                file.content.visible_size(),
                file.history
                    .iter()
                    .map(|state| state.bytes.len())
                    .collect::<Vec<_>>(),
                file.content.in_flight_shown(),
            );
        }
    }
}
