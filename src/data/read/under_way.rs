//! Reads under way, so that background work can tell whether anybody reads.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Reads that are under way, and when the last one ended.
#[derive(Default)]
pub(crate) struct ReadsUnderWay {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    under_way: usize,
    last_ended: Option<Instant>,
}

/// A read is under way for as long as this lives.
pub(crate) struct UnderWay<'a>(&'a ReadsUnderWay);

impl ReadsUnderWay {
    pub(crate) fn begin(&self) -> UnderWay<'_> {
        self.state.lock().under_way += 1;
        UnderWay(self)
    }

    pub(crate) fn are_over_for(&self, span: Duration) -> bool {
        let state = self.state.lock();
        let is_over = |ended: Instant| ended.elapsed() >= span;
        state.under_way == 0 && state.last_ended.is_none_or(is_over)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.under_way -= 1;
        state.last_ended = Some(Instant::now());
    }
}
