//! The backup's half of the protocol.
//!
//! In: the primary's messages and heartbeats, the vCPU's progress, the arbiter's answers, time.
//! Out: entries to replay, acks, heartbeats, claims, reports.
//!
//! ```text
//!  Waiting for Hello ──mismatch: Refuse──→ Refused, ended
//!     │    └──timeout, closed, violation──→ Halt, ended            (no pair: no claim)
//!     │ Hello: Welcome, Start
//!     ▼
//!   Paired ──Goodbye: Drain──→ Draining to finish ──Drained──→ Finish, ended
//!     │ closed, silence, violation: Drain
//!     ▼
//!  Draining to claim
//!     │ Drained: Claim
//!     ▼
//!  Claiming ──Lost──→ Halt, ended
//!     │ Won: GoLive
//!     ▼
//!    Live
//!
//!  Diverged, before Live: told to the primary if it still listens; Halt, ended. It never claims.
//! ```
//!
//! What always holds:
//! - An entry that is acknowledged has been delivered to replay before, and everything delivered
//!   is replayed before the claim. So whatever the primary released on the strength of an ack is
//!   in this replica's past when it goes live.
//! - From the moment of suspicion nothing more is accepted from the primary and nothing is sent to
//!   it. *Which late messages could be accepted?* None is needed: an entry that was not
//!   acknowledged has set no output free, and acknowledging it now would set one free while this
//!   replica goes live. A heartbeat or a Goodbye that comes late changes nothing that the arbiter
//!   does not decide better.
//! - The backup never suspects silence sooner than the primary's own failure timeout after it last
//!   heard it: the primary's right to release outputs ends before.

mod log;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::time::Duration;

use super::claim::{Claim, Outcome};
use super::pulse::Pulse;
use super::{ClaimAnswer, Heartbeat, Limits, LossReason, Message, Report, Role, Timing};
use crate::Entry;
use crate::identity::{BootChoices, Identity, Mismatch};
use log::IncomingLog;

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

/// The backup's state machine. See the [module](self).
#[derive(Debug)]
pub struct Backup {
    identity: Identity,
    timing: Timing,
    limits: Limits,
    term: u64,
    state: State,
    log: IncomingLog,
    actions: VecDeque<BackupAction>,
}

#[derive(Debug)]
enum State {
    Waiting { give_up_at: Duration },
    Paired { pulse: Pulse, heard_at: Duration },
    Draining { then: AfterDrain },
    Claiming(Claim),
    Live,
    Ended,
}

#[derive(Clone, Copy, Debug)]
enum AfterDrain {
    Claim,
    Finish,
}

impl Backup {
    /// A backup to which a primary has connected just now.
    ///
    /// # Panics
    ///
    /// If the failure timeout does not exceed two heartbeat intervals: the pair could not live.
    #[must_use]
    pub fn new(identity: Identity, timing: Timing, limits: Limits, now: Duration) -> Self {
        timing.assert_sound();
        Self {
            identity,
            timing,
            limits,
            term: 0,
            state: State::Waiting {
                give_up_at: now + timing.handshake_timeout,
            },
            log: IncomingLog::default(),
            actions: VecDeque::new(),
        }
    }

    /// Takes note of `event` at time `now`, measured on a clock that never stops or goes back.
    ///
    /// # Panics
    ///
    /// If the caller breaks the contract: more entries executed than were delivered.
    pub fn handle(&mut self, event: BackupEvent, now: Duration) {
        self.suspect_silence(now);
        match event {
            BackupEvent::Message(message) => self.on_message(message, now),
            BackupEvent::Heartbeat(heartbeat) => self.on_heartbeat(&heartbeat, now),
            BackupEvent::Disconnected => self.on_disconnected(),
            BackupEvent::Executed { through } => self.on_executed(through),
            BackupEvent::Drained => self.on_drained(now),
            BackupEvent::Claim(answer) => self.on_claim_answer(answer, now),
            BackupEvent::Diverged { description } => self.on_diverged(&description),
            BackupEvent::Tick => {}
        }
        self.on_time(now);
    }

    /// The next thing to do. Call it until `None` after every [`handle`](Self::handle), and do the
    /// things in this order.
    pub fn poll(&mut self) -> Option<BackupAction> {
        self.actions.pop_front()
    }

    /// When to call [`handle`](Self::handle) with [`BackupEvent::Tick`] if nothing happens
    /// sooner. Never, if `None`.
    #[must_use]
    pub fn next_wakeup(&self) -> Option<Duration> {
        match &self.state {
            State::Waiting { give_up_at } => Some(*give_up_at),
            State::Paired { pulse, heard_at } => {
                Some(pulse.due_at().min(*heard_at + self.timing.failure_timeout))
            }
            State::Claiming(claim) => Some(claim.next_wakeup()),
            State::Draining { .. } | State::Live | State::Ended => None,
        }
    }

    /// Back-pressure: false while the connection must not be read: replay is behind, or the
    /// primary is not listened to any more. Heartbeats are always taken.
    #[must_use]
    pub fn has_room(&self) -> bool {
        match self.state {
            State::Waiting { .. } => true,
            State::Paired { .. } => self.log.unexecuted_bytes() < self.limits.undelivered_bytes,
            _ => false,
        }
    }

    fn suspect_silence(&mut self, now: Duration) {
        if let State::Paired { heard_at, .. } = self.state
            && now >= heard_at + self.timing.failure_timeout
        {
            let lasted = now - heard_at;
            self.suspect(LossReason::Silence { lasted });
        }
    }

    fn on_message(&mut self, message: Message, now: Duration) {
        if matches!(self.state, State::Waiting { .. }) {
            return self.on_first_message(message, now);
        }
        let State::Paired { heard_at, .. } = &mut self.state else {
            return;
        };
        *heard_at = now;
        match message {
            Message::Entries {
                entries,
                released_through,
            } => self.on_entries(entries, released_through),
            Message::Goodbye => self.drain(AfterDrain::Finish),
            other => {
                let violation = format!("{} from a primary that is paired", other.name());
                self.suspect(LossReason::Protocol(violation));
            }
        }
    }

    fn on_first_message(&mut self, message: Message, now: Duration) {
        let Message::Hello {
            identity,
            boot,
            term,
            session,
            failure_timeout_ms,
        } = message
        else {
            return self.halt(format!(
                "the peer's first message was {} instead of Hello",
                message.name()
            ));
        };
        let mismatches = identity.mismatches(&self.identity);
        if !mismatches.is_empty() {
            return self.refuse(mismatches);
        }
        self.term = term;
        self.timing.failure_timeout = self
            .timing
            .failure_timeout
            .max(Duration::from_millis(failure_timeout_ms));
        self.state = State::Paired {
            pulse: Pulse::new(
                Role::Backup,
                term,
                session,
                self.timing.heartbeat_interval,
                now,
            ),
            heard_at: now,
        };
        self.act(BackupAction::Transmit(Message::Welcome));
        self.report(Report::PairFormed { term });
        self.act(BackupAction::Start {
            boot,
            term,
            session,
        });
    }

    fn refuse(&mut self, mismatches: Vec<Mismatch>) {
        let differences: Vec<String> = mismatches.iter().map(ToString::to_string).collect();
        let reason = differences.join("; ");
        self.state = State::Ended;
        self.act(BackupAction::Transmit(Message::Refuse {
            mismatches: mismatches.clone(),
            reason: reason.clone(),
        }));
        self.report(Report::Refused {
            mismatches: mismatches.clone(),
            reason: reason.clone(),
        });
        self.act(BackupAction::Refused { mismatches, reason });
    }

    fn on_entries(&mut self, entries: Vec<Entry>, released_through: u64) {
        let accepted = self.log.released(released_through).and_then(|risen| {
            let kept_limit = 2 * self.limits.kept_outputs;
            self.log.receive(&entries, kept_limit).map(|()| risen)
        });
        let risen = match accepted {
            Ok(risen) => risen,
            Err(violation) => return self.suspect(LossReason::Protocol(violation)),
        };
        if risen {
            self.act(BackupAction::Released {
                through: released_through,
            });
        }
        if !entries.is_empty() {
            self.act(BackupAction::Deliver(entries));
            self.acknowledge();
        }
    }

    /// Most progress can wait for the next heartbeat; what a write of the primary's waits for cannot.
    fn on_executed(&mut self, through: u64) {
        let awaited = self.log.executed(through);
        if awaited && matches!(self.state, State::Paired { .. }) {
            self.acknowledge();
        }
    }

    /// After [`BackupAction::Deliver`], never before it.
    fn acknowledge(&mut self) {
        let (received, executed) = self.log.progress_to_tell();
        self.act(BackupAction::Transmit(Message::Ack { received, executed }));
    }

    fn on_heartbeat(&mut self, heartbeat: &Heartbeat, now: Duration) {
        if let State::Paired { pulse, heard_at } = &mut self.state
            && pulse.hear(heartbeat)
        {
            *heard_at = now;
        }
    }

    fn on_disconnected(&mut self) {
        match self.state {
            State::Waiting { .. } => {
                self.halt(
                    "the primary closed the connection before the pair was formed".to_owned(),
                );
            }
            State::Paired { .. } => self.suspect(LossReason::ConnectionClosed),
            State::Draining { .. } | State::Claiming(_) | State::Live | State::Ended => {}
        }
    }

    fn on_drained(&mut self, now: Duration) {
        let State::Draining { then } = self.state else {
            return;
        };
        self.log.executed_all();
        match then {
            AfterDrain::Finish => {
                self.state = State::Ended;
                self.report(Report::Finished);
                self.act(BackupAction::Finish);
            }
            AfterDrain::Claim => {
                let expected_term = self.term;
                self.state = State::Claiming(Claim::new(expected_term, &self.timing, now));
                self.report(Report::Claiming {
                    term: expected_term + 1,
                });
                self.act(BackupAction::Claim { expected_term });
            }
        }
    }

    fn on_claim_answer(&mut self, answer: ClaimAnswer, now: Duration) {
        let State::Claiming(claim) = &mut self.state else {
            return;
        };
        match claim.answered(answer, &self.timing, now) {
            Outcome::Won { term } => {
                self.term = term;
                self.state = State::Live;
                self.report(Report::ClaimWon { term });
                self.act(BackupAction::GoLive { term });
                self.report(Report::Live { term });
            }
            Outcome::Lost { term } => {
                let wanted = claim.expected_term() + 1;
                self.report(Report::ClaimLost { term });
                self.halt(format!(
                    "the claim of term {wanted} was lost (the arbiter is in term {term}): \
                     the primary runs the guest"
                ));
            }
            Outcome::Undecided => {}
        }
    }

    fn on_diverged(&mut self, description: &str) {
        if matches!(self.state, State::Live | State::Ended) {
            return;
        }
        self.report(Report::Diverged {
            description: description.to_owned(),
        });
        if matches!(self.state, State::Paired { .. }) {
            self.act(BackupAction::Transmit(Message::Diverged {
                description: description.to_owned(),
            }));
        }
        self.halt(format!(
            "replay diverged from the primary, this copy of the guest is of no use: {description}"
        ));
    }

    fn on_time(&mut self, now: Duration) {
        match &mut self.state {
            State::Waiting { give_up_at } if now >= *give_up_at => self.halt(format!(
                "the primary did not send Hello within {} ms",
                self.timing.handshake_timeout.as_millis()
            )),
            State::Paired { pulse, .. } => {
                if let Some(heartbeat) = pulse.beat(now) {
                    self.act(BackupAction::SendHeartbeat(heartbeat));
                    if self.log.has_progress_to_tell() {
                        self.acknowledge();
                    }
                }
            }
            State::Claiming(claim) => {
                let ask = claim.ask_now(&self.timing, now);
                if claim.tell_waiting() {
                    self.report(Report::WaitingForArbiter);
                }
                if ask {
                    let expected_term = self.term;
                    self.act(BackupAction::Claim { expected_term });
                }
            }
            _ => {}
        }
    }

    fn suspect(&mut self, why: LossReason) {
        self.report(Report::PeerLost { why });
        self.drain(AfterDrain::Claim);
    }

    fn drain(&mut self, then: AfterDrain) {
        self.state = State::Draining { then };
        self.report(Report::Draining {
            entries: self.log.unexecuted(),
        });
        self.act(BackupAction::Drain);
    }

    fn halt(&mut self, reason: String) {
        self.state = State::Ended;
        self.report(Report::Halted {
            reason: reason.clone(),
        });
        self.act(BackupAction::Halt { reason });
    }

    fn report(&mut self, report: Report) {
        self.act(BackupAction::Report(report));
    }

    fn act(&mut self, action: BackupAction) {
        self.actions.push_back(action);
    }
}
