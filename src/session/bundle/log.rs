//! The last lines of a log file, without those that may name something.
//!
//! Lines of this program from `info` on name inodes and objects by number. Those of other crates
//! are taken only if they warn, and lines of finer levels never: they are made for this machine,
//! and may hold requests. A line that names a path beside an inode (`--log-paths`) is left out too,
//! because an earlier mount may have logged to the same file.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Seek, SeekFrom},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::Path,
};

use serde_json::Value;

use super::scrub::Scrub;
use crate::telemetry::log_before;

/// So much of a log is enough, and can still be read before it is sent.
const LOG_BYTES_MAX: u64 = 256 << 10;

/// The end of a log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tail {
    pub(super) text: String,
    /// Lines that were left out of it.
    pub(super) left_out: u64,
}

/// Opens a regular file that belongs to this user, or to root's, or to the user of a mount: the
/// mount says where the file is, and may be another user's.
pub(super) fn open_own(path: &Path, owner: Option<u32>) -> io::Result<File> {
    // A pipe would be waited for.
    let nonblocking = libc::O_NONBLOCK;
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(nonblocking)
        .open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    if owner.is_some_and(|owner| owner != metadata.uid()) {
        return Err(io::Error::other("it is not that of the mount's user"));
    }
    Ok(file)
}

/// Reads the end of the log at `path`, and of the file before it if it is short.
pub(super) fn tail(path: &Path, owner: Option<u32>, scrub: &Scrub) -> io::Result<Tail> {
    let newest = end_of(open_own(path, owner)?, LOG_BYTES_MAX)?;
    let room = LOG_BYTES_MAX.saturating_sub(newest.len() as u64);
    let older = open_own(&log_before(path), owner).and_then(|file| end_of(file, room));
    let mut tail = Tail::default();
    for text in [older.unwrap_or_default(), newest] {
        for line in text.lines() {
            match fit(line, scrub) {
                Some(line) => {
                    tail.text.push_str(&line);
                    tail.text.push('\n');
                }
                None => tail.left_out += 1,
            }
        }
    }
    Ok(tail)
}

/// The whole lines among the last bytes.
fn end_of(mut file: File, bytes_max: u64) -> io::Result<String> {
    let len = file.metadata()?.len();
    let skipped = len.saturating_sub(bytes_max);
    file.seek(SeekFrom::Start(skipped))?;
    let mut bytes = Vec::new();
    file.take(bytes_max).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    if skipped == 0 {
        return Ok(text);
    }
    let whole = text.split_once('\n').map(|(_, whole)| whole.to_owned());
    Ok(whole.unwrap_or_default())
}

/// The line as it may travel.
fn fit(line: &str, scrub: &Scrub) -> Option<String> {
    if names_a_path(line) {
        return None;
    }
    if line.starts_with('{') {
        let mut value: Value = serde_json::from_str(line).ok()?;
        let field = |name: &str| value.get(name).and_then(Value::as_str);
        if !is_fit(field("level")?, field("target")?) {
            return None;
        }
        scrub.json(&mut value);
        return Some(value.to_string());
    }
    let mut words = line.split_ascii_whitespace().skip(1);
    let (level, target) = (words.next()?, words.next()?);
    is_fit(level, target.strip_suffix(':')?).then(|| scrub.text(line))
}

fn is_fit(level: &str, target: &str) -> bool {
    match level {
        "ERROR" | "WARN" => true,
        "INFO" => target == "strongroom" || target.starts_with("strongroom::"),
        _ => false,
    }
}

/// Whether a path stands behind an inode, as `--log-paths` has it: `ino:17 "/a"`.
fn names_a_path(line: &str) -> bool {
    line.split("ino:").skip(1).any(|behind| {
        let rest = behind.trim_start_matches(|letter: char| letter.is_ascii_digit());
        rest.starts_with(" \"") || rest.starts_with(" \\\"")
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn only_lines_that_name_nothing_travel() {
        let mut scrub = Scrub::default();
        scrub.name("nas", "<host>");
        let time = "2026-11-29T14:40:21.123456Z";
        for (line, expected) in [
            (
                "  INFO strongroom::fs: on nas",
                Some("  INFO strongroom::fs: on <host>"),
            ),
            (
                " ERROR strongroom: ino:17: EIO",
                Some(" ERROR strongroom: ino:17: EIO"),
            ),
            ("  WARN slatedb::db: slow", Some("  WARN slatedb::db: slow")),
            ("  INFO slatedb::db: slow", None),
            (" DEBUG strongroom::fs: x", None),
            (" TRACE hyper: x", None),
            (" ERROR strongroom: ino:17 \"/a b\": EIO", None),
            (" some other text", None),
        ] {
            let expected = expected.map(|line| format!("{time}{line}"));
            assert_eq!(fit(&format!("{time}{line}"), &scrub), expected, "{line}");
        }
        let json = |level: &str, message: &str| {
            serde_json::json!({"level": level, "target": "strongroom::fs", "message": message})
                .to_string()
        };
        let fitted = fit(&json("WARN", "on nas"), &scrub);
        assert_eq!(fitted, Some(json("WARN", "on <host>")));
        assert_eq!(fit(&json("DEBUG", "x"), &scrub), None);
        assert_eq!(fit(&json("WARN", "ino:5 \"/x\": EIO"), &scrub), None);
        assert_eq!(fit("{", &scrub), None);
    }

    #[test]
    fn the_end_of_a_log_is_whole_lines_and_goes_back_into_the_file_before_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("mount.log");
        let line = |number: usize| format!("t WARN strongroom: {number:05} {}\n", "x".repeat(70));
        let lines = |range: std::ops::Range<usize>| range.map(line).collect::<String>();
        fs::write(log_before(&path), lines(0..4000)).expect("written");
        fs::write(&path, lines(4000..4100) + "t DEBUG strongroom: no\n").expect("written");
        let found = tail(&path, None, &Scrub::default()).expect("read");
        assert!(found.text.len() as u64 <= LOG_BYTES_MAX);
        assert!(found.text.len() as u64 > LOG_BYTES_MAX - 300);
        assert!(found.text.ends_with(&line(4099)) && found.text.starts_with("t WARN"));
        assert_eq!(found.left_out, 1);
    }

    #[test]
    fn files_of_others_and_those_that_are_none_are_not_read() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("mount.log");
        fs::write(&path, "t WARN strongroom: x\n").expect("written");
        let own = fs::metadata(&path).expect("there").uid();
        open_own(&path, Some(own)).expect("its own");
        open_own(&path, Some(own + 1)).expect_err("another user's");
        open_own(dir.path(), None).expect_err("a directory");
        nix::unistd::mkfifo(&dir.path().join("fifo"), nix::sys::stat::Mode::S_IRUSR).expect("made");
        open_own(&dir.path().join("fifo"), None).expect_err("a pipe");
    }
}
