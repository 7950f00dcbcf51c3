//! This machine: FUSE, the kernel, memory, open files.

use std::fs;

use nix::{
    sys::{
        resource::{Resource, getrlimit},
        utsname::uname,
    },
    unistd::geteuid,
};

use super::{
    report::{Check, Outcome},
    sheet::Sheet,
};
use crate::{
    cgroup::{self, MemoryLimit},
    data::{MEMORY_MIN_BYTES, MemoryPlan},
    disk, fuse, proc,
    session::{
        errors,
        failure::Failure,
        memory_size::{MemorySize, memory_bytes},
    },
    telemetry::{human_size, shown},
};

const FUSE_CONF: &str = "/etc/fuse.conf";

/// From this version on the kernel need not look for an attribute before each write
/// (FUSE_HANDLE_KILLPRIV_V2).
const KERNEL_FOR_WRITES: (u32, u32) = (5, 11);
/// From this version on files can be read past the page cache and mapped at the same time
/// (FUSE_DIRECT_IO_ALLOW_MMAP).
const KERNEL_FOR_LARGE_READS: (u32, u32) = (6, 6);

/// Open files of a mount beside its connections and its disk cache: the device, logs, sockets and
/// their clients, credentials.
const OTHER_FILES: u64 = 64;

/// The parts of the machine that settings are recommended by.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Machine {
    /// The memory that this process may use, were it alone: the control group's, or the machine's.
    pub(super) memory_bytes: u64,
}

/// Looks at all of it.
pub(super) async fn look(sheet: &Sheet<'_>, memory: Option<MemorySize>) -> Machine {
    sheet.check(Check::Fuse, aside(|| (device(), ()))).await;
    let allow_other = aside(|| {
        let conf = fs::read_to_string(FUSE_CONF).unwrap_or_default();
        (allow_other(geteuid().is_root(), &conf), ())
    });
    sheet.check(Check::AllowOther, allow_other).await;
    let kernel = aside(|| {
        let release = uname().map(|name| name.release().to_string_lossy().into_owned());
        (kernel(&release.unwrap_or_default()), ())
    });
    sheet.check(Check::Kernel, kernel).await;
    let machine_bytes = proc::memory_total_bytes();
    // A limit above the machine's memory limits nothing.
    let group = cgroup::memory_limit().filter(|limit| limit.bytes < machine_bytes);
    let asked = memory_bytes(memory);
    sheet.note(
        Check::Memory,
        memory_outcome(&asked, group.as_ref(), machine_bytes),
    );
    let bytes = asked.unwrap_or(MEMORY_MIN_BYTES);
    let limit = getrlimit(Resource::RLIMIT_NOFILE).map_or(u64::MAX, |(soft, _)| soft);
    sheet.note(Check::OpenFiles, open_files(limit, bytes));
    Machine {
        memory_bytes: group.map_or(machine_bytes, |limit| limit.bytes),
    }
}

/// Runs work that may block where it keeps nobody up.
pub(super) async fn aside<T: Default + Send + 'static>(
    work: impl FnOnce() -> (Outcome, T) + Send + 'static,
) -> (Outcome, T) {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => {
            let what = format!("the check ended by itself: {error}");
            (Outcome::failure(what, "try again"), T::default())
        }
    }
}

fn device() -> Outcome {
    if let Err(error) = fuse::check_device() {
        let Failure { what, advice, .. } = errors::mount(&error);
        return Outcome::failure(what, advice);
    }
    match (fuse::has_helper(), geteuid().is_root()) {
        (true, true) => Outcome::ok("/dev/fuse opens, and fusermount3 is there"),
        (true, false) => Outcome::ok("/dev/fuse opens, and fusermount3 is there to mount"),
        // Without it other users cannot mount, which is a failure above.
        (false, _) => Outcome::warning(
            "/dev/fuse opens, which is all that root needs to mount, but there is no fusermount3",
            "install the package fuse3 if anybody unmounts with 'fusermount3 -u'",
        ),
    }
}

fn allow_other(is_root: bool, conf: &str) -> Outcome {
    let is_set = conf.lines().any(|line| line.trim() == "user_allow_other");
    match (is_root, is_set) {
        (true, _) => Outcome::ok("root may let other users into a mount (--allow-other)"),
        (false, true) => Outcome::ok(format!(
            "{FUSE_CONF} has user_allow_other: mounts can be let to other users (--allow-other)"
        )),
        (false, false) => Outcome::hint(
            format!("{FUSE_CONF} lacks user_allow_other: nobody else can see a mount of yours"),
            format!("for --allow-other, root must put the line user_allow_other into {FUSE_CONF}"),
        ),
    }
}

fn kernel(release: &str) -> Outcome {
    let release = shown(release, 60);
    let mut numbers = release.split(|letter: char| !letter.is_ascii_digit());
    let mut number = || numbers.next().and_then(|digits| digits.parse::<u32>().ok());
    let (Some(major), Some(minor)) = (number(), number()) else {
        return Outcome::skipped(format!("the version {release:?} cannot be read"));
    };
    let version = (major, minor);
    if version < KERNEL_FOR_WRITES {
        Outcome::warning(
            format!("Linux {release}: each write costs one request more than with 5.11"),
            "use Linux 5.11 or newer, best 6.6 or newer",
        )
    } else if version < KERNEL_FOR_LARGE_READS {
        Outcome::ok(format!(
            "Linux {release}; from 6.6 on large files are read with one copy less"
        ))
    } else {
        Outcome::ok(format!("Linux {release}"))
    }
}

fn memory_outcome(
    asked: &Result<u64, Failure>,
    group: Option<&MemoryLimit>,
    machine_bytes: u64,
) -> Outcome {
    let bytes = match asked {
        Ok(bytes) => *bytes,
        Err(failure) => return Outcome::failure(&*failure.what, &*failure.advice),
    };
    let size = human_size(bytes);
    let (there_bytes, there) = match group {
        Some(limit) => (
            limit.bytes,
            format!(
                "{} allows {}",
                limit.file.display(),
                human_size(limit.bytes)
            ),
        ),
        None => (
            machine_bytes,
            format!(
                "the machine has {}, and no control group limits it",
                human_size(machine_bytes)
            ),
        ),
    };
    let found = format!("a mount takes up to {size} (--memory); {there}");
    let most = there_bytes / 4 * 3;
    if bytes <= most {
        return Outcome::ok(found);
    }
    Outcome::warning(
        format!("{found}, which leaves little for the page cache and others"),
        match most < MEMORY_MIN_BYTES {
            true => format!(
                "it works, and is better off with {} or more",
                human_size(bytes / 3 * 4)
            ),
            false => format!("give --memory {} or less", human_size(most)),
        },
    )
}

fn open_files(limit: u64, memory_bytes: u64) -> Outcome {
    let connections = MemoryPlan::for_memory(memory_bytes).connections_max as u64;
    let least = connections + OTHER_FILES;
    // The files of a disk cache stay open.
    let all = least + disk::SEGMENTS_MAX as u64;
    let found = match limit {
        u64::MAX => "there is no limit".to_owned(),
        limit => format!("up to {limit}; a mount needs {all} at most"),
    };
    let advice = format!("raise it to {all} or more: 'ulimit -n', or LimitNOFILE= in a unit");
    if limit < least {
        Outcome::failure(found, advice)
    } else if limit < all {
        Outcome::warning(format!("{found}, with a disk cache"), advice)
    } else {
        Outcome::ok(found)
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::session::{doctor::report::Verdict, exit::Exit};

    const MIB: u64 = 1 << 20;

    #[test]
    fn only_a_line_of_its_own_lets_other_users_in() {
        let says = |is_root, conf| allow_other(is_root, conf).line(Check::AllowOther);
        for conf in [
            "",
            "#user_allow_other\n",
            "user_allow_others",
            "mount_max = 9",
        ] {
            let line = says(false, conf);
            assert!(
                line.found.contains("lacks") && line.advice.is_some(),
                "{conf}"
            );
        }
        assert!(says(false, "# x\n user_allow_other \n").advice.is_none());
        assert!(says(true, "").advice.is_none());
    }

    #[test]
    fn kernels_are_told_apart_by_what_they_can_do() {
        for (release, verdict, word) in [
            ("4.19.0-27-amd64", Verdict::Warning, "5.11"),
            ("5.10.0", Verdict::Warning, "5.11"),
            ("5.11.0-1", Verdict::Ok, "6.6"),
            ("6.1.0-18-amd64", Verdict::Ok, "6.6"),
            ("6.18.5", Verdict::Ok, "6.18.5"),
            ("10.0", Verdict::Ok, "10.0"),
            ("unknown", Verdict::Skipped, "unknown"),
        ] {
            let line = kernel(release).line(Check::Kernel);
            let text = format!("{} {:?}", line.found, line.advice);
            assert_eq!(line.verdict, verdict, "{text}");
            assert!(text.contains(word), "{text}");
        }
    }

    #[test]
    fn memory_is_compared_with_the_control_group_or_the_machine() {
        let group = |mib: u64| MemoryLimit {
            bytes: mib * MIB,
            file: PathBuf::from("/sys/fs/cgroup/box/memory.max"),
        };
        let refused = Failure::new(Exit::Usage, "too much", "give less");
        for (asked, limit, verdict, word) in [
            (Ok(512 * MIB), None, Verdict::Ok, "no control group"),
            (
                Ok(512 * MIB),
                Some(group(1024)),
                Verdict::Ok,
                "box/memory.max",
            ),
            (
                Ok(800 * MIB),
                Some(group(1024)),
                Verdict::Warning,
                "768 MiB",
            ),
            (
                Ok(128 * MIB),
                Some(group(160)),
                Verdict::Warning,
                "171 MiB or more",
            ),
            (
                Err(refused),
                Some(group(1024)),
                Verdict::Failure,
                "give less",
            ),
        ] {
            let outcome = memory_outcome(&asked, limit.as_ref(), 8192 * MIB);
            let line = outcome.line(Check::Memory);
            let text = format!("{} {:?}", line.found, line.advice);
            assert_eq!(line.verdict, verdict, "{text}");
            assert!(text.contains(word), "{text}");
        }
    }

    #[test]
    fn too_few_open_files_are_a_failure_and_fewer_than_all_a_warning() {
        for (limit, memory_mib, verdict) in [
            (u64::MAX, 512, Verdict::Ok),
            (1024, 512, Verdict::Ok),
            (200, 512, Verdict::Warning),
            (90, 512, Verdict::Failure),
            (90, 128, Verdict::Warning),
            (70, 128, Verdict::Failure),
        ] {
            let outcome = open_files(limit, memory_mib * MIB);
            assert_eq!(outcome.verdict, verdict, "{limit} {memory_mib}");
        }
    }
}
