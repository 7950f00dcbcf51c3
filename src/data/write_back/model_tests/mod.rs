//! The write-back machine against a model: small files, tiny parts, a store that answers in every
//! way, and a crash after every step.
//!
//! The world is driven by a seed. After every step the state that a crash would leave is read back
//! through the model of the store and compared with the history of each file:
//! - each byte is one that the file held at that place at some time since its last fsync;
//! - the size is one that it had, or passed through, since then; replaced contents are never gone
//!   while the new ones are not there;
//! - the bytes that an extent names are in the store, whole, and are those that left memory.
//!
//! Sealed bytes must not be dropped before they are acknowledged, errors are heard by the files
//! with bytes in the refused object only, and once the store answers normally everything becomes
//! durable.
//!
//! `mount-scripts/mutants.sh` breaks the machine on purpose and expects this test to notice.

mod checks;
mod commits;
mod leaving;
mod scenario;
mod store;
mod world;

use self::world::{SEEDS, STEPS, Seen, World};

#[test]
fn whatever_the_store_answers_a_crash_leaves_what_was_promised() {
    let only = std::env::var("STRONGROOM_MODEL_SEED").ok();
    let seeds = match only.as_ref().and_then(|seed| seed.parse::<u64>().ok()) {
        Some(seed) => seed..seed + 1,
        None => 0..SEEDS,
    };
    let mut total = Seen::default();
    for seed in seeds {
        let mut world = World::new(seed);
        for step in 0..STEPS {
            world.step();
            world.check(seed, step);
        }
        world.heal(seed);
        let seen = world.seen;
        total.commits += seen.commits;
        total.refusals += seen.refusals;
        total.lost += seen.lost;
        total.syncs += seen.syncs;
        total.late += seen.late;
        total.multipart += seen.multipart;
        total.along += seen.along;
        total.slices += seen.slices;
    }
    println!("{total:?}");
    assert!(
        only.is_some() || total.along.min(total.slices) > 500,
        "{total:?}"
    );
}
