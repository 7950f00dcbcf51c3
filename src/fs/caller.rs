//! The caller of a request, and the time.

use crate::{clock::Timestamp, proc::Status};

/// The process behind a request, as the kernel names it.
#[derive(Clone, Copy, Debug)]
pub struct Caller {
    /// Its filesystem user id.
    pub uid: u32,
    /// Its filesystem group id.
    pub gid: u32,
    /// Its thread id; 0 if the kernel asks for itself.
    pub pid: u32,
    /// Its file mode creation mask; 0 where the request carries none.
    pub umask: u32,
}

impl Caller {
    /// Whether it keeps set-id bits that others lose (CAP_FSETID; assumed for root alone, because
    /// requests carry no capabilities).
    pub fn keeps_set_id(&self) -> bool {
        self.uid == 0
    }

    /// Whether it is in the group or may act as if it were. Requests carry the primary group only,
    /// so others come from `/proc`; a process that cannot be looked up counts as no member.
    pub fn in_group_or_capable(&self, gid: u32) -> bool {
        self.keeps_set_id()
            || self.gid == gid
            || Status::of(self.pid).is_some_and(|status| status.groups().contains(&gid))
    }
}

/// The present time of this machine's clock.
pub fn now() -> Timestamp {
    Timestamp::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_is_in_every_group() {
        assert!(
            Caller {
                uid: 0,
                gid: 0,
                pid: 0,
                umask: 0
            }
            .in_group_or_capable(4711)
        );
    }

    #[test]
    fn a_process_that_cannot_be_looked_up_is_in_its_primary_group_only() {
        let caller = Caller {
            uid: 1000,
            gid: 1000,
            pid: u32::MAX,
            umask: 0,
        };
        assert!(caller.in_group_or_capable(1000));
        assert!(!caller.in_group_or_capable(0));
    }
}
