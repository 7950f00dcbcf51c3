//! Regions that are larger than memory go to the local disk unopened, from a store that lies about
//! them.

use std::{sync::Arc, time::Duration};

use strongroom::{
    data::{DataError, MEMORY_MIN_BYTES, MemoryPlan},
    meta::Ino,
    server::Faults,
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
const LEN: u64 = 40 * MIB;
/// A read of a page asks for a frame or a few; a fetch of a part of a region asks for a MiB and
/// more.
const PART_OF_REGION: u64 = 512 << 10;
/// The link as it is measured on a busy machine may make frame by frame the cheaper way.
const READS_MAX: u64 = 4_000;

/// A region of ten MiB is too large for the memory, and goes to the disk.
fn plan() -> MemoryPlan {
    let mut plan = MemoryPlan::with_disk_cache(MEMORY_MIN_BYTES, Some(128 * MIB));
    let shares = &mut plan.shares;
    shares.read_min_bytes = 4 * MIB;
    shares.capacity_bytes = shares.dirty_min_bytes
        + shares.parked_min_bytes
        + shares.upload_min_bytes
        + shares.read_min_bytes
        + shares.table_min_bytes
        + shares.listing_min_bytes;
    plan
}

struct File {
    ino: Ino,
    model: Vec<u8>,
}

impl File {
    /// Reads a page that is right, or says why it cannot.
    async fn read(&self, opened: &Opened, page: u64) -> Result<(), DataError> {
        let open = opened.data.open(self.ino);
        let at = (page * PAGE) as usize;
        let read = opened.data.read(&open, page * PAGE, PAGE as u32).await?;
        assert!(read.bytes[..] == self.model[at..][..PAGE as usize]);
        Ok(())
    }
}

/// The store lies about parts of regions. Whoever waits for a frame that is asked for together with
/// its region may be told so, once for each lie, and nobody else is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_reads_gets_the_right_bytes_whatever_goes_to_the_disk_unopened() {
    let lied = LiedVolume::new().await;
    let model = Random(53).noise(LEN);
    let ino = lied.durable_file(&model).await;
    let file = File { ino, model };
    let faults = Faults {
        latency: Duration::from_millis(3),
        bandwidth: Some(60_000_000),
        ..Faults::default()
    };
    lied.volume.server.set_faults(faults);
    let mut random = Random(59);
    let other = Arc::new(random.noise(LEN + MIB));
    let (mut told, mut tried, mut dropped) = (0, 0, 0);
    for (number, (what, lie)) in (0u64..).zip(lies::of_reads(&other)) {
        let _ = std::fs::remove_dir_all(lied.volume.server.directory.path().join("disk"));
        let opened = lied.open(plan()).await;
        let rule = Rule::on([Op::Get]).of([Kind::Data]);
        let rule = rule.asking_for(PART_OF_REGION).skip(number % 3);
        let fired = lied.store().lie(rule.times(4, lie.clone()));
        let (mut reads, mut errors) = (0, 0);
        // The bytes that came are read now, forged or not.
        let mut left = 1500;
        while left > 0 {
            let read = file.read(&opened, random.below(LEN / PAGE)).await;
            errors += u64::from(read.is_err());
            reads += 1;
            left -= u64::from(fired.count() > 0 || reads >= READS_MAX);
        }
        let lied_to = fired.count();
        assert!(errors <= lied_to, "{what}: {errors} errors of {lied_to}");
        lied.store().heal();
        let pages = Random(61 + number).shuffled((0..LEN / PAGE / 8).collect());
        for page in pages {
            file.read(&opened, page * 8).await.unwrap();
        }
        all_given_back(&opened, what).await;
        let disk = opened.data.disk_status().unwrap();
        println!("{what}: told {lied_to} times, {errors} errors; {disk:?}");
        assert!(disk.trouble.is_none(), "{what}: {disk:?}");
        dropped += disk.dropped;
        in_time(what, opened.close()).await;
        told += u32::from(lied_to > 0);
        tried += 1;
    }
    assert!(told >= tried * 3 / 4, "{told} of {tried} lies were told");
    assert!(dropped > 0, "nothing forged went to the disk");
}
