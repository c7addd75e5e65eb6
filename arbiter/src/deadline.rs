//! When to give up. Kept as the moment and not as the time left, so that steps share one limit.

use std::time::{Duration, Instant};

/// The end of a time limit that began when this was made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline {
    /// None when the limit lies beyond what the host's clock can count.
    at: Option<Instant>,
}

impl Deadline {
    /// `timeout` from now.
    pub(crate) fn after(timeout: Duration) -> Self {
        let at = Instant::now().checked_add(timeout);
        Self { at }
    }

    /// The time left, zero once the deadline has passed.
    pub(crate) fn left(&self) -> Duration {
        self.at.map_or(Duration::MAX, |at| {
            at.saturating_duration_since(Instant::now())
        })
    }

    /// Whether no time is left.
    pub(crate) fn has_passed(&self) -> bool {
        self.left().is_zero()
    }
}
