//! Years of a volume's life, from one seed each.
//!
//! docs/reliability.md says what is simulated, what is checked, and how a seed is run again.

mod client;
mod machine;
mod network;
mod rng;
mod s3;
mod stats;

use std::sync::Arc;

use strongroom::{meta::{Ino, Meta}, seal::keys::{VolumeId, VolumeKeys}};
use client::Client;
use network::Network;

#[test]
fn one_seed() {
    unsafe { std::env::set_var("AWS_ACCESS_KEY_ID", "a"); std::env::set_var("AWS_SECRET_ACCESS_KEY", "b"); }
    machine::begin(1);
    let network = Network::new(1);
    let keys = VolumeKeys::generate(VolumeId::generate());
    let runtime = machine::runtime();
    let real = std::process::Command::new("date").arg("+%s.%N").output();
    println!("{:?}", real.map(|o| String::from_utf8(o.stdout)));
    let ino = runtime.block_on(async {
        let store = client::connect(&network, 0).await;
        store.create_bucket().await.unwrap();
        Meta::format(client::sealed(&store, &keys), 0, 0).await.unwrap();
        let client = Client::open(&network, 1, &keys, false).await.unwrap();
        let created = client.fs.create(client::ROOT, Ino::ROOT, b"file", 0o644, libc::O_RDWR).await.unwrap();
        client.write(created.attributes.ino, 0, &[7; 500_000]).await.unwrap();
        client.fs.fsync_through(created.fh).await.unwrap();
        client.write(created.attributes.ino, 500_000, &[7; 500_000]).await.unwrap();
        created.attributes.ino
    });
    drop(runtime);
    network.bury();
    let runtime = machine::runtime();
    runtime.block_on(async {
        network.resume();
        let client = Client::open(&network, 2, &keys, false).await.unwrap();
        let read = client.read(ino).await.unwrap();
        println!("{} bytes", read.len());
        tokio::time::sleep(std::time::Duration::from_secs(9000)).await;
        client.close().await.unwrap();
    });
    for line in network.trace() { println!("{line}"); }
    println!("{:x} {}", network.digest(), network.stats());
    machine::end();
}
