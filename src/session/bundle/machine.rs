//! Facts about the program, the kernel and FUSE: which, not whose.

use std::{fs, io, os::unix::fs::PermissionsExt};

use nix::{
    sys::{
        resource::{Resource, getrlimit},
        utsname::uname,
    },
    unistd::geteuid,
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::{cgroup, fuse, proc};

const PROGRAM: &str = "/proc/self/exe";
const FUSE_PARAMETERS: &str = "/sys/module/fuse/parameters";
/// Longer files of the system are cut.
const TEXT_CHARS_MAX: usize = 400;

/// All of them. A fact that cannot be had is null.
pub(super) fn facts() -> Value {
    let machine_bytes = proc::memory_total_bytes();
    // A limit above the machine's memory limits nothing.
    let group = cgroup::memory_limit().filter(|limit| limit.bytes < machine_bytes);
    let name = uname().ok();
    let of_kernel = |field: fn(&nix::sys::utsname::UtsName) -> &std::ffi::OsStr| {
        let field = name.as_ref().map(field);
        field.map(|text| text.to_string_lossy().into_owned())
    };
    json!({
        "program": {
            "version": env!("CARGO_PKG_VERSION"),
            "architecture": std::env::consts::ARCH,
            "with_demo": cfg!(feature = "demo"),
            "is_debug_build": cfg!(debug_assertions),
            "executable_bytes": fs::metadata(PROGRAM).ok().map(|program| program.len()),
            "executable_sha256": sha256(PROGRAM).ok(),
            "runs_as_root": geteuid().is_root(),
        },
        // Without the node name, which is the host's.
        "kernel": {
            "release": of_kernel(|name| name.release()),
            "version": of_kernel(|name| name.version()),
            "machine": of_kernel(|name| name.machine()),
        },
        "distribution": distribution(),
        "fuse": {
            "device_mode": mode("/dev/fuse"),
            "fusermount3": fuse::has_helper(),
            "fuse_conf": fuse_conf(),
            "parameters": parameters(),
        },
        "memory": {
            "machine_bytes": machine_bytes,
            "control_group_bytes": group.map(|limit| limit.bytes),
        },
        "processors": std::thread::available_parallelism().ok().map(usize::from),
        "open_files_limit": getrlimit(Resource::RLIMIT_NOFILE).ok().map(|(soft, _)| soft),
    })
}

fn sha256(path: &str) -> io::Result<String> {
    struct Hashing(Sha256);
    impl io::Write for Hashing {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.update(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut hash = Hashing(Sha256::new());
    io::copy(&mut fs::File::open(path)?, &mut hash)?;
    Ok(data_encoding::HEXLOWER.encode(&hash.0.finalize()))
}

fn distribution() -> Option<String> {
    let release = fs::read_to_string("/etc/os-release").ok()?;
    let name = release
        .lines()
        .find_map(|line| line.strip_prefix("PRETTY_NAME="))?;
    Some(
        name.trim_matches('"')
            .chars()
            .take(TEXT_CHARS_MAX)
            .collect(),
    )
}

fn mode(path: &str) -> Option<String> {
    let mode = fs::metadata(path).ok()?.permissions().mode();
    Some(format!("{:04o}", mode & 0o7777))
}

/// The settings in `/etc/fuse.conf` that the helper knows.
fn fuse_conf() -> Vec<String> {
    let conf = fs::read_to_string("/etc/fuse.conf").unwrap_or_default();
    let lines = conf.lines().map(str::trim);
    let known = lines.filter(|line| *line == "user_allow_other" || line.starts_with("mount_max"));
    let cut = known.map(|line| line.chars().take(TEXT_CHARS_MAX).collect());
    cut.collect()
}

fn parameters() -> serde_json::Map<String, Value> {
    let files = fs::read_dir(FUSE_PARAMETERS).into_iter().flatten();
    let parameter = |file: io::Result<fs::DirEntry>| {
        let file = file.ok()?;
        let value = fs::read_to_string(file.path()).ok()?;
        let name = file.file_name().to_string_lossy().into_owned();
        Some((name, Value::from(value.trim())))
    };
    files.filter_map(parameter).collect()
}
