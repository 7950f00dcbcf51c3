//! Large files: the first reader passes the kernel's page cache by, later ones use it, and nobody
//! can tell by the bytes.

use std::{
    fs::{self, File, OpenOptions},
    os::unix::fs::FileExt,
    path::Path,
};

use crate::support::{
    commands::shell,
    mount::Mount,
    site::{Site, Transport},
};

/// The noise at the beginning of the file.
const LEN: usize = 24 << 20;

/// A hole follows up to here, and makes the file large enough to be streamed.
const LARGE: u64 = 513 << 20;

/// A volume with one large file that begins with noise, mounted anew, and the noise.
fn with_large_file(site: &Site) -> (Mount<'_>, Vec<u8>) {
    let mount = site.mount();
    let noise = write_noise(&mount.dir.join("large"));
    mount.unmount();
    (site.mount(), noise)
}

fn write_noise(path: &Path) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(LEN);
    while bytes.len() < LEN {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    fs::write(path, &bytes).unwrap();
    let file = OpenOptions::new().write(true).open(path).unwrap();
    file.set_len(LARGE).unwrap();
    bytes
}

/// The noise as it is read in one go.
fn read_noise(path: &Path) -> Vec<u8> {
    let mut bytes = vec![0; LEN];
    File::open(path)
        .unwrap()
        .read_exact_at(&mut bytes, 0)
        .unwrap();
    bytes
}

/// Reads the noise in pieces of uneven sizes that fit no page.
fn read_unevenly(path: &Path) -> Vec<u8> {
    let file = File::open(path).unwrap();
    let mut bytes = Vec::with_capacity(LEN);
    let mut piece = vec![0; 1_500_001];
    for want in [1, 4095, 70_001, 1_500_001, 10, 131_072]
        .into_iter()
        .cycle()
    {
        let want = want.min(LEN - bytes.len());
        if want == 0 {
            return bytes;
        }
        let got = file
            .read_at(&mut piece[..want], bytes.len() as u64)
            .unwrap();
        bytes.extend_from_slice(&piece[..got]);
    }
    unreachable!("the sizes go round for ever")
}

#[test]
fn a_large_file_reads_the_same_streamed_cached_and_mapped() {
    let site = Site::start(Transport::Plain);
    let (mount, noise) = with_large_file(&site);
    let path = mount.dir.join("large");
    let streaming = File::open(&path).unwrap();
    let mapped = format!(
        "import mmap, sys
with open('large', 'rb') as f:
    for flags in mmap.MAP_SHARED, mmap.MAP_PRIVATE:
        with mmap.mmap(f.fileno(), 0, flags, mmap.PROT_READ) as m:
            sys.stdout.buffer.write(__import__('hashlib').sha256(m[:{LEN}]).hexdigest().encode() + b' ')"
    );
    fs::write(site.path().join("mapped.py"), mapped).unwrap();
    let line = format!(
        "python3 {}; head -c {LEN} large | sha256sum",
        site.path().join("mapped.py").display()
    );
    let sums = shell(&mount.dir, &line);
    let sums: Vec<&str> = sums.split_whitespace().take(3).collect();
    assert!(sums.iter().all(|sum| *sum == sums[2]), "{sums:?}");

    let mut streamed = vec![0; LEN];
    streaming.read_exact_at(&mut streamed, 0).unwrap();
    drop(streaming);
    assert!(streamed == noise, "the streamed bytes differ");
    assert!(read_unevenly(&path) == noise, "the cached bytes differ");
    mount.unmount();

    let mount = site.mount();
    assert!(
        read_unevenly(&mount.dir.join("large")) == noise,
        "the unevenly streamed bytes differ"
    );
    mount.unmount();
}

#[test]
fn what_is_read_a_second_time_comes_from_the_page_cache_from_then_on() {
    let site = Site::start(Transport::Plain);
    let (mount, noise) = with_large_file(&site);
    let path = mount.dir.join("large");
    let moved_by = |reading: &str| {
        let before = site.stats().socket_bytes_written;
        assert!(read_noise(&path) == noise, "{reading}");
        site.stats().socket_bytes_written - before
    };
    assert!(moved_by("first") >= LEN as u64);
    assert!(moved_by("second") <= LEN as u64 + (1 << 20));
    let third = moved_by("third");
    assert!(third < 1 << 20, "{third} bytes moved for cached pages");
    mount.unmount();
}

#[test]
fn a_streaming_reader_sees_what_is_written_beside_it() {
    let site = Site::start(Transport::Plain);
    let (mount, noise) = with_large_file(&site);
    let path = mount.dir.join("large");
    let reader = File::open(&path).unwrap();
    let mut bytes = [0; 64];
    reader.read_exact_at(&mut bytes, 5_000_000).unwrap();
    assert_eq!(bytes, noise[5_000_000..5_000_064]);

    let writer = OpenOptions::new()
        .read(true)
        .write(true)
        .open(&path)
        .unwrap();
    writer
        .write_all_at(b"written beside it", 5_000_003)
        .unwrap();
    reader.read_exact_at(&mut bytes, 5_000_000).unwrap();
    assert_eq!(
        &bytes[..20],
        [&noise[5_000_000..5_000_003], b"written beside it"].concat()
    );

    let mapped = "import mmap
with open('large', 'r+b') as f:
    m = mmap.mmap(f.fileno(), 0)
    m[9000000:9000014] = b'through memory'
    with open('large', 'rb') as g:
        g.seek(9000000)
        assert g.read(14) == b'through memory'
    input()";
    fs::write(site.path().join("mapped.py"), mapped).unwrap();
    shell(
        &mount.dir,
        &format!("echo | python3 {}", site.path().join("mapped.py").display()),
    );
    reader.read_exact_at(&mut bytes[..14], 9_000_000).unwrap();
    assert_eq!(&bytes[..14], b"through memory");

    writer.set_len(6_000_000).unwrap();
    assert_eq!(reader.read_at(&mut bytes, 5_999_990).unwrap(), 10);
    assert_eq!(reader.read_at(&mut bytes, 9_000_000).unwrap(), 0);
    drop((reader, writer));
    mount.unmount();
}
