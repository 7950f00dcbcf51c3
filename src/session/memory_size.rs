//! How much memory a command may take: `--memory`, or what suits the machine and the control group
//! that the process runs in.

use super::{exit::Exit, failure::Failure};
use crate::{
    cgroup::{self, MemoryLimit},
    data::MEMORY_MIN_BYTES,
    proc,
    telemetry::human_size,
};

/// Without `--memory`, where there is so much.
const DEFAULT_BYTES: u64 = 512 << 20;

/// `--memory` as it was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemorySize {
    /// So many bytes.
    Bytes(u64),
    /// So much of what the machine, or the control group, has: 1 to 100.
    Percent(u8),
}

/// The memory that the whole process stays below, bytes.
///
/// # Errors
/// [`Exit::MemoryTooSmall`] below the floor, [`Exit::Usage`] above what the control group allows.
pub fn memory_bytes(asked: Option<MemorySize>) -> Result<u64, Failure> {
    within(
        asked,
        cgroup::memory_limit().as_ref(),
        proc::memory_total_bytes(),
    )
}

fn within(
    asked: Option<MemorySize>,
    group: Option<&MemoryLimit>,
    machine_bytes: u64,
) -> Result<u64, Failure> {
    // A limit above the machine's memory, as the first version's "none", limits nothing.
    let group = group.filter(|limit| limit.bytes < machine_bytes);
    let there_bytes = group.map_or(machine_bytes, |limit| limit.bytes);
    let bytes = match (asked, group) {
        (Some(MemorySize::Bytes(bytes)), Some(limit)) if bytes > limit.bytes => {
            return Err(Failure::new(
                Exit::Usage,
                format!(
                    "--memory {} is more than the {} of {}: the kernel would kill the process",
                    human_size(bytes),
                    human_size(limit.bytes),
                    limit.file.display()
                ),
                format!(
                    "give at most {} (less leaves room for the page cache), or raise the limit",
                    human_size(limit.bytes)
                ),
            ));
        }
        (Some(MemorySize::Bytes(bytes)), _) => bytes,
        (Some(MemorySize::Percent(percent)), _) => there_bytes.saturating_mul(percent.into()) / 100,
        // The group pays for the page cache too.
        (None, Some(limit)) => {
            let most = limit.bytes / 4 * 3;
            DEFAULT_BYTES.min(most.max(MEMORY_MIN_BYTES.min(limit.bytes)))
        }
        (None, None) => DEFAULT_BYTES,
    };
    if bytes >= MEMORY_MIN_BYTES {
        return Ok(bytes);
    }
    let least = human_size(MEMORY_MIN_BYTES);
    let (what, advice) = match (asked, group) {
        (None, Some(limit)) => (
            format!(
                "the {} that {} allows are below the floor",
                human_size(limit.bytes),
                limit.file.display()
            ),
            format!("raise that limit to at least {least}"),
        ),
        (Some(MemorySize::Percent(percent)), _) => (
            format!(
                "--memory {percent}% is {}, which is below the floor",
                human_size(bytes)
            ),
            format!("give at least {least}"),
        ),
        _ => (
            format!("--memory {} is below the floor", human_size(bytes)),
            format!("give at least {least}"),
        ),
    };
    Err(Failure::new(Exit::MemoryTooSmall, what, advice))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn resolved(asked: Option<MemorySize>, group_mib: Option<u64>) -> Result<u64, Failure> {
        let group = group_mib.map(|mib| MemoryLimit {
            bytes: mib * MIB,
            file: "/sys/fs/cgroup/box/memory.max".into(),
        });
        within(asked, group.as_ref(), 4096 * MIB).map(|bytes| bytes / MIB)
    }

    #[test]
    fn the_default_fits_the_group() {
        for (group, expected) in [
            (None, 512),
            (Some(8192), 512),
            (Some(1024), 512),
            (Some(400), 300),
            (Some(160), 128),
            (Some(128), 128),
        ] {
            assert_eq!(resolved(None, group).unwrap(), expected, "{group:?}");
        }
    }

    #[test]
    fn a_percentage_is_one_of_what_is_there() {
        let half = Some(MemorySize::Percent(50));
        assert_eq!(resolved(half, Some(1000)).unwrap(), 500);
        assert_eq!(resolved(half, None).unwrap(), 2048);
        let error = resolved(Some(MemorySize::Percent(1)), None).unwrap_err();
        assert_eq!(error.exit, Exit::MemoryTooSmall);
        assert!(error.what.contains("1%"), "{error}");
    }

    #[test]
    fn a_size_that_the_group_does_not_allow_is_refused_by_the_names_of_both() {
        let asked = |mib: u64| Some(MemorySize::Bytes(mib * MIB));
        assert_eq!(resolved(asked(300), Some(300)).unwrap(), 300);
        let error = resolved(asked(301), Some(300)).unwrap_err();
        assert_eq!(error.exit, Exit::Usage);
        let both = error.what.contains("301") && error.what.contains("box/memory.max");
        assert!(both, "{error}");
        assert!(error.what.contains("300"), "{error}");
        // Without a group the machine may swap.
        assert_eq!(resolved(asked(9000), None).unwrap(), 9000);
    }

    #[test]
    fn too_little_is_refused_with_the_least() {
        let error = resolved(Some(MemorySize::Bytes(127 * MIB)), None).unwrap_err();
        assert_eq!(error.exit, Exit::MemoryTooSmall);
        let error = resolved(None, Some(100)).unwrap_err();
        assert_eq!(error.exit, Exit::MemoryTooSmall);
        assert!(error.what.contains("box/memory.max"), "{error}");
    }
}
