//! `--memory 128MiB`, inside a cgroup that kills at 160 MiB.

use super::{
    battery::whole_battery,
    cgroup::{Cgroup, MEMORY_LIMIT},
};
use crate::support::site::{Site, Transport};

impl Site {
    /// The resident memory that the process must stay below, if this site limits it.
    pub fn rss_limit_bytes(&self) -> Option<u64> {
        (self.memory == "128MiB").then_some(MEMORY_LIMIT)
    }
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
