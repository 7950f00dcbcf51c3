//! A follower reads what it finds beside the writer, and finds only what was there at some time.

use std::{sync::Arc, time::Duration};

use strongroom::meta::{FileKind, Ino};

use crate::{
    client::{self, Client},
    model::{Number, Place},
    network::Network,
    rng::Rng,
    worker::SharedModel,
};

/// Files that are longer are not compared.
const ONE_READ: usize = 256 << 10;
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
async fn read(follower: &Client, (dir, name): &Place) -> Option<(Number, Vec<u8>)> {
    let fs = &follower.fs;
    let found = fs.lookup(Ino(*dir), name.as_bytes()).await.ok()??;
    if found.kind != FileKind::File {
        return None;
    }
    let opened = fs
        .open(client::ROOT, found.ino, libc::O_RDONLY)
        .await
        .ok()?;
    let read = fs.read(opened.fh, 0, ONE_READ as u32).await;
    fs.release(opened.fh);
    let bytes = read.ok()?.bytes.to_vec();
    (bytes.len() < ONE_READ).then_some((found.ino.0, bytes))
}
