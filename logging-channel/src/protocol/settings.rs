//! The protocol's durations and bounds.

use std::time::Duration;

/// How long the protocol waits for what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// A paired replica sends a heartbeat this often.
    pub heartbeat_interval: Duration,
    /// A peer that was not heard for this long is suspected.
    pub failure_timeout: Duration,
    /// From the connection to the formed pair.
    pub handshake_timeout: Duration,
    /// From an arbiter that could not be reached to the next try.
    pub claim_retry_interval: Duration,
    /// A claim without an answer for this long counts as unreachable and is made again.
    pub claim_timeout: Duration,
    /// An entry on which no output waits is sent after this long at the latest.
    pub flush_interval: Duration,
    /// The backup's lag is reported this often.
    pub lag_report_interval: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            heartbeat_interval: Duration::from_millis(50),
            failure_timeout: Duration::from_millis(500),
            handshake_timeout: Duration::from_secs(10),
            claim_retry_interval: Duration::from_millis(250),
            claim_timeout: Duration::from_secs(5),
            flush_interval: Duration::from_millis(1),
            lag_report_interval: Duration::from_secs(1),
        }
    }
}

impl Timing {
    /// The defaults for a given failure timeout: ten heartbeats fit into it, at most 20 a second.
    #[must_use]
    pub fn with_failure_timeout(failure_timeout: Duration) -> Self {
        let defaults = Self::default();
        Self {
            heartbeat_interval: (failure_timeout / 10).min(defaults.heartbeat_interval),
            failure_timeout,
            ..defaults
        }
    }

    /// The failure timeout for the peer, milliseconds, rounded up.
    pub(super) fn failure_timeout_ms(&self) -> u64 {
        let rounded_up = self.failure_timeout.as_nanos().div_ceil(1_000_000);
        u64::try_from(rounded_up).unwrap_or(u64::MAX)
    }

    /// A pair in which one lost heartbeat is a failure could not live.
    pub(super) fn assert_sound(&self) {
        assert!(
            self.failure_timeout > 2 * self.heartbeat_interval,
            "the failure timeout ({:?}) must exceed two heartbeat intervals ({:?})",
            self.failure_timeout,
            self.heartbeat_interval
        );
    }
}

/// How much may be under way. Every queue of the cores is bounded by one of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Primary: entries appended and not yet acknowledged, bytes.
    pub backlog_bytes: u64,
    /// Backup: entries received and not yet executed, bytes.
    pub undelivered_bytes: u64,
    /// Outputs appended and not yet released. The primary stops its vCPU at this many; a backup
    /// that is made to keep more than twice as many gives its primary up as faulty.
    pub kept_outputs: usize,
    /// Entries in one message, bytes; a message holds at least one entry.
    pub batch_bytes: u64,
}

impl Limits {
    /// [`Limits::backlog_bytes`] by default.
    pub const DEFAULT_BACKLOG_BYTES: u64 = 8 << 20;
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            backlog_bytes: Self::DEFAULT_BACKLOG_BYTES,
            undelivered_bytes: 32 << 20,
            kept_outputs: 4096,
            batch_bytes: 128 << 10,
        }
    }
}
