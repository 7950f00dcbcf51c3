//! A scattered file is put in order before a store that lies about what is read or written for it.

use std::{sync::Arc, time::Duration};

use strongroom::{
    data::{MEMORY_MIN_BYTES, MemoryPlan},
    meta::{ExtentSource, Ino},
};

use super::lies;
use crate::{
    lied_volume::{LiedVolume, all_given_back, drained, in_time, no_file_is_refused},
    support::{
        files::{File, contents, create, sync, write},
        lying::{Kind, Lie, Op, Rule},
        opened::Opened,
        random::Random,
    },
};

const LEN: u64 = 5 << 20;
const PAGE: u64 = 4096;
const FRAME: u64 = 64 << 10;
/// Requests of one kind that putting the file in order takes at least.
const LIED_TO_MAX: u64 = 4;
/// Time for which a file is put in order while the store lies.
const LIES_FOR: Duration = Duration::from_millis(700);

fn plan(quiet_for: Duration) -> MemoryPlan {
    let mut plan = MemoryPlan::for_memory(MEMORY_MIN_BYTES);
    plan.data.write_back_after = Duration::from_millis(100);
    plan.data.defragment_after = quiet_for;
    // Putting in order begins whatever the link costs, which a busy machine measures wrong.
    plan.data.defragment_from = 0.0;
    plan
}

/// Most of what lies in its frames has been replaced since, and all of it is durable.
async fn scattered(opened: &Opened, name: &str, random: &mut Random) -> (File, Vec<u8>) {
    let mut model = random.noise(LEN);
    let file = create(opened, name).await;
    write(opened, &file, 0, &model).await;
    sync(opened, &file).await.unwrap();
    for _ in 0..6 {
        for _ in 0..LEN / PAGE / 3 {
            let at = random.below(LEN / PAGE) * PAGE;
            let page = random.noise(PAGE);
            write(opened, &file, at, &page).await;
            model[at as usize..][..PAGE as usize].copy_from_slice(&page);
        }
        sync(opened, &file).await.unwrap();
    }
    (file, model)
}

/// The different frames that its bytes lie in.
async fn frames(opened: &Opened, ino: Ino) -> usize {
    let (mut frames, mut at) = (std::collections::HashSet::new(), 0);
    loop {
        let some = opened.meta.extents(ino, at..u64::MAX, 1024).await.unwrap();
        let Some(last) = some.last() else {
            return frames.len();
        };
        at = last.offset + last.len;
        for extent in some {
            if let ExtentSource::Object { object, at } = extent.source {
                let those = at / FRAME..=(at + extent.len - 1) / FRAME;
                frames.extend(those.map(|frame| (object, frame)));
            }
        }
    }
}

async fn is_in_order(opened: &Opened, ino: Ino) -> bool {
    frames(opened, ino).await as u64 <= LEN / FRAME * 11 / 10
}

/// A reader in order finds that it is scattered still, and leaves it alone for a while.
async fn put_in_order(opened: &Opened, file: &File, name: &str, model: &[u8]) {
    loop {
        assert!(contents(opened, name).await == model, "{name}");
        for _ in 0..60 {
            if is_in_order(opened, file.ino).await {
                return;
            }
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
    }
}

/// One lie, told about some of the requests that putting a file in order makes, then a crash or an
/// honest store. One if it was told: a file may be in order after fewer requests.
async fn try_one(
    lied: &LiedVolume,
    what: &str,
    rule: Rule,
    crashes: bool,
    random: &mut Random,
) -> u32 {
    let name = format!("file-{}", random.below(u64::MAX));
    let opened = lied.open(plan(Duration::from_millis(1))).await;
    let (file, model) = scattered(&opened, &name, random).await;
    let fired = lied.store().lie(rule);
    // It begins once nothing has been written for a moment.
    opened.data.start_reclaim();
    in_time(&format!("{what}: told"), async {
        while fired.count() == 0 && !is_in_order(&opened, file.ino).await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    tokio::time::sleep(LIES_FOR).await;
    let told = fired.count() > 0;
    if !crashes {
        lied.store().heal();
        let ordered = put_in_order(&opened, &file, &name, &model);
        in_time(&format!("{what}: put in order"), ordered).await;
        in_time(&format!("{what}: drained"), drained(&opened)).await;
        assert!(no_file_is_refused(&opened), "{what}");
        assert!(contents(&opened, &name).await == model, "{what}");
        all_given_back(&opened, what).await;
        opened.fs.release(file.fh);
        opened.close().await;
    }
    lied.store().heal();
    let after = lied.volume.open().await;
    assert!(contents(&after, &name).await == model, "{what}, after it");
    after.close().await;
    u32::from(told)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_is_put_in_order_or_stays_as_it_is_whatever_is_read_for_it() {
    let lied = LiedVolume::new().await;
    let mut random = Random(31);
    let other = Arc::new(random.noise(64 << 20));
    let (mut told, mut tried) = (0, 0);
    for (number, (what, lie)) in (0..).zip(lies::of_reads(&other)) {
        for crashes in [false, true] {
            let rule = Rule::on([Op::Get]).of([Kind::Data]);
            let rule = rule.skip(number % 3).times(LIED_TO_MAX, lie.clone());
            told += try_one(&lied, what, rule, crashes, &mut random).await;
            tried += 1;
        }
    }
    println!("{told} lies of {tried} were told");
    assert!(told >= tried * 3 / 4, "{told} of {tried}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_is_put_in_order_or_stays_as_it_is_whatever_becomes_of_what_is_sent_for_it() {
    let lied = LiedVolume::new().await;
    let mut random = Random(37);
    let writes = [Op::Put, Op::Create, Op::UploadPart, Op::Complete];
    let (mut told, mut tried) = (0, 0);
    for (what, lie) in lies::of_writes() {
        for crashes in [false, true] {
            let rule = Rule::on(writes).of([Kind::Data]);
            let rule = rule.times(LIED_TO_MAX, lie.clone());
            told += try_one(&lied, what, rule, crashes, &mut random).await;
            tried += 1;
        }
    }
    println!("{told} lies of {tried} were told");
    assert!(told >= tried * 3 / 4, "{told} of {tried}");
}

/// Nobody can tell that an object was not kept before it is read. What was put in order is gone
/// then, but no byte is ever a wrong one, the rest of the volume is well, and what is written anew
/// is there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_put_in_order_and_not_kept_is_an_error_and_never_another_byte() {
    let lied = LiedVolume::new().await;
    let mut random = Random(41);
    let opened = lied.open(plan(Duration::from_millis(1))).await;
    let (file, mut model) = scattered(&opened, "file", &mut random).await;
    let (other, well) = scattered(&opened, "other", &mut random).await;
    opened.fs.release(other.fh);
    let fired = lied
        .store()
        .lie(Rule::on([Op::Put]).of([Kind::Data]).once(Lie::Pretend));
    opened.data.start_reclaim();
    in_time("both are put in order", async {
        while fired.count() == 0 || !is_in_order(&opened, file.ino).await {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    opened.data.drain().await.unwrap();
    opened.close().await;

    let opened = lied.open(plan(Duration::from_secs(600))).await;
    let mut lost = Vec::new();
    for (name, model) in [("file", &model), ("other", &well)] {
        let ino = opened.fs.lookup(Ino::ROOT, name.as_bytes()).await.unwrap();
        let open = opened.data.open(ino.unwrap().ino);
        for at in (0..LEN).step_by(FRAME as usize) {
            match opened.data.read(&open, at, FRAME as u32).await {
                Ok(read) => assert!(read.bytes[..] == model[at as usize..][..FRAME as usize]),
                Err(_) => lost.push((name, at)),
            }
        }
    }
    assert!(!lost.is_empty(), "the object was not needed");
    assert!(lost.len() < 2 * (LEN / FRAME) as usize, "all is lost");
    for (name, at) in &lost {
        let ino = opened.fs.lookup(Ino::ROOT, name.as_bytes()).await.unwrap();
        let piece = random.noise(FRAME);
        let buffer = opened.data.buffer(&piece).await;
        let ino = ino.unwrap().ino;
        opened.fs.write(ino, *at, buffer, false).await.unwrap();
        if *name == "file" {
            model[*at as usize..][..FRAME as usize].copy_from_slice(&piece);
        }
    }
    opened.data.drain().await.unwrap();
    assert!(contents(&opened, "file").await == model);
    all_given_back(&opened, "written anew").await;
    opened.close().await;
}
