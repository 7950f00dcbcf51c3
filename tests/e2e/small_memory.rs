//! `--memory 128MiB`, inside a cgroup that kills at 160 MiB.

use super::{
    battery::whole_battery,
    cgroup::{Cgroup, MEMORY_LIMIT},
};
use crate::support::{
    commands::text,
    site::{Site, Transport},
};

impl Site {
    /// The resident memory that the process must stay below, if this site limits it.
    pub fn rss_limit_bytes(&self) -> Option<u64> {
        (self.memory == "128MiB").then_some(MEMORY_LIMIT)
    }
}

/// The group allows 160 MiB, of which three quarters are less than a mount takes.
#[test]
fn without_a_size_the_memory_is_what_the_control_group_allows() {
    let cgroup = Cgroup::new();
    let mut site = cgroup.site(Transport::Plain);
    site.memory = "";
    let mount = site.mount();
    assert_eq!(mount.status()["memory"]["limit_bytes"], MEMORY_LIMIT);
    mount.unmount();
}

#[test]
fn more_memory_than_the_control_group_allows_is_refused() {
    let cgroup = Cgroup::new();
    let site = cgroup.site(Transport::Plain);
    let dir = site.scratch("refused");
    let options = ["mount", &site.url(), text(&dir), "--memory", "161MiB"];
    let output = site.strongroom(&options).with_passphrase(&site).output();
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{message}");
    for word in ["161 MiB", "160 MiB", "cgroup"] {
        assert!(message.contains(word), "{word}: {message}");
    }
    assert_eq!(message.lines().count(), 1, "{message}");
}

#[test]
fn the_whole_battery_fits_into_128_mib() {
    let cgroup = Cgroup::new();
    let mut site = cgroup.site(Transport::Plain);
    site.disk_cache = "1GiB";
    whole_battery(&site);
    assert_eq!(cgroup.oom_kills(), 0);
    drop(site);
}
