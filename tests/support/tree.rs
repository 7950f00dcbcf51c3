//! Trees of files to back up, and snapshots of trees to compare.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    fs,
    io::{Read, Write},
    os::unix::{ffi::OsStrExt, fs::MetadataExt},
    path::Path,
    process::Command,
};

use sha2::{Digest, Sha256};

use super::{commands::shell, random::noise};

/// A mixed tree of about `mib` MiB: many small files, some middle-sized, a few large ones,
/// compressible and not.
pub fn mixed(dir: &Path, mib: u64) {
    let mut seed = 1;
    let mut next = |len: usize| {
        seed += 1;
        noise(seed, len)
    };
    for index in 0..1200usize {
        let sub = dir.join(format!("docs/{:02}", index % 40));
        fs::create_dir_all(&sub).expect("directory");
        fs::write(
            sub.join(format!("note-{index}.txt")),
            next(200 + (index * 37) % 15_000),
        )
        .expect("small file");
    }
    fs::create_dir_all(dir.join("photos")).expect("directory");
    let large = mib.saturating_sub(10) << 20;
    let mut written = 0u64;
    let mut index = 0u64;
    while written < large {
        let len = match index % 4 {
            0 => 24 << 20,
            1 => 3 << 20,
            2 => 700_001,
            _ => 9_437_185,
        };
        fs::write(dir.join(format!("photos/img-{index:04}.raw")), next(len)).expect("large file");
        written += len as u64;
        index += 1;
    }
    fs::write(
        dir.join("log.txt"),
        "the same line again and again\n".repeat(200_000),
    )
    .expect("log");
    fs::write(dir.join("empty"), b"").expect("empty file");
}

/// A tree of everything that `rsync -aHAX` must carry: links, holes, attributes, ACLs, odd names,
/// old times.
pub fn odd(dir: &Path) {
    let script = r#"
        mkdir -p sub/deep/deeper perm
        head -c 100000 /dev/urandom > file
        ln file sub/hard1; ln file sub/deep/hard2
        ln -s file link; ln -s /nowhere/at/all dangling; ln -s ../.. sub/deep/up
        truncate -s 50M sparse; printf middle | dd of=sparse bs=1 seek=20000000 conv=notrunc status=none
        truncate -s 3G hole-only
        printf x > perm/suid; chmod 4755 perm/suid; printf x > perm/ro; chmod 0400 perm/ro; mkdir perm/sticky; chmod 1777 perm/sticky
        chown 1234:4321 perm/ro; chmod 2775 sub
        setfattr -n user.comment -v 'an attribute' file
        setfattr -n user.binary -v 0x00ff10200a0d file
        setfattr -n user.long -v "$(head -c 3000 /dev/zero | tr '\0' 'v')" sub
        setfattr -n trusted.only -v root perm
        setfacl -m u:1001:rw,g:1002:r file; setfacl -m u:1001:rwx,d:u:1003:rx,d:g::r sub/deep
        mkfifo fifo; mknod dev c 1 3
        touch -d '1965-03-04 05:06:07.123456789 UTC' old; touch -d '1969-12-31 23:59:59.999999999 UTC' before-epoch
        touch -d '2242-01-01 00:00:00.000000001 UTC' future; touch -h -d '1970-01-01 00:00:00.5 UTC' link
        touch -d '1960-01-01 00:00:00.25 UTC' sub/deep/deeper
    "#;
    shell(dir, script);
    let long = OsStr::from_bytes(&[b'n'; 255]);
    fs::write(dir.join(long), b"long name").expect("255-byte name");
    for name in [
        &b"not-utf8-\xff\xfe\x80"[..],
        b"new\nline",
        b" lead and trail ",
        b"-dash",
        b"\"quotes'$`\\",
        "ünï-日本".as_bytes(),
        b"\x01\x7f",
    ] {
        fs::write(dir.join(OsStr::from_bytes(name)), name).expect("odd name");
    }
}

/// Everything that a restore must give back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    mode: u32,
    uid: u32,
    gid: u32,
    size: u64,
    mtime: (i64, i64),
    links: u64,
    device: u64,
    content: Vec<u8>,
    xattrs: BTreeMap<OsString, Vec<u8>>,
    /// First path with the same inode, for hard links.
    same_as: OsString,
}

/// A tree by relative path.
pub type Snapshot = BTreeMap<OsString, Entry>;

pub fn snapshot(root: &Path) -> Snapshot {
    let mut entries = Snapshot::new();
    let mut first_of: BTreeMap<u64, OsString> = BTreeMap::new();
    for entry in walkdir::WalkDir::new(root).sort_by_file_name() {
        let entry = entry.expect("walk");
        let path = entry.path();
        let relative = path
            .strip_prefix(root)
            .expect("below the root")
            .as_os_str()
            .to_owned();
        let meta = fs::symlink_metadata(path).expect("lstat");
        let content = if meta.is_symlink() {
            fs::read_link(path)
                .expect("readlink")
                .into_os_string()
                .as_bytes()
                .to_vec()
        } else if meta.is_file() {
            hash(path, meta.size())
        } else {
            Vec::new()
        };
        let same_as = if meta.is_dir() {
            relative.clone()
        } else {
            first_of
                .entry(meta.ino())
                .or_insert_with(|| relative.clone())
                .clone()
        };
        entries.insert(
            relative,
            Entry {
                mode: meta.mode(),
                uid: meta.uid(),
                gid: meta.gid(),
                size: if meta.is_dir() { 0 } else { meta.size() },
                mtime: (meta.mtime(), meta.mtime_nsec()),
                links: if meta.is_dir() { 0 } else { meta.nlink() },
                device: meta.rdev(),
                content,
                xattrs: if meta.is_symlink() {
                    BTreeMap::new()
                } else {
                    xattrs(path)
                },
                same_as,
            },
        );
    }
    entries
}

/// Content hash; of a very large (sparse) file only its ends and what lies at each 64 MiB.
fn hash(path: &Path, size: u64) -> Vec<u8> {
    let mut hasher = Sha256::new();
    let mut file = fs::File::open(path).expect("open");
    if size <= 1 << 31 {
        let mut buffer = vec![0; 1 << 20];
        loop {
            let n = file.read(&mut buffer).expect("read");
            if n == 0 {
                break;
            }
            hasher.update(&buffer[..n]);
        }
    } else {
        use std::os::unix::fs::FileExt;
        let mut buffer = vec![0; 4096];
        for at in (0..size).step_by(64 << 20) {
            let n = file.read_at(&mut buffer, at).expect("read");
            hasher.update(&buffer[..n]);
        }
    }
    hasher.finalize().to_vec()
}

fn xattrs(path: &Path) -> BTreeMap<OsString, Vec<u8>> {
    // -m - lists all namespaces; values in hex.
    let out = Command::new("getfattr")
        .args(["-d", "-m", "-", "-e", "hex", "--absolute-names", "-h", "--"])
        .arg(path)
        .output()
        .expect("getfattr");
    let mut found = BTreeMap::new();
    for line in out
        .stdout
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty() && line[0] != b'#')
    {
        if let Some(at) = line.iter().position(|byte| *byte == b'=') {
            found.insert(
                OsStr::from_bytes(&line[..at]).to_owned(),
                line[at + 1..].to_vec(),
            );
        }
    }
    found
}

/// Panics with the first differences.
pub fn assert_same(before: &Snapshot, after: &Snapshot, what: &str) {
    let mut differences = Vec::new();
    for (path, entry) in before {
        match after.get(path) {
            None => differences.push(format!("{path:?} is missing")),
            Some(other) if other != entry => {
                differences.push(format!("{path:?} differs:\n  {entry:?}\n  {other:?}"))
            }
            Some(_) => {}
        }
    }
    differences.extend(
        after
            .keys()
            .filter(|path| !before.contains_key(*path))
            .map(|path| format!("{path:?} is new")),
    );
    let _ = std::io::stderr().flush();
    assert!(
        differences.is_empty(),
        "{what}: {} differences\n{}",
        differences.len(),
        differences
            .iter()
            .take(5)
            .cloned()
            .collect::<Vec<_>>()
            .join("\n")
    );
}
