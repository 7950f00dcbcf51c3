//! A follower reads what it finds beside the writer, and finds only what was there at some time.

use std::{sync::Arc, time::Duration};

use strongroom::meta::{FileKind, Ino};

use crate::{
    client::{self, Client},
    found::{Number, Place},
    network::Network,
    rng::Rng,
    worker::SharedModel,
};

/// Files that are longer are not compared.
const ONE_READ: usize = 256 << 10;
/// Where there are large files, parts of all files are compared.
const A_PART: usize = 64 << 10;
/// They are no longer than this.
const LARGE_MAX: u64 = 8 << 20;
const PAUSE_MS: std::ops::Range<u64> = 100..20_000;

/// Looks at one file after the other, of all that work on the volume, until it is dropped.
pub async fn watch(
    follower: Arc<Client>,
    models: Vec<SharedModel>,
    network: Network,
    mut rng: Rng,
) {
    loop {
        tokio::time::sleep(Duration::from_millis(rng.within(PAUSE_MS))).await;
        let model = rng.pick(&models).unwrap();
        let names = model.lock().names().clone();
        let places: Vec<_> = names.into_keys().collect();
        let Some(place) = rng.pick(&places) else {
            continue;
        };
        // A read sees this generation, or a later one.
        let generation = follower.meta.generation();
        if follower.habits.overwrites {
            let from = rng.below(LARGE_MAX) as usize;
            if let Some((number, bytes)) = read_at(&follower, place, from, A_PART).await {
                network.note(format!("a follower reads {number} from {from} on"));
                let seen = model
                    .lock()
                    .may_be_seen_at(number, from, &bytes, generation);
                seen.unwrap_or_else(|why| panic!("a follower reads {number}: {why}"));
            }
            continue;
        }
        let Some((number, bytes)) = read(&follower, place).await else {
            continue;
        };
        let (dir, name) = place;
        let len = bytes.len();
        network.note(format!(
            "a follower at generation {generation} reads {dir}/{name} ({number}): {len} bytes"
        ));
        let seen = model.lock().may_be_seen(number, &bytes, generation);
        seen.unwrap_or_else(|why| panic!("a follower reads {name}: {why}"));
    }
}

/// The whole file that the follower finds, if it does. In bad weather it may not.
async fn read(follower: &Client, place: &Place) -> Option<(Number, Vec<u8>)> {
    let (number, bytes) = read_at(follower, place, 0, ONE_READ).await?;
    (bytes.len() < ONE_READ).then_some((number, bytes))
}

async fn read_at(
    follower: &Client,
    (dir, name): &Place,
    from: usize,
    len: usize,
) -> Option<(Number, Vec<u8>)> {
    let fs = &follower.fs;
    let found = fs.lookup(Ino(*dir), name.as_bytes()).await.ok()??;
    if found.kind != FileKind::File {
        return None;
    }
    let opened = fs
        .open(client::ROOT, found.ino, libc::O_RDONLY)
        .await
        .ok()?;
    let read = fs.read(opened.fh, from as u64, len as u32).await;
    fs.release(opened.fh);
    Some((found.ino.0, read.ok()?.bytes.to_vec()))
}
