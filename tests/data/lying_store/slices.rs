//! A file that does not fit into memory is written at random, and goes up in slices, to a store
//! that lies about them.

use std::sync::atomic::{AtomicU64, Ordering};

use strongroom::data::{MEMORY_MIN_BYTES, MemoryPlan};

use super::lies;
use crate::{
    lied_volume::{LiedVolume, all_given_back, drained, in_time, no_file_is_refused},
    support::{
        files::{File, contents, create, sync, write},
        lying::{Form, Kind, Lie, Op, Rule},
        opened::Opened,
        random::Random,
    },
};

const MIB: u64 = 1 << 20;
const PAGE: u64 = 4096;
const PAGES: u64 = 3 * 1024;
const NONE: u64 = u64::MAX;
/// Pages are written until so many slices went up, or somebody has waited for memory for this long.
const SLICES: u64 = 3;

/// Room for eight MiB of dirty data.
fn plan() -> MemoryPlan {
    let mut plan = MemoryPlan::for_memory(MEMORY_MIN_BYTES);
    let shares = &mut plan.shares;
    shares.parked_min_bytes = MIB;
    shares.capacity_bytes = shares.parked_min_bytes
        + shares.upload_min_bytes
        + shares.read_min_bytes
        + shares.table_min_bytes
        + shares.listing_min_bytes
        + 8 * MIB;
    plan
}

/// Each page holds one number throughout, which grows from one write of it to the next.
struct Pages {
    now: Vec<AtomicU64>,
    /// The one whose write was begun last, until that has returned.
    begun: AtomicU64,
    synced: Vec<u64>,
}

fn page_of(number: u64) -> Vec<u8> {
    number.to_le_bytes().repeat(PAGE as usize / 8)
}

impl Pages {
    fn new() -> Pages {
        Pages {
            now: (0..PAGES).map(|_| AtomicU64::new(1)).collect(),
            begun: AtomicU64::new(NONE),
            synced: vec![1; PAGES as usize],
        }
    }

    fn numbers(&self) -> Vec<u64> {
        let numbers = self.now.iter();
        numbers.map(|page| page.load(Ordering::Relaxed)).collect()
    }

    async fn write_some(&self, opened: &Opened, file: &File, count: u64, random: &mut Random) {
        for _ in 0..count {
            let page = random.below(PAGES);
            self.begun.store(page, Ordering::Relaxed);
            // From here on it may be found.
            let number = self.now[page as usize].fetch_add(1, Ordering::Relaxed) + 1;
            write(opened, file, page * PAGE, &page_of(number)).await;
            self.begun.store(NONE, Ordering::Relaxed);
        }
    }

    /// A writer that gave up may not have written its last page.
    async fn write_what_was_begun(&self, opened: &Opened, file: &File) {
        let page = self.begun.swap(NONE, Ordering::Relaxed);
        if let Some(now) = self.now.get(page as usize) {
            let bytes = page_of(now.load(Ordering::Relaxed));
            write(opened, file, page * PAGE, &bytes).await;
        }
    }

    /// Every page is whole, and no older than when it was last synced.
    fn check(&self, found: &[u8], what: &str) {
        assert_eq!(found.len() as u64, PAGES * PAGE, "{what}");
        let pages = found.chunks(PAGE as usize).zip(self.numbers());
        for ((index, (page, now)), synced) in pages.enumerate().zip(&self.synced) {
            let number = u64::from_le_bytes(page[..8].try_into().unwrap());
            assert!(page == page_of(number), "{what}: page {index} is mixed");
            assert!(
                (*synced..=now).contains(&number),
                "{what}: page {index} is {number}, of {synced} to {now}"
            );
        }
    }
}

async fn try_one(lied: &LiedVolume, number: u64, what: &str, rule: Rule, crashes: bool) {
    let name = format!("file-{number}-{crashes}");
    let mut random = Random(43 + number);
    let opened = lied.open(plan()).await;
    let file = create(&opened, &name).await;
    write(&opened, &file, 0, &page_of(1).repeat(PAGES as usize)).await;
    in_time(what, sync(&opened, &file)).await.unwrap();
    let mut pages = Pages::new();
    let slices = || opened.metrics.sent_slices.get();
    let fired = lied.store().lie(rule);
    // A store that never takes anything lets writers wait, which is no fault.
    let writing = async {
        while slices() < SLICES || fired.count() == 0 {
            pages.write_some(&opened, &file, 100, &mut random).await;
        }
    };
    let _ = tokio::time::timeout(std::time::Duration::from_secs(10), writing).await;
    assert!(fired.count() > 0 && slices() > 0, "{what}: {}", slices());
    if number.is_multiple_of(2) {
        // A page whose write was begun may not be written.
        let mut before = pages.numbers();
        if let Some(begun) = before.get_mut(pages.begun.load(Ordering::Relaxed) as usize) {
            *begun -= 1;
        }
        // It may be refused, and hang as long as the store does.
        let synced = sync(&opened, &file);
        let synced = tokio::time::timeout(std::time::Duration::from_secs(8), synced).await;
        if matches!(synced, Ok(Ok(()))) {
            pages.synced = before;
        }
    }
    if !crashes {
        lied.store().heal();
        pages.write_what_was_begun(&opened, &file).await;
        pages.write_some(&opened, &file, 500, &mut random).await;
        in_time(what, drained(&opened)).await;
        in_time(what, sync(&opened, &file)).await.unwrap();
        assert!(no_file_is_refused(&opened), "{what}");
        pages.synced = pages.numbers();
        pages.check(&contents(&opened, &name).await, what);
        all_given_back(&opened, what).await;
        opened.fs.release(file.fh);
        opened.close().await;
    }
    lied.store().heal();
    let after = lied.volume.open().await;
    pages.check(&contents(&after, &name).await, what);
    after.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_that_was_synced_is_lost_whatever_becomes_of_slices() {
    let lied = LiedVolume::new().await;
    let writes = [Op::Put, Op::Create, Op::UploadPart, Op::Complete];
    for (number, (what, lie)) in (0..).zip(lies::of_writes()) {
        for crashes in [false, true] {
            let rule = Rule::on(writes).of([Kind::Data]).skip(number % 3);
            let rule = match number % 2 {
                0 => rule.times(3, lie.clone()),
                _ => rule.always(lie.clone()),
            };
            try_one(&lied, number, what, rule, crashes).await;
        }
    }
}

/// Tiny pieces are written along with what lies between them, which a slice reads.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn crumbs_go_up_as_they_were_written_whatever_is_read_between_them() {
    const CRUMB: u64 = 48;
    let lied = LiedVolume::new().await;
    let mut random = Random(47);
    let other = std::sync::Arc::new(random.noise(32 << 20));
    let mut model = random.noise(6 * MIB);
    let len = model.len() as u64;
    let opened = lied.open(plan()).await;
    let file = create(&opened, "file").await;
    write(&opened, &file, 0, &model).await;
    sync(&opened, &file).await.unwrap();
    opened.fs.release(file.fh);
    opened.close().await;
    for (what, lie) in lies::of_reads(&other) {
        let opened = lied.open(plan()).await;
        let ino = opened.fs.lookup(strongroom::meta::Ino::ROOT, b"file").await;
        let ino = ino.unwrap().unwrap().ino;
        let fired = lied
            .store()
            .lie(Rule::on([Op::Get]).of([Kind::Data]).times(6, lie));
        for _ in 0..3000 {
            let (at, crumb) = (random.below(len - CRUMB), random.noise(CRUMB));
            let buffer = opened.data.buffer(&crumb).await;
            opened.fs.write(ino, at, buffer, false).await.unwrap();
            model[at as usize..][..CRUMB as usize].copy_from_slice(&crumb);
        }
        in_time(what, opened.data.fsync(ino)).await.unwrap();
        assert!(fired.count() > 0, "{what}");
        lied.store().heal();
        assert!(contents(&opened, "file").await == model, "{what}");
        all_given_back(&opened, what).await;
        drop(opened);
        let after = lied.volume.open().await;
        assert!(contents(&after, "file").await == model, "{what}, after it");
        after.close().await;
    }
}

/// Bytes that cannot be uploaded are read from memory as far as they are there. The rest is in an
/// upload that does not end: a reader hears of that in time, and reads it once the store is well
/// again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_of_a_file_whose_uploads_are_refused_gets_what_was_written_or_the_refusal() {
    let lied = LiedVolume::new().await;
    let writes = [Op::Put, Op::Create, Op::UploadPart, Op::Complete];
    let mut random = Random(53);
    let opened = lied.open(plan()).await;
    let file = create(&opened, "file").await;
    write(&opened, &file, 0, &page_of(1).repeat(PAGES as usize)).await;
    in_time("synced", sync(&opened, &file)).await.unwrap();
    let pages = Pages::new();
    let refusal = Lie::refuse(403, Form::Code("AccessDenied"));
    lied.store()
        .lie(Rule::on(writes).of([Kind::Data]).always(refusal));
    let writing = pages.write_some(&opened, &file, 6000, &mut random);
    let _ = tokio::time::timeout(std::time::Duration::from_secs(8), writing).await;
    // The writer that gave up may not have written its last page.
    let begun = pages.begun.load(Ordering::Relaxed);
    let open = opened.data.open(file.ino);
    let (mut read, mut refused) = (0, 0);
    while read < 200 && refused < 3 {
        let page = random.below(PAGES);
        let found = opened.data.read(&open, page * PAGE, PAGE as u32);
        match in_time("a read under refusal", found).await {
            Ok(found) => {
                let now = pages.now[page as usize].load(Ordering::Relaxed);
                let is = |number: u64| found.bytes == page_of(number);
                assert!(is(now) || page == begun && is(now - 1), "page {page}");
                read += 1;
            }
            Err(error) => {
                assert!(error.to_string().contains("AccessDenied"), "{error}");
                refused += 1;
            }
        }
    }
    println!("{read} pages read, {refused} refused");
    lied.store().heal();
    in_time("drained", drained(&opened)).await;
    for page in 0..PAGES {
        let found = opened.data.read(&open, page * PAGE, PAGE as u32);
        let found = in_time("a read of what was refused", found).await.unwrap();
        let now = pages.now[page as usize].load(Ordering::Relaxed);
        let is = |number: u64| found.bytes == page_of(number);
        assert!(is(now) || page == begun && is(now - 1), "page {page}");
    }
    drop(open);
    opened.fs.release(file.fh);
    opened.close().await;
}
