//! The exit codes.
//!
//! Promises: each cause that a script may want to tell apart has a code of its own that never
//! changes its meaning.

/// Makes a table of exit codes: the type, its numbers, and one line about each.
macro_rules! exit_codes {
    (
        $(#[$attribute:meta])*
        $name:ident [$count:literal] { $($variant:ident = $code:literal, $meaning:literal;)* }
    ) => {
        $(#[$attribute])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum $name {
            $(#[doc = $meaning] $variant = $code,)*
        }

        impl $name {
            /// All of them, in the order of their numbers.
            pub const ALL: [$name; $count] = [$($name::$variant,)*];

            /// The number that the process exits with.
            pub fn code(self) -> u8 {
                self as u8
            }

            /// One line for the table of codes.
            pub fn meaning(self) -> &'static str {
                match self {
                    $($name::$variant => $meaning,)*
                }
            }
        }
    };
}
pub(crate) use exit_codes;

exit_codes! {
    /// How the program ended. The table in `docs/operations.md` and the manual pages are made from
    /// this.
    Exit [38] {
        Ok = 0, "success; for `umount`, everything is durable in the store";
        Unexpected = 1, "a failure without a code of its own";
        Usage = 2, "the command line or a setting of the store is wrong";
        WrongKey = 3, "the passphrase, key file or recovery key opens no slot";
        NoVolume = 4, "no volume at this URL";
        Held = 5, "another mount holds the volume for writing";
        StoreUnfit = 6, "the store lacks something that a volume needs";
        NotDurable = 7, "not everything became durable";
        Unreachable = 8, "the endpoint does not answer, or what answers is no S3 store";
        NoCredentials = 9, "no S3 credentials found";
        NoBucket = 10, "the bucket does not exist";
        NotEmpty = 11, "`init`: the prefix is not empty";
        MountPointMissing = 12, "the mount point does not exist";
        NoFuse = 13, "FUSE cannot be used on this machine";
        NewerFormat = 14, "the volume was written by a newer version";
        DamagedHeader = 15, "the volume header is damaged";
        Interrupted = 16, "stopped by a signal before it was done";
        BadCredentials = 17, "the store refuses the access key or its secret";
        Denied = 18, "the store denies access, or the clocks differ too much";
        MountPointNotDirectory = 19, "the mount point is not a directory";
        MountPointInUse = 20, "something is mounted at the mount point already";
        MemoryTooSmall = 21, "`--memory` is below the floor";
        NotMounted = 22, "the directory is not a Strongroom mount";
        Busy = 23, "the mount is busy";
        RolledBack = 24, "the volume went back in time";
        TakenOver = 25, "another mount took the volume over";
        LastSlot = 26, "the last key slot cannot be removed";
        Tls = 27, "the endpoint's certificate is not trusted";
        Damaged = 28, "a stored object does not authenticate";
        VolumeExists = 29, "`init`: there is a volume already";
        OtherVolume = 30, "another volume is at this URL than this machine knows there";
        Forked = 31, "the volume is on another branch of its history than this machine has seen";
        NotExpected = 32, "the volume does not have the fingerprint of `--expect`";
        NoMetadata = 33, "the volume's header is there, its metadata is not";
        CacheDirectory = 34, "the directory of `--disk-cache-dir` cannot be used";
        MetricsAddress = 35, "the address of `--metrics-listen` cannot be used";
        NotThere = 36, "`which`: the volume has no such path, inode or object";
        CheckFailed = 37, "`doctor`: a check failed";
    }
}

impl Exit {
    /// The exit with this number.
    pub fn from_code(code: u8) -> Option<Exit> {
        Exit::ALL.into_iter().find(|exit| exit.code() == code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_consecutive_and_distinct() {
        for (index, exit) in Exit::ALL.into_iter().enumerate() {
            assert_eq!(usize::from(exit.code()), index);
            assert_eq!(Exit::from_code(exit.code()), Some(exit));
        }
        assert_eq!(Exit::from_code(200), None);
    }
}
