//! Waiting for a condition, instead of for a time.

use std::time::{Duration, Instant};

/// The time that [`eventually`] waits: much longer than anything that needs no interval takes.
pub const SOON: Duration = Duration::from_secs(10);

const PAUSE: Duration = Duration::from_millis(10);

/// Waits until `condition` holds.
pub async fn wait_until(what: &str, within: Duration, mut condition: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    while !condition().await {
        assert!(began.elapsed() < within, "within {within:?}: {what}");
        tokio::time::sleep(PAUSE).await;
    }
}

/// Waits until `condition` holds, for ten seconds at most.
pub async fn eventually(what: &str, condition: impl AsyncFnMut() -> bool) {
    wait_until(what, SOON, condition).await;
}

/// [`wait_until`] in a test without a runtime.
pub fn block_until(what: &str, within: Duration, condition: impl FnMut() -> bool) {
    assert!(holds(within, condition), "within {within:?}: {what}");
}

/// Whether `condition` comes to hold in that time.
pub fn holds(within: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let began = Instant::now();
    while !condition() {
        if began.elapsed() >= within {
            return false;
        }
        std::thread::sleep(PAUSE);
    }
    true
}

/// Waits until `count` has stayed the same for the time `quiet`.
pub fn block_until_quiet(what: &str, quiet: Duration, within: Duration, count: impl Fn() -> u64) {
    let began = Instant::now();
    let (mut last, mut since) = (count(), Instant::now());
    while since.elapsed() < quiet {
        assert!(
            began.elapsed() < within,
            "not quiet within {within:?}: {what}"
        );
        std::thread::sleep(PAUSE.max(quiet / 20));
        let now = count();
        if now != last {
            (last, since) = (now, Instant::now());
        }
    }
}
