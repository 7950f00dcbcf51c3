//! A provider that changes what it stores: EIO on what it touched, a log line that names object and
//! frame, and nothing else harmed.

use std::{
    collections::BTreeMap,
    fs,
    io::Read,
    os::unix::fs::MetadataExt,
    time::{Duration, Instant},
};

use crate::support::{
    mount::Mount,
    random::noise,
    site::{Site, Transport},
    wait::block_until,
};

const EIO: i32 = 5;

/// A file: its name, its contents, the keys of its objects.
type Victim = (String, Vec<u8>, Vec<String>);

/// Files each larger than a pack, so that each has objects of its own; written one mount after the
/// other.
fn volume_with_files() -> (Site, Vec<Victim>) {
    let site = Site::start(Transport::Plain);
    let mut files = Vec::new();
    let mut known: Vec<String> = Vec::new();
    for index in 0..3u64 {
        let mount = site.mount();
        let contents = noise(index + 1, 12 << 20);
        fs::write(mount.dir.join(format!("file{index}")), &contents).unwrap();
        mount.unmount();
        let keys = site.bucket().keys();
        let new: Vec<String> = keys
            .iter()
            .filter(|key| key.contains("/data/") && !known.contains(key))
            .cloned()
            .collect();
        known = keys;
        assert!(!new.is_empty());
        files.push((format!("file{index}"), contents, new));
    }
    (site, files)
}

/// Reads to the first error; what came before must be right.
fn read_until_error(path: &std::path::Path, contents: &[u8]) -> (usize, Option<i32>) {
    let mut file = fs::File::open(path).unwrap();
    let mut got = Vec::new();
    let mut buffer = vec![0; 64 << 10];
    let error = loop {
        match file.read(&mut buffer) {
            Ok(0) => break None,
            Ok(n) => got.extend_from_slice(&buffer[..n]),
            Err(error) => break error.raw_os_error(),
        }
    };
    assert!(
        contents.starts_with(&got),
        "a byte of a bad frame reached the reader"
    );
    (got.len(), error)
}

fn expect_eio(change: impl Fn(&Site, &[Victim]), names_frame: bool) {
    let (site, files) = volume_with_files();
    change(&site, &files);
    let mount = site.mount();
    let (got, error) = read_until_error(&mount.dir.join("file0"), &files[0].1);
    assert_eq!(error, Some(EIO), "file0 read {got} bytes");
    let log = mount.log_text();
    let key = files[0].2[0].strip_prefix("laptop/").unwrap();
    assert!(log.contains(key), "the log does not name {key}:\n{log}");
    assert!(
        !names_frame || log.contains("frame"),
        "the log does not name the frame:\n{log}"
    );
    // The last file was never touched.
    assert_eq!(
        read_until_error(&mount.dir.join("file2"), &files[2].1),
        (files[2].1.len(), None)
    );
    mount.unmount();
}

#[test]
fn a_flipped_bit_in_a_data_object_is_eio_and_no_byte_of_its_frame_is_read() {
    expect_eio(
        |site, files| {
            let key = &files[0].2[0];
            let mut object = site.bucket().get(key);
            let middle = object.len() / 2;
            object[middle] ^= 1;
            site.bucket().put(key, object);
        },
        true,
    );
}

#[test]
fn a_truncated_data_object_is_eio() {
    expect_eio(
        |site, files| {
            let key = &files[0].2[0];
            let mut object = site.bucket().get(key);
            object.truncate(object.len() / 2);
            site.bucket().put(key, object);
        },
        false,
    );
}

#[test]
fn two_swapped_data_objects_are_eio() {
    expect_eio(
        |site, files| {
            let (first, second) = (&files[0].2[0], &files[1].2[0]);
            let (a, b) = (site.bucket().get(first), site.bucket().get(second));
            site.bucket().put(first, b);
            site.bucket().put(second, a);
        },
        false,
    );
}

#[test]
fn a_missing_data_object_is_eio() {
    expect_eio(|site, files| site.bucket().delete(&files[0].2[0]), false);
}

#[test]
fn a_flipped_bit_in_a_metadata_object_is_an_error_and_never_a_wrong_answer() {
    let (site, files) = volume_with_files();
    let good: BTreeMap<String, Vec<u8>> = site
        .bucket()
        .keys()
        .into_iter()
        .map(|key| (key.clone(), site.bucket().get(&key)))
        .collect();
    let mut refused = 0;
    for (key, object) in good.iter().filter(|(key, _)| key.contains("/meta/")) {
        let mut bad = object.clone();
        let at = bad.len() - 20;
        bad[at] ^= 0x10;
        site.bucket().put(key, bad);
        let mut mount = site.begin_mount(&["--read-only"]);
        let started = std::time::Instant::now();
        let mounted = loop {
            if mount.is_mounted() {
                break true;
            }
            if mount.has_ended() {
                break false;
            }
            assert!(
                started.elapsed().as_secs() < 60,
                "{key}: the mount neither works nor ends"
            );
            std::thread::sleep(std::time::Duration::from_millis(20));
        };
        if mounted {
            for (name, contents, _) in &files {
                match fs::read(mount.dir.join(name)) {
                    Ok(found) => assert!(found == *contents, "{key}: wrong contents"),
                    Err(error) => {
                        refused += 1;
                        assert_eq!(error.raw_os_error(), Some(EIO), "{key}: {error}");
                    }
                }
            }
            mount.let_go();
        } else {
            refused += 1;
        }
        mount.wait_gone();
        site.bucket().put(key, object.clone());
    }
    assert!(
        refused > 0,
        "no flipped bit in the metadata was ever noticed"
    );
    let mount = site.mount();
    for (name, contents, _) in &files {
        assert!(fs::read(mount.dir.join(name)).unwrap() == *contents);
    }
    mount.unmount();
}

#[test]
fn an_old_header_put_back_is_refused_by_a_machine_that_knew_the_new_one() {
    let site = Site::start(Transport::Plain);
    let mount = site.mount();
    let state = mount.state.clone();
    mount.unmount();
    let old: BTreeMap<String, Vec<u8>> = site
        .bucket()
        .keys()
        .into_iter()
        .map(|key| (key.clone(), site.bucket().get(&key)))
        .collect();
    let state_option = ["--state-dir", state.to_str().unwrap()];
    let mount = site.mount_with(&state_option);
    fs::write(mount.dir.join("new"), b"new").unwrap();
    mount.unmount();
    for key in site.bucket().keys() {
        site.bucket().delete(&key);
    }
    for (key, object) in old {
        site.bucket().put(&key, object);
    }
    let mut refused = site.begin_mount(&state_option);
    let code = refused.wait_gone();
    assert_ne!(code, 0, "a volume that went back in time was mounted");
    assert!(
        refused.log_text().contains("--allow-rollback"),
        "{}",
        refused.log_text()
    );
    let allowed = site.mount_with(&["--state-dir", state.to_str().unwrap(), "--allow-rollback"]);
    allowed.unmount();
}

/// Many programs read a file to its first error, all at once.
fn read_in_vain(mount: &Mount<'_>, name: &str, readers: usize) {
    std::thread::scope(|scope| {
        for _ in 0..readers {
            scope.spawn(|| {
                let mut file = fs::File::open(mount.dir.join(name)).unwrap();
                let error = file.read(&mut [0; 4096]).unwrap_err();
                assert_eq!(error.raw_os_error(), Some(EIO));
            });
        }
    });
}

fn counter(mount: &Mount<'_>, name: &str) -> u64 {
    mount.status()["counters"][name].as_u64().unwrap()
}

#[test]
fn a_failed_read_is_one_line_that_names_inode_and_reason_and_is_counted_for_what_it_is() {
    let (site, files) = volume_with_files();
    let (gone, flipped) = (&files[0].2[0], &files[1].2[0]);
    site.bucket().delete(gone);
    let mut object = site.bucket().get(flipped);
    object[200] ^= 1;
    site.bucket().put(flipped, object);
    let mount = site.mount();
    let inode = |name: &str| fs::metadata(mount.dir.join(name)).unwrap().ino();

    let began = Instant::now();
    for _ in 0..4 {
        read_in_vain(&mount, "file0", 16);
    }
    // One more, when the lines before it are over a second old.
    block_until("time passes", Duration::from_secs(20), || {
        read_in_vain(&mount, "file0", 1);
        mount.log_text().contains("more since the last such line")
    });
    assert_eq!(counter(&mount, "missing_objects"), 1);
    assert_eq!(counter(&mount, "authentication_failures"), 0);
    assert!(counter(&mount, "fuse_errors") >= 65);
    let log = mount.log_text();
    let errors: Vec<&str> = log.lines().filter(|line| line.contains("ERROR")).collect();
    let lines_max = began.elapsed().as_secs() as usize + 1;
    assert!((2..=lines_max).contains(&errors.len()), "{log}");
    let key = gone.strip_prefix("laptop/").unwrap();
    let ino = format!("read{{ino:{} ", inode("file0"));
    for line in &errors {
        let named = line.contains(&ino) && line.contains(key);
        assert!(named && line.contains("missing from the bucket"), "{line}");
    }

    read_in_vain(&mount, "file1", 1);
    assert_eq!(counter(&mount, "missing_objects"), 1);
    assert!(counter(&mount, "authentication_failures") > 0);
    let log = mount.log_text();
    let ino = format!("read{{ino:{} ", inode("file1"));
    let of_it = log
        .lines()
        .filter(|line| line.contains("ERROR") && line.contains(&ino));
    assert_eq!(of_it.count(), 1, "{log}");
    assert!(log.contains("does not authenticate"), "{log}");
    mount.unmount();
}
