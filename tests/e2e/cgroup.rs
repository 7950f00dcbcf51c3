//! A memory cgroup around the mount's process.

use std::{fs, path::PathBuf};

use crate::support::site::{Site, Transport};

const CGROUP_LIMIT: u64 = 160 << 20;

/// The limit of a mount's own with `--memory 128MiB`.
pub const MEMORY_LIMIT: u64 = 128 << 20;

/// A memory cgroup (version 1 or 2) that lives as long as this value.
pub struct Cgroup {
    dir: PathBuf,
}

impl Cgroup {
    pub fn new() -> Cgroup {
        let name = format!("strongroom-{}", std::process::id());
        let first = PathBuf::from("/sys/fs/cgroup/memory").join(&name);
        let second = PathBuf::from("/sys/fs/cgroup").join(&name);
        if PathBuf::from("/sys/fs/cgroup/memory").is_dir() {
            fs::create_dir(&first).expect("a memory cgroup (needs root)");
            fs::write(
                first.join("memory.limit_in_bytes"),
                CGROUP_LIMIT.to_string(),
            )
            .expect("limit");
            return Cgroup { dir: first };
        }
        let _ = fs::write("/sys/fs/cgroup/cgroup.subtree_control", "+memory");
        fs::create_dir(&second).expect("a memory cgroup (needs root)");
        fs::write(second.join("memory.max"), CGROUP_LIMIT.to_string()).expect("limit");
        fs::write(second.join("memory.swap.max"), "0").ok();
        Cgroup { dir: second }
    }

    pub fn oom_kills(&self) -> u64 {
        let read = |file: &str| fs::read_to_string(self.dir.join(file)).unwrap_or_default();
        let text = read("memory.oom_control") + &read("memory.events");
        let count = text
            .lines()
            .find_map(|line| line.strip_prefix("oom_kill "))
            .expect("a count of OOM kills");
        count.trim().parse().expect("number")
    }

    /// The most that was ever charged: resident memory, and what the kernel holds for it.
    pub fn peak_bytes(&self) -> u64 {
        ["memory.max_usage_in_bytes", "memory.peak"]
            .iter()
            .find_map(|file| fs::read_to_string(self.dir.join(file)).ok())
            .expect("a peak")
            .trim()
            .parse()
            .expect("number")
    }

    /// A site whose mounts run inside, with `--memory 128MiB`.
    pub fn site(&self, transport: Transport) -> Site {
        let mut site = Site::start(transport);
        site.memory = "128MiB";
        let procs = self.dir.join("cgroup.procs");
        site.wrapper = vec![
            "sh".to_owned(),
            "-c".to_owned(),
            format!("echo $$ > {} && exec \"$0\" \"$@\"", procs.display()),
        ];
        site
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        for _ in 0..50 {
            if fs::remove_dir(&self.dir).is_ok() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
    }
}
