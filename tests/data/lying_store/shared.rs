//! Readers of the same bytes share their fetches, from a store that lies about them.

use std::{sync::Arc, time::Duration};

use strongroom::{
    data::{MEMORY_MIN_BYTES, MemoryPlan},
    meta::Ino,
};

use super::lies;
use crate::{
    lied_volume::{LiedVolume, all_given_back, in_time},
    support::{
        lying::{Kind, Op, Rule},
        opened::Opened,
        random::Random,
    },
};

const MIB: u64 = 1 << 20;
const PAGE: u64 = 4096;
const LEN: u64 = 4 * MIB;
/// The most that the kernel asks for at once by default.
const PIECE: u64 = 128 << 10;
/// Half of them read the file in order, half pages all over it, the same ones.
const READERS: u64 = 6;
/// Requests before the first that is lied about.
const SKIPPED: [u64; 2] = [0, 5];
/// As many lies in a row as make an object missing, and some.
const TIMES: u64 = 8;

struct File {
    ino: Ino,
    model: Vec<u8>,
}

impl File {
    /// Reads all of it through a handle of its own, in order or in pages all over it; returns how
    /// many reads failed. What is read is right.
    async fn read_by(&self, opened: &Opened, reader: u64) -> u64 {
        let open = opened.data.open(self.ino);
        let (places, len): (Vec<u64>, u64) = match reader % 2 {
            0 => ((0..LEN / PIECE).collect(), PIECE),
            _ => (Random(71).shuffled((0..LEN / PAGE / 4).collect()), PAGE),
        };
        let mut errors = 0;
        for place in places {
            let at = place * len;
            match opened.data.read(&open, at, len as u32).await {
                Ok(read) => {
                    let right = &self.model[at as usize..][..len as usize];
                    assert!(read.bytes[..] == *right, "{len} bytes at {at}");
                }
                Err(_) => errors += 1,
            }
        }
        errors
    }

    /// The same by all readers at once.
    async fn read_by_all(&self, opened: &Opened) -> u64 {
        let readers = (0..READERS).map(|reader| self.read_by(opened, reader));
        futures::future::join_all(readers).await.into_iter().sum()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_waits_for_the_fetch_of_another_gets_the_right_bytes_or_an_error() {
    let lied = LiedVolume::new().await;
    let model = Random(67).noise(LEN);
    let ino = lied.durable_file(&model).await;
    let file = File { ino, model };
    let other = Arc::new(Random(73).noise(LEN + MIB));
    let (mut told, mut tried, mut shared) = (0, 0, 0);
    for (what, lie) in lies::of_reads(&other) {
        for skipped in SKIPPED {
            let opened = lied.open(MemoryPlan::for_memory(MEMORY_MIN_BYTES)).await;
            let rule = Rule::on([Op::Get]).of([Kind::Data]).skip(skipped);
            let fired = lied.store().lie(rule.times(TIMES, lie.clone()));
            let errors = in_time(what, async {
                tokio::select! {
                    errors = file.read_by_all(&opened) => errors,
                    // Some of this the mount retries until the store is honest.
                    never = heal_later(&lied) => never,
                }
            });
            let errors = errors.await;
            let lied_to = fired.count();
            println!("{what}, after {skipped}: told {lied_to} times, {errors} errors");
            assert!(errors == 0 || lied_to > 0, "{what}: {errors} errors");
            lied.store().heal();
            let after = in_time(what, file.read_by_all(&opened)).await;
            assert_eq!(after, 0, "{what}: errors of an honest store");
            all_given_back(&opened, what).await;
            in_time(what, opened.close()).await;
            told += u32::from(lied_to > 0);
            shared += u32::from(errors > lied_to);
            tried += 1;
        }
    }
    assert!(told >= tried * 3 / 4, "{told} of {tried} lies were told");
    assert!(shared > 0, "no error went to two readers");
}

async fn heal_later(lied: &LiedVolume) -> u64 {
    tokio::time::sleep(Duration::from_secs(2)).await;
    lied.store().heal();
    std::future::pending().await
}
