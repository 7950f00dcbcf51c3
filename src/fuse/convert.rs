//! Attributes and times between [`crate::fs`] and fuser.
//!
//! fuser 0.18 decodes times before 1970 wrongly: for seconds < 0 it computes `1970 - (|seconds| s +
//! nanos ns)` where the protocol means `1970 - |seconds| s + nanos ns`. The fault is a bijection,
//! so [`decode_time`] undoes it: a time that arrives `s` seconds and `n` nanoseconds before 1970
//! was sent as `(-s, n)`. fuser's encoding is right, and takes the true time.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{FileAttr, FileType, INodeNo, TimeOrNow};

use crate::{
    fs::{Attributes, SetTime},
    meta::{FileKind, Timestamp},
};

/// `st_blksize`: one frame. With a larger one, buffering readers (Python reads a whole block per
/// small read) would fetch more than they use.
const BLOCK_LEN: u32 = 64 * 1024;

pub fn file_type(kind: FileKind) -> FileType {
    match kind {
        FileKind::File => FileType::RegularFile,
        FileKind::Directory => FileType::Directory,
        FileKind::Symlink => FileType::Symlink,
        FileKind::Fifo => FileType::NamedPipe,
        FileKind::Socket => FileType::Socket,
        FileKind::CharDevice => FileType::CharDevice,
        FileKind::BlockDevice => FileType::BlockDevice,
    }
}

pub fn file_attr(attributes: &Attributes) -> FileAttr {
    FileAttr {
        ino: INodeNo(attributes.ino.0),
        size: attributes.size,
        blocks: attributes.blocks,
        atime: encode_time(attributes.atime),
        mtime: encode_time(attributes.mtime),
        ctime: encode_time(attributes.ctime),
        crtime: encode_time(attributes.btime),
        kind: file_type(attributes.kind),
        perm: (attributes.mode & 0o7777) as u16,
        nlink: attributes.nlink,
        uid: attributes.uid,
        gid: attributes.gid,
        rdev: attributes.rdev,
        blksize: BLOCK_LEN,
        flags: 0,
    }
}

/// A time as fuser's encoder takes it: the true one.
pub fn encode_time(time: Timestamp) -> SystemTime {
    let whole = Duration::from_secs(time.seconds.unsigned_abs());
    let second = if time.seconds < 0 {
        UNIX_EPOCH.checked_sub(whole)
    } else {
        UNIX_EPOCH.checked_add(whole)
    };
    second
        .and_then(|second| second.checked_add(Duration::from_nanos(u64::from(time.nanos))))
        .unwrap_or(UNIX_EPOCH)
}

/// The time that the kernel sent, from fuser's reading of it.
pub fn decode_time(time: SystemTime) -> Timestamp {
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => Timestamp {
            seconds: i64::try_from(after.as_secs()).unwrap_or(i64::MAX),
            nanos: after.subsec_nanos(),
        },
        Err(before) => {
            let before = before.duration();
            Timestamp {
                seconds: 0_i64
                    .checked_sub_unsigned(before.as_secs())
                    .unwrap_or(i64::MIN),
                nanos: before.subsec_nanos(),
            }
        }
    }
}

pub fn set_time(time: TimeOrNow) -> SetTime {
    match time {
        TimeOrNow::Now => SetTime::Now,
        TimeOrNow::SpecificTime(time) => SetTime::To(decode_time(time)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The computation of fuser 0.18 `system_time_from_time` on a time from the kernel.
    fn fuser_decodes(seconds: i64, nanos: u32) -> SystemTime {
        if seconds >= 0 {
            UNIX_EPOCH + Duration::new(seconds as u64, nanos)
        } else {
            UNIX_EPOCH - Duration::new(seconds.unsigned_abs(), nanos)
        }
    }

    /// The computation of fuser 0.18 `time_from_system_time` on a time for the kernel.
    fn fuser_encodes(time: SystemTime) -> (i64, u32) {
        match time.duration_since(UNIX_EPOCH) {
            Ok(after) => (after.as_secs() as i64, after.subsec_nanos()),
            Err(before) => match (
                before.duration().as_secs(),
                before.duration().subsec_nanos(),
            ) {
                (seconds, 0) => (0_i64.checked_sub_unsigned(seconds).unwrap(), 0),
                (seconds, nanos) => (-(seconds as i64) - 1, 1_000_000_000 - nanos),
            },
        }
    }

    #[test]
    fn times_survive_both_directions_on_both_sides_of_1970() {
        for seconds in [
            -2_000_000_000,
            -2,
            -1,
            0,
            1,
            1_700_000_000,
            4_000_000_000,
            -9_223_372_036,
            i64::MIN + 1,
        ] {
            for nanos in [0, 1, 123_456_789, 500_000_000, 999_999_999] {
                let time = Timestamp { seconds, nanos };
                assert_eq!(decode_time(fuser_decodes(seconds, nanos)), time);
                assert_eq!(fuser_encodes(encode_time(time)), (seconds, nanos));
            }
        }
        assert_eq!(
            decode_time(fuser_decodes(i64::MIN, 0)),
            Timestamp {
                seconds: i64::MIN,
                nanos: 0
            }
        );
        assert_eq!(
            fuser_encodes(encode_time(Timestamp {
                seconds: i64::MIN,
                nanos: 0
            })),
            (i64::MIN, 0)
        );
    }
}
