//! Files that are written in tiny pieces all over the place.

use std::{collections::BTreeMap, slice::from_ref, time::Instant};

use strongroom::meta::{ExtentSource, Ino, ObjectId, REGION_LEN};

use crate::volume::{Verb, contents, count, extent, file, object, open, volume};

const SIZE: u64 = 64 << 20;
const PIECE: u64 = 200;

/// Where some thousand pieces go, in order and without touching each other.
fn places(seed: &mut u64) -> Vec<u64> {
    let next = |_| {
        *seed ^= *seed << 13;
        *seed ^= *seed >> 7;
        *seed ^= *seed << 17;
        *seed % (SIZE - PIECE)
    };
    let mut places: Vec<u64> = (0..20_000).map(next).collect();
    places.sort_unstable();
    places.dedup_by(|next, one| *next <= *one + PIECE);
    places
}

/// A model of the extents: for each run, by its end, its beginning, and the object and offset that
/// cover it.
type Runs = BTreeMap<u64, (u64, ObjectId, u64)>;

fn put(runs: &mut Runs, from: u64, to: u64, object: ObjectId, at: u64) {
    let hit: Vec<u64> = runs
        .range(from + 1..)
        .take_while(|(_, (start, ..))| *start < to)
        .map(|(end, _)| *end)
        .collect();
    for end in hit {
        let (start, other, other_at) = runs.remove(&end).unwrap();
        if start < from {
            runs.insert(from, (start, other, other_at));
        }
        if end > to {
            runs.insert(end, (to, other, other_at + (to - start)));
        }
    }
    runs.insert(to, (from, object, at));
}

/// A reader in order asks for a hundred extents at a time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_extents_of_a_file_in_a_hundred_thousand_pieces_are_read_with_few_requests() {
    let (store, meta) = volume().await;
    let ino = file(&meta, Ino::ROOT, "file").await.ino;
    let (mut seed, mut runs) = (1, Runs::new());
    for number in 0..6 {
        let places = places(&mut seed);
        let whole = object(&meta, number, places.len() as u64 * PIECE);
        let mut extents = Vec::new();
        for (place, at) in places.iter().zip((0..).step_by(PIECE as usize)) {
            extents.push(extent(*place, PIECE, &whole, at));
            put(&mut runs, *place, place + PIECE, whole.object, at);
        }
        let commit = contents(ino, extents, SIZE);
        meta.commit_content(from_ref(&whole), &[commit])
            .await
            .unwrap();
    }
    meta.close().await.unwrap();

    let meta = open(&store).await;
    store.take();
    let began = Instant::now();
    let (mut at, mut found) = (0, Runs::new());
    loop {
        let extents = meta.extents(ino, at..SIZE, 128).await.unwrap();
        let Some(last) = extents.last() else { break };
        at = last.offset + last.len;
        for extent in &extents {
            let ExtentSource::Object { object, at } = extent.source else {
                panic!("nothing was written inline")
            };
            found.insert(extent.offset + extent.len, (extent.offset, object, at));
        }
    }
    let gets = count(&store.take(), Verb::Get, "");
    println!(
        "{} extents read cold in {:?}: {gets} GETs",
        found.len(),
        began.elapsed()
    );
    assert!(found == runs, "the extents are those of the model");
    assert!(gets < 1000, "{gets} GETs to read the extents in order");
}

/// A commit tells of each crowded region that it passes once, in order, and of no other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regions_in_many_extents_are_noticed_by_the_commit_that_comes_by() {
    let (_store, meta) = volume().await;
    let ino = file(&meta, Ino::ROOT, "file").await.ino;
    let size = 4 * REGION_LEN;
    let commit = |extents| contents(ino, extents, size);
    let whole = object(&meta, 0, size);
    let parts = vec![extent(0, size, &whole, 0)];
    meta.commit_content(from_ref(&whole), &[commit(parts)])
        .await
        .unwrap();
    assert_eq!(meta.take_crowded(), None);
    // A piece and the rest behind it: 32 extents begin in the one region, 34 in the other.
    let crumbs = object(&meta, 1, 33 * PIECE);
    let of = |region: u64, number: u64| region * REGION_LEN + 1000 + number * 3000;
    let places = (0..16)
        .map(|number| of(1, number))
        .chain((0..17).map(|number| of(2, number)));
    let parts = places
        .zip((0..).step_by(PIECE as usize))
        .map(|(place, at)| extent(place, PIECE, &crumbs, at))
        .collect();
    meta.commit_content(from_ref(&crumbs), &[commit(parts)])
        .await
        .unwrap();
    let crowded = 2 * REGION_LEN..3 * REGION_LEN;
    assert_eq!(meta.take_crowded(), Some((ino, crowded)));
    assert_eq!(meta.take_crowded(), None);
    meta.close().await.unwrap();
}
