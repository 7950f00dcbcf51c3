//! Checks of what must hold after every step, and once the store answers normally.

use super::world::{FILES, File, Place, STEPS, World};

impl World {
    /// A crash now would leave this: is it allowed?
    pub(super) fn check(&self, seed: u64, step: usize) {
        let early = &self.released.borrow().early;
        assert!(
            early.is_empty(),
            "seed {seed}, step {step}: released before the store had them: {early:?}"
        );
        for (index, file) in self.files.iter().enumerate() {
            let what = format!("seed {seed}, step {step}, file {index}");
            let size = file.record.size;
            let sizes = || file.history.iter().map(|state| state.bytes.len() as u64);
            let (least, most) = (sizes().min().unwrap(), sizes().max().unwrap());
            assert!(
                (least..=most).contains(&size),
                "{what}: size {size}, which it never had: {least}..={most}"
            );
            for at in 0..size {
                let value = match file.record.bytes.get(&at) {
                    None => 0,
                    Some(Place::Here(value)) => *value,
                    Some(Place::In(object, inner)) => {
                        let whole = self.store.get(object).and_then(|key| key.whole.as_ref());
                        *whole
                            .and_then(|whole| whole.get(*inner as usize))
                            .unwrap_or_else(|| panic!("{what}: names what is not in the store"))
                    }
                };
                let was = file
                    .history
                    .iter()
                    .any(|state| state.bytes.get(at as usize) == Some(&value));
                assert!(was, "{what}: byte {at} is {value}, which it never was");
            }
            let since = file.content.dirty_since;
            for at in file.content.overlay.dirty_runs(0).flatten() {
                assert!(
                    since.is_some_and(|since| since <= file.written_at[at as usize]),
                    "{what}: byte {at} is older than what counts as the oldest change"
                );
            }
            if file.refusals == 0 {
                assert!(
                    file.content.errors.standing().is_none(),
                    "{what}: hears of what is not its own"
                );
            }
        }
    }

    /// The store answers normally: everything must become durable.
    pub(super) fn heal(&mut self, seed: u64) {
        self.healthy = true;
        for round in 0..4000 {
            for index in 0..FILES {
                self.trace(index, 99);
                self.sync(index);
                self.sweep(index);
                self.attributes(index);
                self.commit(index);
            }
            self.poll();
            self.deliver();
            self.poll();
            self.check(seed, STEPS + round);
            let is_done = |file: &File| file.content.is_clean() || file.content.has_lost();
            if self.files.iter().all(is_done) {
                break;
            }
        }
        for (index, file) in self.files.iter().enumerate() {
            if file.content.has_lost() {
                continue;
            }
            assert!(
                file.content.is_clean(),
                "seed {seed}: file {index} never becomes durable"
            );
            assert!(
                file.content.errors.standing().is_none(),
                "seed {seed}: file {index} is durable and in error"
            );
            let live = &file.history.last().unwrap().bytes;
            assert_eq!(
                file.record.size,
                live.len() as u64,
                "seed {seed}, file {index}"
            );
        }
    }
}
