//! Sequential throughput of a mount beside its ceiling: a plain loop of the same SDK, without
//! encryption and without FUSE, on the same server in the same run. `cargo bench --bench
//! throughput` prints the table; arguments: `[MIB] [ROUNDS]`.

#[path = "../tests/support/mod.rs"]
mod harness;

#[path = "support/mod.rs"]
mod support;

use std::{
    fs,
    io::{Read, Write},
    time::Duration,
};

use aws_sdk_s3::{
    Client,
    types::{CompletedMultipartUpload, CompletedPart},
};
use bytes::Bytes;
use futures::{StreamExt, stream};
use harness::{
    bucket::BUCKET,
    site::{Site, Transport},
};
use support::{MIB, Options, noise, timed};

const PART: usize = 8 * MIB;
const PARALLEL: usize = 8;

fn main() {
    let options = Options::from_command_line();
    let numbers: Vec<usize> = options
        .words
        .iter()
        .map(|word| {
            word.parse()
                .unwrap_or_else(|_| support::refuse("usage: [MIB] [ROUNDS]"))
        })
        .collect();
    let mib = numbers.first().copied().unwrap_or(1024);
    let rounds = numbers.get(1).copied().unwrap_or(3);
    let mut site = Site::start(Transport::Plain);
    options.apply(&mut site);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("runtime");
    let client = site.bucket().client();
    let block = noise(MIB);
    println!(
        "{mib} MiB, server and client on the same machine, {}; MiB/s (higher is better), {rounds} rounds interleaved",
        options.describe()
    );
    println!(
        "{:<6} {:>10} {:>12} {:>6} {:>10} {:>10} {:>6} {:>12} {:>12} {:>10} {:>12}",
        "round",
        "SDK write",
        "write+fsync",
        "ratio",
        "SDK read",
        "cold read",
        "ratio",
        "SDK CPU",
        "mount CPU",
        "peak RSS",
        "unexplained"
    );
    for round in 1..=rounds {
        let key = format!("raw-{round}");
        let sdk_write = measured(None, || {
            runtime.block_on(upload(&client, &key, mib, &block))
        });
        let mount = site.mount();
        let file = mount.dir.join(format!("file-{round}"));
        let write = measured(Some(mount.pid()), || write_file(&file, mib, &block));
        let write_rest = mount.unexplained_bytes();
        mount.unmount();
        let sdk_read = measured(None, || runtime.block_on(download(&client, &key, mib)));
        let mount = site.mount();
        let file = mount.dir.join(format!("file-{round}"));
        let read = measured(Some(mount.pid()), || read_file(&file, mib));
        let peak = mount.memory_bytes("VmHWM") >> 20;
        let rest = mount.unexplained_bytes().max(write_rest) >> 20;
        fs::remove_file(&file).expect("remove");
        mount.unmount();
        let rate = |work: &Measured| mib as f64 / work.took.as_secs_f64();
        let cpu = |write: &Measured, read: &Measured| {
            let per_gib = 1024.0 / mib as f64;
            format!("{:.1}w {:.1}r", write.cpu * per_gib, read.cpu * per_gib)
        };
        println!(
            "{round:<6} {:>10.0} {:>12.0} {:>6.2} {:>10.0} {:>10.0} {:>6.2} {:>12} {:>12} {peak:>6} MiB {rest:>8} MiB",
            rate(&sdk_write),
            rate(&write),
            rate(&write) / rate(&sdk_write),
            rate(&sdk_read),
            rate(&read),
            rate(&read) / rate(&sdk_read),
            cpu(&sdk_write, &sdk_read),
            cpu(&write, &read),
        );
    }
    println!(
        "CPU: seconds a GiB, of everything (the server and the program that reads or writes included)"
    );
}

struct Measured {
    took: Duration,
    /// Of this process, which runs the server, the SDK's loop and the program that reads and
    /// writes, and of the mount's.
    cpu: f64,
}

fn measured(mount: Option<u32>, work: impl FnOnce()) -> Measured {
    let cpu = || cpu_seconds(std::process::id()) + mount.map_or(0.0, cpu_seconds);
    let before = cpu();
    let took = timed(work);
    Measured {
        took,
        cpu: cpu() - before,
    }
}

fn write_file(path: &std::path::Path, mib: usize, block: &Bytes) {
    let mut file = fs::File::create(path).expect("create");
    for _ in 0..mib {
        file.write_all(block).expect("write");
    }
    file.sync_all().expect("fsync");
}

fn read_file(path: &std::path::Path, mib: usize) {
    let mut file = fs::File::open(path).expect("open");
    let mut buffer = vec![0; MIB];
    let mut got = 0;
    loop {
        let n = file.read(&mut buffer).expect("read");
        if n == 0 {
            break;
        }
        got += n;
    }
    assert_eq!(got, mib * MIB);
}

async fn upload(client: &Client, key: &str, mib: usize, block: &Bytes) {
    let part: Bytes = std::iter::repeat_n(block.as_ref(), PART / MIB)
        .collect::<Vec<_>>()
        .concat()
        .into();
    let upload = client
        .create_multipart_upload()
        .bucket(BUCKET)
        .key(key)
        .send()
        .await
        .expect("create");
    let id = upload.upload_id().expect("id");
    let parts: Vec<CompletedPart> = stream::iter(1..=(mib * MIB / PART) as i32)
        .map(|number| {
            let body = part.clone().into();
            async move {
                let sent = client
                    .upload_part()
                    .bucket(BUCKET)
                    .key(key)
                    .upload_id(id)
                    .part_number(number)
                    .body(body)
                    .send()
                    .await
                    .expect("part");
                CompletedPart::builder()
                    .part_number(number)
                    .set_e_tag(sent.e_tag().map(str::to_owned))
                    .set_checksum_crc32(sent.checksum_crc32().map(str::to_owned))
                    .build()
            }
        })
        .buffered(PARALLEL)
        .collect()
        .await;
    let all = CompletedMultipartUpload::builder()
        .set_parts(Some(parts))
        .build();
    client
        .complete_multipart_upload()
        .bucket(BUCKET)
        .key(key)
        .upload_id(id)
        .multipart_upload(all)
        .send()
        .await
        .expect("complete");
}

async fn download(client: &Client, key: &str, mib: usize) {
    let got: usize = stream::iter(0..mib * MIB / PART)
        .map(|part| async move {
            let range = format!("bytes={}-{}", part * PART, (part + 1) * PART - 1);
            let mut body = client
                .get_object()
                .bucket(BUCKET)
                .key(key)
                .range(range)
                .send()
                .await
                .expect("get")
                .body;
            let mut got = 0;
            while let Some(chunk) = body.next().await {
                got += chunk.expect("chunk").len();
            }
            got
        })
        .buffered(PARALLEL)
        .fold(0, |sum, got| async move { sum + got })
        .await;
    assert_eq!(got, mib * MIB);
}

/// User and system time of a process so far.
fn cpu_seconds(pid: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("stat");
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .expect("fields")
        .split_whitespace()
        .collect();
    let ticks: f64 =
        fields[11].parse::<f64>().expect("utime") + fields[12].parse::<f64>().expect("stime");
    ticks / 100.0
}
