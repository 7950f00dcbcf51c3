//! Requests that reach the mount and the store, and how long a caller waits for them.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
    time::{Duration, Instant},
};

use strongroom::{fs::FsConfig, fuse::MountOptions};

use crate::support::{volume::TestVolume, wait::eventually};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mount_asks_itself_for_nothing() {
    let volume = TestVolume::new().await;
    let at = volume.mount().await;
    let requests = &at.opened.metrics.kernel_requests;
    assert_eq!(requests.by_name(), Default::default());
    fs::metadata(at.root()).unwrap();
    assert!(requests.total() > 0, "requests are counted");
    at.unmount().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_kernel_answers_repeated_questions_by_itself() {
    let volume = TestVolume::new().await;
    let at = volume.mount().await;
    fs::create_dir(at.path("d")).unwrap();
    fs::write(at.path("d/f"), vec![1; 200_000]).unwrap();
    File::open(at.path("d/f")).unwrap().sync_all().unwrap();
    let look = || {
        fs::metadata(at.path("d/f")).unwrap();
        assert!(fs::metadata(at.path("d/none")).is_err());
        assert_eq!(fs::read_dir(at.path("d")).unwrap().count(), 1);
        assert_eq!(fs::read(at.path("d/f")).unwrap().len(), 200_000);
    };
    look();
    look();
    let before = at.opened.metrics.kernel_requests.total();
    for _ in 0..10 {
        look();
    }
    let requests = at.opened.metrics.kernel_requests.total() - before;
    // Each round takes open and release of the file and of the directory. Releases are not waited
    // for: those of the rounds before may be among them.
    assert!(requests <= 10 * 4 + 4, "{requests} requests for ten rounds");
    at.unmount().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_costs_one_request() {
    let volume = TestVolume::new().await;
    let at = volume.mount().await;
    let file = File::create_new(at.path("f")).unwrap();
    file.write_at(&[0; 4096], 0).unwrap();
    let before = at.opened.metrics.kernel_requests.total();
    for number in 1..=100 {
        file.write_at(&[1; 4096], number * 4096).unwrap();
    }
    let requests = at.opened.metrics.kernel_requests.total() - before;
    assert!(requests <= 105, "{requests} requests for 100 writes");
    drop(file);
    at.unmount().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_the_store_does_not_answer_ends_at_its_deadline() {
    let volume = TestVolume::new().await;
    let at = volume.mount().await;
    fs::write(at.path("f"), vec![9; 1 << 20]).unwrap();
    at.unmount().await;
    let at = volume
        .mount_with(
            FsConfig::default(),
            MountOptions {
                timeout: Duration::from_millis(700),
                ..MountOptions::default()
            },
        )
        .await;
    fs::metadata(at.path("f")).unwrap();
    volume.server.set_faults(strongroom::server::Faults {
        latency: Duration::from_secs(3600),
        ..Default::default()
    });
    let path = at.path("f");
    let began = Instant::now();
    let read = tokio::task::spawn_blocking(move || fs::read(path))
        .await
        .unwrap();
    assert!(matches!(
        read.unwrap_err().raw_os_error(),
        Some(libc::EIO | libc::ETIMEDOUT)
    ));
    assert!(began.elapsed() < Duration::from_secs(30));
    volume.server.set_faults(Default::default());
    let path = at.path("f");
    eventually("reading works again", async || {
        let path = path.clone();
        tokio::task::spawn_blocking(move || fs::read(path))
            .await
            .unwrap()
            .is_ok_and(|contents| contents == vec![9; 1 << 20])
    })
    .await;
    at.unmount().await;
}
