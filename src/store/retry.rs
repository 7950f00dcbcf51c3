//! How long the store keeps trying.

/// What to do when a request fails for a reason that may pass (throttling, 5xx, timeouts, resets,
/// name resolution, refused connections). Backoff is exponential with jitter, capped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// Give up after this many tries: commands that a person waits for.
    Attempts(u32),
    /// Never give up: a mounted volume. The caller bounds it by dropping the future.
    Forever,
}
