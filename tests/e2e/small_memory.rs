//! `--memory 128MiB`, inside a cgroup that kills at 160 MiB.

use std::{fs, path::PathBuf};

use super::{
    battery::whole_battery,
    harness::{Site, Transport},
};

const CGROUP_LIMIT: u64 = 160 << 20;

/// A memory cgroup (version 1 or 2) that lives as long as this value.
struct Cgroup {
    dir: PathBuf,
}

impl Cgroup {
    fn new() -> Cgroup {
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

    fn oom_kills(&self) -> u64 {
        let read = |file: &str| fs::read_to_string(self.dir.join(file)).unwrap_or_default();
        let text = read("memory.oom_control") + &read("memory.events");
        let count = text
            .lines()
            .find_map(|line| line.strip_prefix("oom_kill "))
            .expect("a count of OOM kills");
        count.trim().parse().expect("number")
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

impl Site {
    /// What the process must stay below, if this site limits it.
    pub fn rss_limit_bytes(&self) -> Option<u64> {
        (self.memory == "128MiB").then_some(128 << 20)
    }
}

#[test]
fn the_whole_battery_fits_into_128_mib() {
    let cgroup = Cgroup::new();
    let mut site = Site::start(Transport::Plain);
    site.memory = "128MiB";
    let procs = cgroup.dir.join("cgroup.procs");
    site.wrapper = vec![
        "sh".to_owned(),
        "-c".to_owned(),
        format!("echo $$ > {} && exec \"$0\" \"$@\"", procs.display()),
    ];
    whole_battery(&site);
    assert_eq!(cgroup.oom_kills(), 0);
    drop(site);
}
