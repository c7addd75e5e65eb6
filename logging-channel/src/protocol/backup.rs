//! The backup's half of the protocol.

use std::collections::VecDeque;
use std::time::Duration;

use super::{ClaimAnswer, Heartbeat, Limits, Message, Report, Timing};
use crate::Entry;
use crate::identity::{BootChoices, Identity, Mismatch};

/// What happened to a backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BackupEvent {
    /// The primary sent a message.
    Message(Message),
    /// The primary sent a heartbeat.
    Heartbeat(Heartbeat),
    /// The connection ended or broke, also by bytes that could not be decoded.
    Disconnected,
    /// The vCPU has replayed every entry up to `through`.
    Executed {
        /// Sequence number.
        through: u64,
    },
    /// After [`BackupAction::Drain`]: the vCPU has replayed every delivered entry.
    Drained,
    /// The arbiter answered a claim, or could not be reached.
    Claim(ClaimAnswer),
    /// Replay went another way than the primary.
    Diverged {
        /// Where and how.
        description: String,
    },
    /// Time passed.
    Tick,
}

/// What a backup must do now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BackupAction {
    /// Send this on the connection.
    Transmit(Message),
    /// Send this datagram.
    SendHeartbeat(Heartbeat),
    /// The pair is formed: build the machine and replay.
    Start {
        /// The primary's choices, to adopt.
        boot: BootChoices,
        /// The pair's term.
        term: u64,
        /// The pair's random name.
        session: u64,
    },
    /// Replay these entries, after those before.
    Deliver(Vec<Entry>),
    /// The primary has released its outputs up to `through`: kept ones may be dropped, also those
    /// that replay has yet to produce.
    Released {
        /// Sequence number.
        through: u64,
    },
    /// No more entries will come: replay what there is, then say [`BackupEvent::Drained`].
    Drain,
    /// Ask the arbiter to move the term from `expected_term` to the next.
    Claim {
        /// The pair's term.
        expected_term: u64,
    },
    /// This replica is alone live in `term`: release the kept outputs, then take live inputs.
    GoLive {
        /// The term it has won.
        term: u64,
    },
    /// Tell the user.
    Report(Report),
    /// The primary was refused; [`Message::Refuse`] is transmitted before. Close the connection.
    Refused {
        /// Every field in which the identities differ.
        mismatches: Vec<Mismatch>,
        /// The reason in a sentence.
        reason: String,
    },
    /// All done: the guest ended at the primary and its last output has left.
    Finish,
    /// Stop for ever.
    Halt {
        /// Why.
        reason: String,
    },
}

/// The backup's state machine.
pub struct Backup {
    actions: VecDeque<BackupAction>,
}

impl Backup {
    /// A backup to which a primary has connected just now.
    #[must_use]
    pub fn new(_identity: Identity, _timing: Timing, _limits: Limits, _now: Duration) -> Self {
        Self {
            actions: VecDeque::new(),
        }
    }

    /// Takes note of `event` at time `now`.
    pub fn handle(&mut self, _event: BackupEvent, _now: Duration) {}

    /// The next thing to do. Call it until `None` after every [`handle`](Self::handle).
    pub fn poll(&mut self) -> Option<BackupAction> {
        self.actions.pop_front()
    }

    /// When to call [`handle`](Self::handle) with [`BackupEvent::Tick`] if nothing happens sooner.
    #[must_use]
    pub fn next_wakeup(&self) -> Option<Duration> {
        None
    }

    /// Back-pressure: false while the connection must not be read.
    #[must_use]
    pub fn has_room(&self) -> bool {
        true
    }
}
