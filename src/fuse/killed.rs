//! Callers that were killed while they wait for an answer.
//!
//! Once a request is with this process, the kernel waits for its answer whatever signal the caller
//! gets, and fuser 0.18 does not hand the kernel's interrupts over. So one task looks every 250 ms
//! at `/proc/TID/status` of each caller that has waited for a while. A caller that is to die shows
//! a fatal signal among its pending ones, because it cannot take the signal before the answer has
//! come.
//!
//! Where `/proc` shows nothing (the caller is in another process namespace, or `hidepid` hides it),
//! the request waits until its deadline. A caller that was there and is gone has left a request in
//! the background, which the kernel reads ahead with: nobody waits for it.

use std::{collections::BTreeMap, ops::Bound, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{runtime::Handle, sync::oneshot};

use crate::proc::{Stat, Status};

/// How often the callers are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Callers looked at in one round: about 10 ms of work. If more callers wait, the others are looked
/// at in later rounds.
const LOOKS_PER_ROUND: usize = 512;

/// Signals whose default is to be ignored, to stop or to go on; all others end the process by
/// default.
const HARMLESS: [i32; 8] = [
    libc::SIGCHLD,
    libc::SIGCONT,
    libc::SIGSTOP,
    libc::SIGTSTP,
    libc::SIGTTIN,
    libc::SIGTTOU,
    libc::SIGURG,
    libc::SIGWINCH,
];

/// `PF_EXITING` of the ninth field of `/proc/TID/stat` (linux/sched.h).
const EXITING: u64 = 0x4;

#[derive(Default)]
struct Waiting {
    last: u64,
    /// One entry for each request that has waited for a while. The kernel bounds their number: each
    /// belongs to a thread that waits for it, or is one of the kernel's requests in the background.
    callers: BTreeMap<u64, Caller>,
    /// Where the next round begins.
    next: u64,
    /// The task runs.
    looking: bool,
}

struct Caller {
    tid: u32,
    /// `/proc` has shown it.
    was_seen: bool,
    found: oneshot::Sender<()>,
}

/// The callers that wait. Cheap to clone.
#[derive(Clone)]
pub struct Callers {
    runtime: Handle,
    waiting: Arc<Mutex<Waiting>>,
}

/// Takes a caller off the list when its request is over.
struct Listed<'a> {
    callers: &'a Callers,
    number: u64,
}

impl Drop for Listed<'_> {
    fn drop(&mut self) {
        self.callers.waiting.lock().callers.remove(&self.number);
    }
}

impl Callers {
    pub fn new(runtime: Handle) -> Callers {
        Callers {
            runtime,
            waiting: Arc::default(),
        }
    }

    /// Returns when the thread `tid` is found to be dying. 0, the kernel itself, never is.
    pub async fn killed(&self, tid: u32) {
        if tid == 0 {
            return std::future::pending().await;
        }
        let (found, killed) = oneshot::channel();
        let was_seen = Status::of(tid).is_some();
        let caller = Caller {
            tid,
            was_seen,
            found,
        };
        let number = {
            let mut waiting = self.waiting.lock();
            waiting.last += 1;
            let number = waiting.last;
            waiting.callers.insert(number, caller);
            if !std::mem::replace(&mut waiting.looking, true) {
                self.runtime.spawn(look(Arc::clone(&self.waiting)));
            }
            number
        };
        let _listed = Listed {
            callers: self,
            number,
        };
        if killed.await.is_err() {
            // The task has gone with the runtime.
            std::future::pending().await
        }
    }
}

/// Runs as long as somebody waits.
async fn look(waiting: Arc<Mutex<Waiting>>) {
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let round: Vec<(u64, u32, bool)> = {
            let mut waiting = waiting.lock();
            if waiting.callers.is_empty() {
                waiting.looking = false;
                return;
            }
            let from = (Bound::Excluded(waiting.next), Bound::Unbounded);
            let round: Vec<_> = waiting
                .callers
                .range(from)
                .take(LOOKS_PER_ROUND)
                .map(|(number, caller)| (*number, caller.tid, caller.was_seen))
                .collect();
            let is_last = round.len() < LOOKS_PER_ROUND;
            waiting.next = match round.last() {
                Some((number, ..)) if !is_last => *number,
                _ => 0,
            };
            round
        };
        for (number, tid, was_seen) in round {
            if is_dying(tid, was_seen)
                && let Some(caller) = waiting.lock().callers.remove(&number)
            {
                // The waiting request may have its answer by now.
                let _ = caller.found.send(());
            }
        }
    }
}

fn is_dying(tid: u32, was_seen: bool) -> bool {
    let Some(status) = Status::of(tid) else {
        return was_seen;
    };
    if has_fatal_signal(&status) {
        return true;
    }
    // Its memory is gone already: it closes what it had open. Then the signal is no longer pending.
    let exits = status.field("VmSize").is_none();
    exits && Stat::of(tid).is_some_and(|stat| was_ended_by_a_signal(&stat))
}

/// Whether a signal is pending that ends the thread as soon as it is taken: SIGKILL, or one that is
/// neither blocked, ignored nor caught.
fn has_fatal_signal(status: &Status) -> bool {
    let mask = |name: &str| status.signals(name);
    let harmless = HARMLESS
        .into_iter()
        .fold(0, |harmless, signal| harmless | bit(signal));
    let pending = mask("SigPnd") | mask("ShdPnd");
    let kept_off = mask("SigBlk") | mask("SigIgn") | mask("SigCgt") | harmless;
    pending & bit(libc::SIGKILL) != 0 || pending & !kept_off != 0
}

fn bit(signal: i32) -> u64 {
    1 << (signal - 1)
}

/// Whether the thread is exiting, and because of a signal (proc_pid_stat(5): fields 9 and 52).
fn was_ended_by_a_signal(stat: &Stat) -> bool {
    let field = |number: usize| {
        let field = stat
            .field(number)
            .and_then(|field| field.parse::<u64>().ok());
        field.unwrap_or(0)
    };
    field(9) & EXITING != 0 && field(52) & 0x7f != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(pending: u64, shared: u64, blocked: u64, ignored: u64, caught: u64) -> Status {
        let text = format!(
            "Name:\tcat\nSigPnd:\t{pending:016x}\nShdPnd:\t{shared:016x}\nSigBlk:\t{blocked:016x}\nSigIgn:\t{ignored:016x}\nSigCgt:\t{caught:016x}\n"
        );
        Status::from(text.as_str())
    }

    #[test]
    fn sigkill_is_fatal_whatever_the_caller_says_and_others_unless_it_keeps_them_off() {
        let (term, quit) = (bit(libc::SIGTERM), bit(libc::SIGQUIT));
        assert!(has_fatal_signal(&status(bit(libc::SIGKILL), 0, !0, !0, !0)));
        assert!(has_fatal_signal(&status(0, term, 0, 0, 0)));
        assert!(has_fatal_signal(&status(0, term | quit, term, 0, 0)));
        for (blocked, ignored, caught) in [(term, 0, 0), (0, term, 0), (0, 0, term)] {
            assert!(!has_fatal_signal(&status(
                term, term, blocked, ignored, caught
            )));
        }
        for signal in HARMLESS {
            assert!(!has_fatal_signal(&status(
                bit(signal),
                bit(signal),
                0,
                0,
                0
            )));
        }
        assert!(!has_fatal_signal(&Status::from("nothing of the kind")));
    }

    #[test]
    fn a_thread_that_exits_by_itself_is_not_taken_for_killed() {
        let stat = |flags: u32, code: u32| {
            let between = "0 ".repeat(42);
            Stat::from(&*format!("7 (a) b) S 1 2 3 4 5 {flags} {between}{code}\n"))
        };
        assert!(was_ended_by_a_signal(&stat(0x40_0004, 9)));
        assert!(!was_ended_by_a_signal(&stat(0x40_0004, 1 << 8)));
        assert!(!was_ended_by_a_signal(&stat(0x40_0000, 9)));
        assert!(!was_ended_by_a_signal(&Stat::from("")));
    }

    #[tokio::test]
    async fn who_lives_is_waited_for_and_the_task_ends_with_the_last_that_waits() {
        let callers = Callers::new(Handle::current());
        let me = nix::unistd::gettid().as_raw() as u32;
        assert!(
            tokio::time::timeout(2 * LOOK_EVERY, callers.killed(me))
                .await
                .is_err()
        );
        assert!(callers.waiting.lock().callers.is_empty());
        while callers.waiting.lock().looking {
            tokio::time::sleep(LOOK_EVERY / 5).await;
        }
    }
}
