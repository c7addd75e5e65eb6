//! The primary's half of the protocol.

use std::collections::VecDeque;
use std::time::Duration;

use super::{ClaimAnswer, Heartbeat, Limits, Message, Report, Timing};
use crate::Entry;
use crate::identity::{BootChoices, Identity, Mismatch};

/// What happened to a primary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PrimaryEvent {
    /// The backup sent a message.
    Message(Message),
    /// The backup sent a heartbeat.
    Heartbeat(Heartbeat),
    /// The connection ended or broke, also by bytes that could not be decoded.
    Disconnected,
    /// The vCPU recorded these entries, the next ones of the log.
    Append(Vec<Entry>),
    /// Somebody waits: send what was appended now.
    Flush,
    /// Every output with a sequence number up to `through` has left.
    Released {
        /// Never above the last [`PrimaryAction::Release`].
        through: u64,
    },
    /// The arbiter answered a claim, or could not be reached.
    Claim(ClaimAnswer),
    /// The guest ended; nothing more will be appended.
    GuestEnded,
    /// Time passed.
    Tick,
}

/// What a primary must do now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PrimaryAction {
    /// Send this on the connection.
    Transmit(Message),
    /// Send this datagram.
    SendHeartbeat(Heartbeat),
    /// The pair is formed: boot the guest.
    Start,
    /// Outputs of entries up to `through` may leave.
    Release {
        /// Rises with every such action.
        through: u64,
    },
    /// Ask the arbiter to move the term from `expected_term` to the next.
    Claim {
        /// The pair's term.
        expected_term: u64,
    },
    /// This replica is alone live in `term`: nothing needs to be sent any more.
    RunAlone {
        /// The term it has won.
        term: u64,
    },
    /// Let the vCPU sleep this share of its time.
    Pace {
        /// Percent, below 100; 0 lets it go.
        sleep_percent: u8,
    },
    /// Tell the user.
    Report(Report),
    /// The backup refused. The primary has ended without starting the guest.
    Refused {
        /// Every field in which the identities differ.
        mismatches: Vec<Mismatch>,
        /// The reason in a sentence.
        reason: String,
    },
    /// All done: the guest ended and its last output has left.
    Finish,
    /// Stop the guest at once and for ever; release nothing more.
    Halt {
        /// Why.
        reason: String,
    },
}

/// The primary's state machine.
pub struct Primary {
    actions: VecDeque<PrimaryAction>,
}

impl Primary {
    /// A primary whose connection to its backup was established just now.
    #[must_use]
    pub fn new(
        _identity: Identity,
        _boot: BootChoices,
        _session: u64,
        _term: u64,
        _timing: Timing,
        _limits: Limits,
        _now: Duration,
    ) -> Self {
        Self {
            actions: VecDeque::new(),
        }
    }

    /// Takes note of `event` at time `now`.
    pub fn handle(&mut self, _event: PrimaryEvent, _now: Duration) {}

    /// The next thing to do. Call it until `None` after every [`handle`](Self::handle).
    pub fn poll(&mut self) -> Option<PrimaryAction> {
        self.actions.pop_front()
    }

    /// When to call [`handle`](Self::handle) with [`PrimaryEvent::Tick`] if nothing happens sooner.
    #[must_use]
    pub fn next_wakeup(&self) -> Option<Duration> {
        None
    }

    /// Back-pressure: false while the vCPU must not append.
    #[must_use]
    pub fn has_room(&self) -> bool {
        true
    }
}
