//! The machine that a simulation runs on: its clocks and its randomness.
//!
//! tokio's paused clock rules tokio's own timers and nothing else. The AWS SDK, SlateDB, `chrono`,
//! `time` and the standard library ask the C library what time it is and for random bytes, so
//! this test binary brings those two functions itself. On a thread that simulates, both clocks show
//! tokio's time and random bytes come from the seed; so do the keys of every `HashMap`, salts,
//! session ids, pauses between retries and SlateDB's names of tables. Other threads get the real
//! ones.

use std::{cell::Cell, time::Duration};

use tokio::time::Instant;

/// The wall clock when a simulation begins: seconds since 1970.
pub const EPOCH_SECONDS: u64 = 1_800_000_000;
/// The monotonic clock then; no program likes to begin at zero.
const UPTIME_SECONDS: u64 = 100_000;

thread_local! {
    static SIMULATES: Cell<bool> = const { Cell::new(false) };
    /// Nanoseconds since the simulation began.
    static NOW: Cell<u64> = const { Cell::new(0) };
    /// Tokio's time, and ours at the same moment, where a runtime began.
    static BEGAN: Cell<Option<(Instant, u64)>> = const { Cell::new(None) };
    static RANDOM: Cell<u64> = const { Cell::new(0) };
}

/// From here on this thread simulates.
pub fn begin(seed: u64) {
    RANDOM.set(seed ^ 0x5157_6f6e_6772_6f6d);
    NOW.set(0);
    BEGAN.set(None);
    SIMULATES.set(true);
}

/// This thread is an ordinary one again.
pub fn end() {
    SIMULATES.set(false);
}

/// Time since the simulation began.
pub fn now() -> Duration {
    Duration::from_nanos(NOW.get())
}

/// A runtime with a clock that stands still while anything runs, and jumps to the next timer when
/// nothing does. A simulation may have several, one after the other: time goes on.
pub fn runtime() -> tokio::runtime::Runtime {
    BEGAN.set(None);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .on_thread_unpark(look_at_the_clock)
        .build()
        .unwrap();
    let _inside = runtime.enter();
    BEGAN.set(Some((Instant::now(), NOW.get())));
    drop(_inside);
    runtime
}

/// Timers were served: it is later now.
fn look_at_the_clock() {
    if let Some((began, then)) = BEGAN.get() {
        NOW.set(then + began.elapsed().as_nanos() as u64);
    }
}

fn random() -> u64 {
    let state = RANDOM.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
    RANDOM.set(state);
    crate::rng::mix(state)
}

/// Replaces the C library's.
///
/// # Safety
/// As there: `at` is null or points to a `timespec`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn clock_gettime(
    clock: libc::clockid_t,
    at: *mut libc::timespec,
) -> libc::c_int {
    if !SIMULATES.try_with(Cell::get).unwrap_or(false) || at.is_null() {
        // SAFETY: the same arguments.
        return unsafe { libc::syscall(libc::SYS_clock_gettime, clock, at) as libc::c_int };
    }
    let base = match clock {
        libc::CLOCK_REALTIME | libc::CLOCK_REALTIME_COARSE => EPOCH_SECONDS,
        _ => UPTIME_SECONDS,
    };
    let nanos = NOW.get();
    // SAFETY: not null, and the caller says that it points to one.
    unsafe {
        (*at).tv_sec = (base + nanos / 1_000_000_000) as libc::time_t;
        (*at).tv_nsec = (nanos % 1_000_000_000) as libc::c_long;
    }
    0
}

/// Replaces the C library's.
///
/// # Safety
/// As there: `buffer` has room for `len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn getrandom(
    buffer: *mut libc::c_void,
    len: libc::size_t,
    flags: libc::c_uint,
) -> libc::ssize_t {
    if !SIMULATES.try_with(Cell::get).unwrap_or(false) || len == 0 {
        // SAFETY: the same arguments.
        return unsafe { libc::syscall(libc::SYS_getrandom, buffer, len, flags) as libc::ssize_t };
    }
    // SAFETY: the caller says that there is room for as many.
    let bytes = unsafe { std::slice::from_raw_parts_mut(buffer.cast::<u8>(), len) };
    for eight in bytes.chunks_mut(8) {
        eight.copy_from_slice(&random().to_le_bytes()[..eight.len()]);
    }
    len as libc::ssize_t
}
