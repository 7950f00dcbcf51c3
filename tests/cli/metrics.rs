//! `--metrics-listen`: metrics of a real mount over real sockets, read strictly.

use std::{
    fs::{self, File},
    net::SocketAddr,
    os::unix::{fs::PermissionsExt, net::UnixListener, process::CommandExt},
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use strongroom::{
    server::{Faults, Outage},
    session::Exit,
};

use crate::{
    running::{BackgroundMount, assert_refused},
    support::{
        commands::text,
        mount::Mount,
        openmetrics::{Exposition, answer_at, scrape, scrape_port},
        site::{Site, Transport},
        wait::{SOON, block_until},
    },
};

/// Operations of S3, and the counter of `status` that counts them with others.
const OPERATIONS: [(&str, &[&str]); 7] = [
    ("get_requests", &["GetObject"]),
    ("put_requests", &["PutObject", "CreateBucket"]),
    ("part_requests", &["UploadPart"]),
    (
        "multipart_requests",
        &[
            "CreateMultipartUpload",
            "CompleteMultipartUpload",
            "AbortMultipartUpload",
            "ListParts",
            "ListMultipartUploads",
        ],
    ),
    ("head_requests", &["HeadObject", "HeadBucket"]),
    ("list_requests", &["ListObjectsV2"]),
    ("delete_requests", &["DeleteObject", "DeleteObjects"]),
];

fn requests(metrics: &Exposition, operations: &[&str]) -> f64 {
    let of =
        |operation: &&str| metrics.sum("strongroom_store_requests_total", ("operation", operation));
    operations.iter().map(of).sum()
}

/// Metrics and status of a moment in which no request ended.
fn same_moment(mount: &Mount<'_>, socket: &std::path::Path) -> (Exposition, serde_json::Value) {
    let all = |metrics: &Exposition| OPERATIONS.map(|(_, names)| requests(metrics, names));
    let mut found = None;
    block_until("the store is left alone for a moment", SOON, || {
        let before = scrape(socket);
        let status = mount.status();
        let after = scrape(socket);
        let in_flight = after.value("strongroom_store_requests_in_flight", &[]);
        after.assert_grown_since(&before);
        let quiet = all(&before) == all(&after) && in_flight == 0.0;
        if quiet {
            found = Some((after, status));
        }
        quiet
    });
    found.expect("found")
}

#[test]
fn metrics_under_load_are_well_formed_and_say_what_status_says() {
    let mut site = Site::start(Transport::Plain);
    site.disk_cache = "64MiB";
    let socket = site.path().join("metrics.sock");
    let mount = site.mount_with(&["--metrics-listen", &format!("unix:{}", socket.display())]);
    let mode = fs::metadata(&socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for writer in 0..3 {
            let (dir, done) = (&mount.dir, &done);
            scope.spawn(move || {
                let mut round = 0;
                while round < 2 || !done.load(Ordering::Relaxed) {
                    let path = dir.join(format!("{writer}-{}", round % 4));
                    fs::write(&path, vec![round as u8; 300_000]).unwrap();
                    File::open(&path).unwrap().sync_all().unwrap();
                    assert_eq!(fs::read(&path).unwrap().len(), 300_000);
                    round += 1;
                }
            });
        }
        let mut before = scrape(&socket);
        for _ in 0..20 {
            let now = scrape(&socket);
            now.assert_grown_since(&before);
            before = now;
        }
        done.store(true, Ordering::Relaxed);
    });

    let (metrics, status) = same_moment(&mount, &socket);
    for (counter, operations) in OPERATIONS {
        let counted = status["counters"][counter].as_f64().unwrap();
        assert_eq!(requests(&metrics, operations), counted, "{counter}");
    }
    for (name, counter) in [
        ("strongroom_store_received_bytes_total", "received_bytes"),
        ("strongroom_store_sent_bytes_total", "sent_bytes"),
        ("strongroom_store_retries_total", "retries"),
        (
            "strongroom_authentication_failures_total",
            "authentication_failures",
        ),
        ("strongroom_metadata_flushes_total", "meta_flushes"),
    ] {
        let counted = status["counters"][counter].as_f64().unwrap();
        assert_eq!(metrics.value(name, &[]), counted, "{name}");
    }
    for (family, counter) in [("cache_hits", "hits"), ("cache_misses", "misses")] {
        let name = format!("strongroom_{family}_total");
        let memory = metrics.value(&name, &[("cache", "memory")]);
        assert_eq!(
            memory,
            status["counters"][family].as_f64().unwrap(),
            "{family}"
        );
        let disk = metrics.value(&name, &[("cache", "disk")]);
        assert_eq!(
            disk,
            status["disk_cache"][counter].as_f64().unwrap(),
            "{family}"
        );
    }
    let put = [("operation", "PutObject"), ("outcome", "ok")];
    let puts = metrics.value("strongroom_store_requests_total", &put);
    assert!(puts >= 6.0, "{puts} PUTs");
    let put = [("operation", "PutObject")];
    let timed = metrics.value("strongroom_store_request_duration_seconds_count", &put);
    let cancelled = [("operation", "PutObject"), ("outcome", "cancelled")];
    let cancelled = metrics.value("strongroom_store_requests_total", &cancelled);
    assert_eq!(timed, requests(&metrics, &["PutObject"]) - cancelled);
    let writes = [("operation", "write")];
    let written = metrics.value("strongroom_fuse_requests_total", &writes);
    assert_eq!(
        written,
        status["kernel_requests"]["write"].as_f64().unwrap()
    );
    let timed = metrics.value("strongroom_fuse_request_duration_seconds_count", &writes);
    assert_eq!(timed, written);
    let syncs = [("operation", "fsync")];
    let sum = metrics.value("strongroom_fuse_request_duration_seconds_sum", &syncs);
    assert!(sum > 0.0);
    let limit = metrics.value("strongroom_memory_limit_bytes", &[]);
    assert_eq!(limit, status["memory"]["limit_bytes"].as_f64().unwrap());
    assert!(metrics.value("strongroom_memory_resident_bytes", &[]) > 1e6);
    assert!(metrics.value("strongroom_memory_owner_peak_bytes", &[("owner", "dirty")]) > 0.0);
    assert!(metrics.value("strongroom_lease_age_seconds", &[]) < 60.0);
    assert_eq!(
        metrics.value("strongroom_mount_state", &[("state", "mounted")]),
        1.0
    );
    assert_eq!(
        metrics.value("strongroom_mount_state", &[("state", "lost")]),
        0.0
    );
    let version = [("version", env!("CARGO_PKG_VERSION"))];
    assert_eq!(metrics.value("strongroom_build_info", &version), 1.0);

    // Nothing that could name what is stored, or where.
    let (_, body) = answer_at(&socket, b"GET /metrics HTTP/1.1\r\n\r\n").unwrap();
    for name in ["laptop", "s3://", text(&mount.dir)] {
        assert!(!body.contains(name), "{name}");
    }
    mount.unmount();
    assert!(!socket.exists(), "the socket goes with the mount");
}

#[test]
fn every_family_is_documented() {
    let mut site = Site::start(Transport::Plain);
    site.disk_cache = "64MiB";
    let socket = site.path().join("metrics.sock");
    let mount = site.mount_with(&["--metrics-listen", &format!("unix:{}", socket.display())]);
    fs::write(mount.dir.join("file"), vec![1; 3 << 20]).unwrap();
    File::open(mount.dir.join("file"))
        .unwrap()
        .sync_all()
        .unwrap();
    let metrics = scrape(&socket);
    mount.unmount();
    let page = fs::read_to_string("docs/operations.md").unwrap();
    for (name, family) in &metrics.families {
        let row = format!("| `{name}` | {} |", family.kind);
        assert!(page.contains(&row), "docs/operations.md lacks: {row}");
    }
}

#[test]
fn an_outage_shows_in_lag_trouble_and_outcomes() {
    let site = Site::start(Transport::Plain);
    let socket = site.path().join("metrics.sock");
    let mount = site.mount_with(&["--metrics-listen", &format!("unix:{}", socket.display())]);
    fs::write(mount.dir.join("before"), b"x").unwrap();
    File::open(mount.dir.join("before"))
        .unwrap()
        .sync_all()
        .unwrap();
    let refuse = Faults {
        outage: Outage::Refuse,
        ..Faults::default()
    };
    site.server().set_faults(refuse).unwrap();
    fs::write(mount.dir.join("during"), vec![1; 1 << 20]).unwrap();
    let gauge = |name: &str| scrape(&socket).value(name, &[]);
    block_until("the outage shows", Duration::from_secs(60), || {
        gauge("strongroom_trouble") == 1.0
            && gauge("strongroom_durability_lag_seconds") > 6.0
            && gauge("strongroom_store_retries_total") > 0.0
    });
    assert!(gauge("strongroom_dirty_bytes") >= f64::from(1 << 20));
    let failed = scrape(&socket);
    let failed = ["unreachable", "unavailable"]
        .map(|outcome| failed.sum("strongroom_store_requests_total", ("outcome", outcome)));
    assert!(failed.iter().sum::<f64>() > 0.0, "{failed:?}");
    site.server().set_faults(Faults::default()).unwrap();
    block_until("all is stored", Duration::from_secs(60), || {
        gauge("strongroom_dirty_bytes") == 0.0 && gauge("strongroom_durability_lag_seconds") == 0.0
    });
    mount.unmount();
}

#[test]
fn metrics_can_be_had_at_a_port_until_the_mount_ends() {
    let site = Site::start(Transport::Plain);
    let mount = site.mount_with(&["-o", "metrics-listen=127.0.0.1:0"]);
    let log = mount.log_text();
    let address = log
        .split("metrics are at http://")
        .nth(1)
        .expect("an address");
    let address: SocketAddr = address.split('/').next().unwrap().parse().unwrap();
    let metrics = scrape_port(address);
    assert_eq!(metrics.value("strongroom_read_only", &[]), 0.0);
    mount.unmount();
    assert!(std::net::TcpStream::connect(address).is_err());
}

#[test]
fn an_address_that_cannot_be_used_is_an_error_of_mount() {
    let site = Site::start(Transport::Plain);
    let mount = BackgroundMount::prepare(&site, "refused");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let file = site.path().join("pass");
    let (file, nowhere) = (format!("unix:{}", file.display()), "unix:/nowhere/at/all");
    let living = site.path().join("living.sock");
    let _listener = UnixListener::bind(&living).unwrap();
    let living = format!("unix:{}", living.display());
    for (address, words) in [
        (taken.as_str(), [taken.as_str(), "somebody listens there"]),
        (
            "192.0.2.1:9464",
            ["192.0.2.1:9464", "an address of this machine"],
        ),
        (&file, ["no socket", "choose another"]),
        (nowhere, ["/nowhere/at/all", "choose another"]),
        (&living, ["living.sock", "somebody listens there"]),
    ] {
        let mut command = mount.command(&site, &["--metrics-listen", address]);
        assert_refused(&mut command, Exit::MetricsAddress, &words);
    }
    for (options, word) in [
        (["--metrics-listen", "9464"], "127.0.0.1:9464"),
        (["-o", "metrics-listen=localhost:1"], "'metrics-listen'"),
    ] {
        let mut command = mount.command(&site, &options);
        assert_refused(&mut command, Exit::Usage, &[word]);
    }
    // Nothing of these holds the volume, and a socket that a killed process left is no obstacle.
    let socket = site.path().join("metrics.sock");
    let listen = format!("unix:{}", socket.display());
    let mut killed = site.mount_with(&["--metrics-listen", &listen]);
    killed.kill_process();
    assert!(socket.exists());
    drop(killed);
    mount.mount(&site, &["--takeover", "--metrics-listen", &listen]);
    assert_eq!(scrape(&socket).value("strongroom_failed", &[]), 0.0);
    mount.umount(&site);
    assert!(!socket.exists());
}

#[test]
fn other_users_reach_no_socket_in_the_filesystem() {
    let mut site = Site::start(Transport::Plain);
    // The mode is not left to the mask.
    site.wrapper = ["sh", "-c", "umask 0; exec \"$0\" \"$@\""]
        .map(str::to_owned)
        .into();
    let dir = tempfile::Builder::new()
        .permissions(fs::Permissions::from_mode(0o755))
        .tempdir()
        .unwrap();
    let socket = dir.path().join("metrics.sock");
    let mount = site.mount_with(&["--metrics-listen", &format!("unix:{}", socket.display())]);
    let connect = format!(
        "import socket; socket.socket(socket.AF_UNIX).connect({:?})",
        text(&socket)
    );
    let mut tried = Command::new("python3");
    tried.args(["-c", &connect]).uid(12345).gid(12345);
    let tried = tried.current_dir("/").output().unwrap();
    let said = String::from_utf8_lossy(&tried.stderr);
    assert!(said.contains("PermissionError"), "{said}");
    mount.unmount();
}
