//! The kernel's caches: what it keeps, and must not go on believing.

use std::{
    fs::{self, OpenOptions, Permissions},
    io::Write,
    os::unix::{
        fs::{FileExt, MetadataExt, PermissionsExt},
        process::CommandExt,
    },
    path::Path,
    process::Command,
};

use crate::{
    mount_for_all,
    support::{opened::MountedVolume, volume::TestVolume},
};

/// Attempts of a process without privileges to change a program that is not its own; `seek` is
/// behind the program's last byte, within the file.
const MEDDLE: &str = "
import ctypes, mmap, os, sys
path, how, seek = sys.argv[1], sys.argv[2], int(sys.argv[3])
libc = ctypes.CDLL(None, use_errno=True)
def fallocate(mode, offset, length):
    if libc.fallocate(fd, mode, ctypes.c_long(offset), ctypes.c_long(length)): raise OSError(ctypes.get_errno(), how)
if how == 'trunc':
    os.open(path, os.O_WRONLY | os.O_TRUNC); sys.exit()
fd = os.open(path, os.O_RDWR | (os.O_DIRECT if how == 'direct' else 0))
if how == 'write': os.pwrite(fd, b'x', seek)
if how == 'direct':
    page = mmap.mmap(-1, 4096); os.lseek(fd, seek, 0); os.writev(fd, [page])
if how == 'fallocate': fallocate(0, seek, 10)
if how == 'extend': fallocate(0, seek, 1 << 20)
if how == 'keep': fallocate(1, seek, 1 << 20)
if how == 'punch': fallocate(3, seek, 4096)
if how == 'zero': fallocate(16, seek, 4096)
if how == 'ftruncate': os.ftruncate(fd, seek + 5)
if how == 'copy_file_range': os.copy_file_range(fd, fd, 100, 0, seek)
if how == 'splice':
    r, w = os.pipe(); os.write(w, b'x'); os.splice(r, fd, 1, offset_dst=seek)
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_that_somebody_else_changed_never_runs_with_its_owners_rights() {
    let volume = TestVolume::new().await;
    let at = mount_for_all(&volume, 0o755).await;
    let program = fs::read("/usr/bin/id").unwrap();
    let seek = (program.len() as u64).next_multiple_of(4096);
    let ways = [
        "write",
        "direct",
        "trunc",
        "fallocate",
        "extend",
        "keep",
        "punch",
        "zero",
        "ftruncate",
        "copy_file_range",
        "splice",
    ];
    let mut in_force = Vec::new();
    for how in ways {
        let path = at.path(how);
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&path)
            .unwrap();
        file.write_all_at(&program, 0).unwrap();
        file.set_len(seek + 8192).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o6777)).unwrap();
        drop(file);
        // Open beside the meddler, where it is root that puts the program back: root's writes keep
        // the bits.
        let kept = (how == "trunc").then(|| OpenOptions::new().write(true).open(&path).unwrap());
        let euid = |path: &Path| {
            let run = || Command::new(path).arg("-u").uid(65534).gid(65534).output();
            let output = loop {
                match run() {
                    // Somebody's descriptor for writing is still being closed.
                    Err(busy) if busy.raw_os_error() == Some(libc::ETXTBSY) && how != "trunc" => {}
                    output => break output.unwrap(),
                }
            };
            String::from_utf8(output.stdout).unwrap().trim().to_owned()
        };
        if kept.is_none() {
            assert_eq!(euid(&path), "0", "the bits are in force at first");
        }
        let meddled = Command::new("python3")
            .args(["-c", MEDDLE])
            .arg(&path)
            .args([how, &seek.to_string()])
            .uid(65534)
            .gid(65534)
            .output()
            .unwrap();
        assert!(
            meddled.status.success(),
            "{how}: {}",
            String::from_utf8_lossy(&meddled.stderr)
        );
        if let Some(kept) = kept {
            kept.write_all_at(&program, 0).unwrap();
            drop(kept);
        }
        if euid(&path) != "65534" {
            in_force.push(how);
        }
    }
    assert_eq!(in_force, Vec::<&str>::new());
    at.unmount().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ordinary_writes_to_a_set_id_program_by_root_keep_its_bits() {
    let volume = TestVolume::new().await;
    let at = volume.mount().await;
    let path = at.path("program");
    fs::write(&path, b"#!/bin/sh\n").unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o6755)).unwrap();
    let mut file = OpenOptions::new().append(true).open(&path).unwrap();
    file.write_all(b"true\n").unwrap();
    drop(file);
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o6755);
    at.unmount().await;
}

/// Writes blocks with O_DIRECT and libaio while others read them through the page cache; prints how
/// many were old after their write had ended.
const DIRECT_BESIDE_CACHED: &str = "
import ctypes, mmap, os, random, struct, sys
path, rounds, block, blocks, batch = sys.argv[1], int(sys.argv[2]), 4096, 64, 16
libc = ctypes.CDLL(None, use_errno=True)
context = ctypes.c_ulong(0)
assert libc.syscall(206, batch, ctypes.byref(context)) == 0
os.close(os.open(path, os.O_CREAT | os.O_WRONLY)); os.truncate(path, block * blocks)
readers = []
for seed in range(3):
    pid = os.fork()
    if pid == 0:
        fd = os.open(path, os.O_RDONLY); r = random.Random(seed)
        while os.getppid() != 1: os.pread(fd, block, r.randrange(blocks) * block)
        os._exit(0)
    readers.append(pid)
direct, cached = os.open(path, os.O_RDWR | os.O_DIRECT), os.open(path, os.O_RDONLY)
buffer = mmap.mmap(-1, block * batch)
address = ctypes.addressof(ctypes.c_char.from_buffer(buffer))
stale, r = 0, random.Random(9)
for stamp in range(1, rounds + 1):
    places = r.sample(range(blocks), batch)
    iocbs = []
    for slot, place in enumerate(places):
        buffer[slot * block:(slot + 1) * block] = struct.pack('<Q', stamp) * (block // 8)
        iocb = ctypes.create_string_buffer(struct.pack('<QIIHhIQQqQII', slot, 0, 0, 1, 0, direct, address + slot * block, block, place * block, 0, 0, 0), 64)
        iocbs.append(iocb)
    pointers = (ctypes.c_void_p * batch)(*[ctypes.addressof(i) for i in iocbs])
    done = 0
    while done < batch:
        n = libc.syscall(209, context, ctypes.c_long(batch - done), ctypes.byref(pointers, done * 8)); assert n > 0, ctypes.get_errno()
        done += n
    events, got = ctypes.create_string_buffer(32 * batch), 0
    while got < batch:
        n = libc.syscall(208, context, ctypes.c_long(1), ctypes.c_long(batch - got), events, None); assert n > 0
        got += n
    for place in places:
        if struct.unpack('<Q', os.pread(cached, 8, place * block))[0] != stamp: stale += 1
for pid in readers: os.kill(pid, 9); os.waitpid(pid, 0)
print(stale)
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cached_readers_see_what_was_written_asynchronously_past_the_cache() {
    let volume = TestVolume::new().await;
    let at = volume.mount().await;
    let path = at.path("f");
    let output = tokio::task::spawn_blocking(move || {
        Command::new("python3")
            .args(["-c", DIRECT_BESIDE_CACHED])
            .arg(path)
            .arg("150")
            .output()
            .unwrap()
    });
    let output = output.await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(said, "0\n", "{}", String::from_utf8_lossy(&output.stderr));
    at.unmount().await;
}

/// `handle PATH` prints a file handle; `open MOUNT HANDLE` prints what the handle leads to:
/// contents, or names, or the errno.
const HANDLES: &str = "
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
if sys.argv[1] == 'handle':
    handle = ctypes.create_string_buffer((128).to_bytes(4, 'little') + bytes(132), 136)
    mount = ctypes.c_int()
    assert libc.name_to_handle_at(-100, sys.argv[2].encode(), handle, ctypes.byref(mount), 0) == 0, ctypes.get_errno()
    print(handle.raw[:8 + int.from_bytes(handle.raw[:4], 'little')].hex())
else:
    at = os.open(sys.argv[2], os.O_RDONLY)
    handle = ctypes.create_string_buffer(bytes.fromhex(sys.argv[3]))
    fd = libc.open_by_handle_at(at, handle, os.O_RDONLY)
    if fd < 0: print('errno', ctypes.get_errno())
    else:
        try: print(os.read(fd, 100).decode())
        except IsADirectoryError: print(sorted(os.listdir(fd)), sorted(os.listdir(os.open('..', os.O_RDONLY, dir_fd=fd))))
";

fn handles(args: &[&str]) -> String {
    let output = Command::new("python3")
        .args(["-c", HANDLES])
        .args(args)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_handle_leads_to_its_file_after_the_kernel_forgot_it_and_after_a_remount() {
    let volume = TestVolume::new().await;
    let at = volume.mount().await;
    fs::create_dir_all(at.path("a/b")).unwrap();
    fs::write(at.path("a/b/f"), b"found by handle").unwrap();
    fs::write(at.path("a/removed"), b"x").unwrap();
    let handle = |name: &str| handles(&["handle", at.path(name).to_str().unwrap()]);
    let (file, dir, removed) = (handle("a/b/f"), handle("a/b"), handle("a/removed"));
    fs::rename(at.path("a/b/f"), at.path("a/b/renamed")).unwrap();
    fs::remove_file(at.path("a/removed")).unwrap();
    let check = |at: &MountedVolume| {
        fs::write("/proc/sys/vm/drop_caches", "2").unwrap();
        let root = at.root().to_str().unwrap();
        assert_eq!(handles(&["open", root, &file]), "found by handle");
        fs::write("/proc/sys/vm/drop_caches", "2").unwrap();
        assert_eq!(handles(&["open", root, &dir]), "['renamed'] ['b']");
        assert_eq!(
            handles(&["open", root, &removed]),
            format!("errno {}", libc::ESTALE)
        );
    };
    volume.holds_over_a_remount(at, check).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_that_runs_is_neither_written_nor_emptied() {
    let volume = TestVolume::new().await;
    let at = volume.mount().await;
    let path = at.path("program");
    fs::copy("/bin/sleep", &path).unwrap();
    let len = fs::metadata(&path).unwrap().len();
    let mut program = Command::new(&path).arg("600").spawn().unwrap();
    for flags in [
        libc::O_WRONLY,
        libc::O_RDWR,
        libc::O_RDONLY | libc::O_TRUNC,
        libc::O_WRONLY | libc::O_TRUNC,
    ] {
        let opened = nix::fcntl::open(
            &path,
            nix::fcntl::OFlag::from_bits_retain(flags),
            nix::sys::stat::Mode::empty(),
        );
        assert_eq!(opened.err(), Some(nix::errno::Errno::ETXTBSY), "{flags:#o}");
        assert_eq!(fs::metadata(&path).unwrap().len(), len, "{flags:#o}");
    }
    assert!(nix::unistd::truncate(&path, 5).is_err());
    assert_eq!(program.try_wait().unwrap(), None, "it runs");
    program.kill().unwrap();
    program.wait().unwrap();
    fs::write(&path, b"short").unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"short");
    at.unmount().await;
}
