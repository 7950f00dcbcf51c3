//! Requests from the kernel, counted by kind, and how long they took.

use std::{collections::BTreeMap, time::Duration};

use super::{Counter, Histogram, HistogramCounts};

macro_rules! kinds {
    ($($kind:ident $name:literal)*) => {
        /// The kinds of requests from the kernel.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum RequestKind {
            $(
                #[doc = concat!("`", $name, "`.")]
                $kind,
            )*
        }

        impl RequestKind {
            const ALL: &[RequestKind] = &[$(RequestKind::$kind),*];

            /// As in `status` and in the log.
            pub const fn name(self) -> &'static str {
                match self {
                    $(RequestKind::$kind => $name,)*
                }
            }
        }
    };
}

kinds! {
    Create "create"
    Fallocate "fallocate"
    Flush "flush"
    Forget "forget"
    Fsync "fsync"
    Fsyncdir "fsyncdir"
    Getattr "getattr"
    Getxattr "getxattr"
    Link "link"
    Listxattr "listxattr"
    Lookup "lookup"
    Lseek "lseek"
    Mkdir "mkdir"
    Mknod "mknod"
    Open "open"
    Opendir "opendir"
    Read "read"
    Readdir "readdir"
    Readdirplus "readdirplus"
    Readlink "readlink"
    Release "release"
    Releasedir "releasedir"
    Removexattr "removexattr"
    Rename "rename"
    Rmdir "rmdir"
    Setattr "setattr"
    Setxattr "setxattr"
    Statfs "statfs"
    Symlink "symlink"
    Unlink "unlink"
    Write "write"
}

/// One counter for each kind, and the durations of those that were answered.
#[derive(Debug, Default)]
pub struct KernelRequests {
    counters: [Counter; RequestKind::ALL.len()],
    durations: [Histogram; RequestKind::ALL.len()],
}

impl KernelRequests {
    /// Counts one.
    pub fn count(&self, kind: RequestKind) {
        if let Some(counter) = self.counters.get(kind as usize) {
            counter.increment();
        }
    }

    /// Notes that one was answered, so long after it came.
    pub fn answered(&self, kind: RequestKind, took: Duration) {
        if let Some(histogram) = self.durations.get(kind as usize) {
            histogram.observe(took);
        }
    }

    /// How many of this kind there were.
    pub fn get(&self, kind: RequestKind) -> u64 {
        self.counters.get(kind as usize).map_or(0, Counter::get)
    }

    /// How many there were of each kind.
    pub fn by_kind(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let counts = RequestKind::ALL.iter().zip(&self.counters);
        counts.map(|(kind, counter)| (kind.name(), counter.get()))
    }

    /// How long the answers to each kind took.
    pub fn durations(&self) -> impl Iterator<Item = (&'static str, HistogramCounts)> {
        let durations = RequestKind::ALL.iter().zip(&self.durations);
        durations.map(|(kind, histogram)| (kind.name(), histogram.counts()))
    }

    /// All kinds of which there were some, by name.
    pub fn by_name(&self) -> BTreeMap<String, u64> {
        let counts = RequestKind::ALL.iter().map(|kind| (*kind, self.get(*kind)));
        counts
            .filter(|(_, count)| *count > 0)
            .map(|(kind, count)| (kind.name().to_owned(), count))
            .collect()
    }

    /// Of all kinds together.
    pub fn total(&self) -> u64 {
        self.counters.iter().map(Counter::get).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_counted_under_its_name() {
        let requests = KernelRequests::default();
        for (index, kind) in RequestKind::ALL.iter().enumerate() {
            (0..=index).for_each(|_| requests.count(*kind));
        }
        for (index, kind) in RequestKind::ALL.iter().enumerate() {
            assert_eq!(requests.by_name()[kind.name()], index as u64 + 1);
        }
        requests.answered(RequestKind::Read, Duration::from_millis(2));
        let timed: Vec<_> = requests
            .durations()
            .filter(|(_, counts)| counts.total() > 0)
            .map(|(name, counts)| (name, counts.total(), counts.sum()))
            .collect();
        assert_eq!(timed, [("read", 1, Duration::from_millis(2))]);
        assert_eq!(requests.by_kind().last(), Some(("write", 31)));
        let all = RequestKind::ALL.len() as u64;
        assert_eq!(requests.total(), all * (all + 1) / 2);
    }
}
