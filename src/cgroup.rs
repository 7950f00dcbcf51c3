//! The memory that control groups leave this process (cgroups(7), both versions): where it is less
//! than the machine has, the kernel kills what takes more.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// The limit that binds first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MemoryLimit {
    /// Bytes.
    pub(crate) bytes: u64,
    /// The file that sets it.
    pub(crate) file: PathBuf,
}

/// The limit on this process. `None` if no group limits it, or the system does not say.
pub(crate) fn memory_limit() -> Option<MemoryLimit> {
    let membership = fs::read_to_string("/proc/self/cgroup").ok()?;
    limit_below(Path::new("/sys/fs/cgroup"), &membership)
}

/// The smallest limit of the groups that `membership` (`/proc/<pid>/cgroup`) names and of all above
/// them. `root` is where the hierarchies are mounted.
fn limit_below(root: &Path, membership: &str) -> Option<MemoryLimit> {
    let limits = membership.lines().filter_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, group) = (fields.next()?, fields.next()?);
        let (hierarchy, file) = match controllers {
            "" => (root.to_path_buf(), "memory.max"),
            list if list.split(',').any(|name| name == "memory") => {
                (root.join("memory"), "memory.limit_in_bytes")
            }
            _ => return None,
        };
        smallest(&hierarchy, group.trim_start_matches('/'), file)
    });
    limits.min_by_key(|limit| limit.bytes)
}

/// A group that is not below the hierarchy, as in a container that sees its own group as the root,
/// is left out; the root itself is looked at in any case.
fn smallest(hierarchy: &Path, group: &str, file: &str) -> Option<MemoryLimit> {
    let groups = Path::new(group).ancestors();
    let limits = groups.filter_map(|group| {
        let file = hierarchy.join(group).join(file);
        // Without a limit the second version has the word `max`.
        let bytes = fs::read_to_string(&file).ok()?.trim().parse().ok()?;
        Some(MemoryLimit { bytes, file })
    });
    limits.min_by_key(|limit| limit.bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(files: &[(&str, &str)], membership: &str) -> Option<(u64, String)> {
        let root = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let file = root.path().join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        }
        let limit = limit_below(root.path(), membership)?;
        let file = limit.file.strip_prefix(root.path()).unwrap();
        Some((limit.bytes, file.to_str().unwrap().to_owned()))
    }

    #[test]
    fn the_smallest_limit_on_the_way_to_the_root_binds() {
        let files = [
            ("memory.max", "900\n"),
            ("a/memory.max", "500\n"),
            ("a/b/memory.max", "max\n"),
            ("other/memory.max", "1\n"),
        ];
        let found = limit(&files, "0::/a/b\n");
        assert_eq!(found, Some((500, "a/memory.max".to_owned())));
        assert_eq!(limit(&files, "0::/").unwrap().0, 900);
    }

    #[test]
    fn the_first_version_is_read_where_it_has_the_memory() {
        let files = [
            ("memory/memory.limit_in_bytes", "9223372036854771712"),
            ("memory/x/memory.limit_in_bytes", "700"),
            ("cpu/x/memory.limit_in_bytes", "1"),
        ];
        let membership = "4:cpu:/x\n3:hugetlb,memory:/x\n0::/x\n";
        let found = limit(&files, membership);
        assert_eq!(
            found,
            Some((700, "memory/x/memory.limit_in_bytes".to_owned()))
        );
    }

    #[test]
    fn a_container_that_sees_its_group_as_the_root_is_limited_by_it() {
        let files = [("memory.max", "300")];
        assert_eq!(limit(&files, "0::/docker/0123\n").unwrap().0, 300);
    }

    #[test]
    fn no_limit_and_no_sense_are_none() {
        assert_eq!(limit(&[("memory.max", "max")], "0::/\n"), None);
        assert_eq!(limit(&[("memory.max", "7")], "nonsense\n1\n:"), None);
        assert_eq!(limit(&[], "0::/a"), None);
    }
}
