//! The primary's half of the protocol.
//!
//! In: the backup's messages and heartbeats, the vCPU's entries, the arbiter's answers, time. Out:
//! messages, heartbeats, the permission to release outputs, claims, reports.
//!
//! ```text
//!   new: Hello
//!     │
//!  Greeting ──Refuse──→ Refused, ended
//!     │    └──timeout, closed, violation──→ Halt, ended            (no pair: no claim)
//!     │ Welcome: Start
//!     ▼
//!   Paired ──guest ended, all acknowledged, all released: Goodbye──→ Finish, ended
//!     │ closed, silence, violation: Claim
//!     ▼
//!  Claiming ──Lost──→ Halt, ended
//!     │ Won: RunAlone
//!     ▼
//!   Alone ──guest ended, all released──→ Finish, ended
//! ```
//!
//! What always holds:
//! - In `Paired` an output is released only if its own entry is acknowledged, at a time when the
//!   backup provably was still listening (see `contact`). In `Claiming` nothing is released.
//! - *Every* event is preceded by a look at the time: a process that was stopped finds out that it
//!   was silent before it believes anything that waited in its sockets.
//! - After `Paired` nothing is heard from the backup and nothing is sent to it. An ack that comes
//!   late was true when it was sent, but whoever sent it may have gone live since.

mod contact;
mod log;
mod pacing;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::time::Duration;

use super::claim::{Claim, Outcome};
use super::pulse::Pulse;
use super::{ClaimAnswer, Heartbeat, Limits, LossReason, Message, Report, Role, Timing};
use crate::Entry;
use crate::identity::{BootChoices, Identity, Mismatch};
use contact::Contact;
use log::OutgoingLog;
use pacing::{Lag, Throttle};

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

/// The primary's state machine. See the [module](self).
#[derive(Debug)]
pub struct Primary {
    session: u64,
    term: u64,
    timing: Timing,
    limits: Limits,
    state: State,
    log: OutgoingLog,
    lag: Lag,
    throttle: Throttle,
    lag_report_at: Duration,
    guest_ended: bool,
    actions: VecDeque<PrimaryAction>,
}

#[derive(Debug)]
enum State {
    Greeting { give_up_at: Duration },
    Paired { pulse: Pulse, contact: Contact },
    Claiming(Claim),
    Alone,
    Ended,
}

impl Primary {
    /// A primary whose connection to its backup was established just now; it works in `term`,
    /// which it has claimed, and names the pair `session`, a random number.
    ///
    /// # Panics
    ///
    /// If the failure timeout does not exceed two heartbeat intervals: the pair could not live.
    #[must_use]
    pub fn new(
        identity: Identity,
        boot: BootChoices,
        session: u64,
        term: u64,
        timing: Timing,
        limits: Limits,
        now: Duration,
    ) -> Self {
        timing.assert_sound();
        let hello = Message::Hello {
            identity,
            boot,
            term,
            session,
            failure_timeout_ms: timing.failure_timeout_ms(),
        };
        Self {
            session,
            term,
            timing,
            limits,
            state: State::Greeting {
                give_up_at: now + timing.handshake_timeout,
            },
            log: OutgoingLog::default(),
            lag: Lag::default(),
            throttle: Throttle::default(),
            lag_report_at: now + timing.lag_report_interval,
            guest_ended: false,
            actions: VecDeque::from([PrimaryAction::Transmit(hello)]),
        }
    }

    /// Takes note of `event` at time `now`, measured on a clock that never stops or goes back.
    ///
    /// # Panics
    ///
    /// If the caller breaks the contract: entries with a gap or before [`PrimaryAction::Start`], or
    /// outputs released that were not permitted.
    pub fn handle(&mut self, event: PrimaryEvent, now: Duration) {
        self.suspect_silence(now);
        match event {
            PrimaryEvent::Message(message) => self.on_message(message, now),
            PrimaryEvent::Heartbeat(heartbeat) => self.on_heartbeat(&heartbeat),
            PrimaryEvent::Disconnected => self.on_disconnected(now),
            PrimaryEvent::Append(entries) => self.on_append(entries, now),
            PrimaryEvent::Flush => self.transmit_log(now),
            PrimaryEvent::Released { through } => {
                self.log.released(through, now + self.timing.flush_interval);
            }
            PrimaryEvent::Claim(answer) => self.on_claim_answer(answer, now),
            PrimaryEvent::GuestEnded => {
                self.guest_ended = true;
                self.transmit_log(now);
            }
            PrimaryEvent::Tick => {}
        }
        self.on_time(now);
        self.finish_if_done();
    }

    /// The next thing to do. Call it until `None` after [`new`](Self::new) and after every
    /// [`handle`](Self::handle), and do the things in this order.
    pub fn poll(&mut self) -> Option<PrimaryAction> {
        self.actions.pop_front()
    }

    /// When to call [`handle`](Self::handle) with [`PrimaryEvent::Tick`] if nothing happens
    /// sooner. Never, if `None`.
    #[must_use]
    pub fn next_wakeup(&self) -> Option<Duration> {
        match &self.state {
            State::Greeting { give_up_at } => Some(*give_up_at),
            State::Paired { pulse, contact } => {
                let next = pulse.due_at().min(contact.lost_at());
                Some(self.log.flush_at().map_or(next, |flush| flush.min(next)))
            }
            State::Claiming(claim) => Some(claim.next_wakeup()),
            State::Alone | State::Ended => None,
        }
    }

    /// Back-pressure: false while the vCPU must not append. One batch of entries too many is taken.
    #[must_use]
    pub fn has_room(&self) -> bool {
        let outputs = self.log.held_outputs() < self.limits.kept_outputs;
        match self.state {
            State::Ended => true,
            State::Alone => outputs,
            _ => outputs && self.log.backlog_bytes() < self.limits.backlog_bytes,
        }
    }

    /// Every entry up to this one has been replayed by the backup, as far as it has said. It rises only in [`handle`](Self::handle): reading it after
    /// each is enough. A backup tells of a [`DiskOutcome::DoneApart`](crate::DiskOutcome::DoneApart) as soon as it has replayed it, of other entries in time. It stands
    /// still once the backup is given up: after [`PrimaryAction::RunAlone`] nothing needs to wait for it.
    #[must_use]
    pub fn executed(&self) -> u64 {
        self.log.executed()
    }

    fn suspect_silence(&mut self, now: Duration) {
        if let State::Paired { contact, .. } = &self.state
            && now >= contact.lost_at()
        {
            let lasted = contact.silence(now);
            self.suspect(LossReason::Silence { lasted }, now);
        }
    }

    fn on_message(&mut self, message: Message, now: Duration) {
        match (&mut self.state, message) {
            (State::Greeting { .. }, Message::Welcome) => self.form_pair(now),
            (State::Greeting { .. }, Message::Refuse { mismatches, reason }) => {
                self.state = State::Ended;
                self.report(Report::Refused {
                    mismatches: mismatches.clone(),
                    reason: reason.clone(),
                });
                self.act(PrimaryAction::Refused { mismatches, reason });
            }
            (State::Greeting { .. }, other) => self.halt(format!(
                "the peer answered Hello with {}; is it a lockstep backup?",
                other.name()
            )),
            (State::Paired { contact, .. }, Message::Ack { received, executed }) => {
                match self.log.acknowledge(received, executed) {
                    Ok(sent_at) => {
                        if let Some(sent_at) = sent_at {
                            contact.proved(sent_at);
                        }
                        self.on_acknowledged();
                    }
                    Err(violation) => self.suspect(LossReason::Protocol(violation), now),
                }
            }
            (State::Paired { .. }, Message::Diverged { description }) => {
                self.suspect(LossReason::Diverged(description), now);
            }
            (State::Paired { .. }, other) => {
                let violation = format!("{} from a backup", other.name());
                self.suspect(LossReason::Protocol(violation), now);
            }
            (State::Claiming(_) | State::Alone | State::Ended, _) => {}
        }
    }

    fn on_acknowledged(&mut self) {
        self.lag.executed(self.log.executed());
        if let Some(through) = self.log.permit_acknowledged() {
            self.act(PrimaryAction::Release { through });
        }
    }

    fn on_heartbeat(&mut self, heartbeat: &Heartbeat) {
        if let State::Paired { pulse, contact } = &mut self.state
            && pulse.hear(heartbeat)
        {
            contact.heartbeat_echoed(heartbeat.heard);
        }
    }

    fn on_disconnected(&mut self, now: Duration) {
        match self.state {
            State::Greeting { .. } => self.halt(
                "the backup closed the connection before the pair was formed; see its log"
                    .to_owned(),
            ),
            State::Paired { .. } => self.suspect(LossReason::ConnectionClosed, now),
            State::Claiming(_) | State::Alone | State::Ended => {}
        }
    }

    fn on_append(&mut self, entries: Vec<Entry>, now: Duration) {
        let flush_at = now + self.timing.flush_interval;
        let mut urgent = false;
        for entry in entries {
            match self.state {
                State::Greeting { .. } => {
                    panic!("an entry was appended before the pair was formed")
                }
                State::Paired { .. } => {
                    self.lag.appended(entry.seq, now);
                    urgent |= self.log.append(entry, flush_at);
                }
                State::Claiming(_) | State::Alone => self.log.append_unsent(&entry),
                State::Ended => {}
            }
        }
        if urgent || self.log.pending_bytes() >= self.limits.batch_bytes {
            self.transmit_log(now);
        }
        if matches!(self.state, State::Alone) {
            self.release_all();
        }
    }

    fn on_claim_answer(&mut self, answer: ClaimAnswer, now: Duration) {
        let State::Claiming(claim) = &mut self.state else {
            return;
        };
        match claim.answered(answer, &self.timing, now) {
            Outcome::Won { term } => {
                self.term = term;
                self.state = State::Alone;
                self.report(Report::ClaimWon { term });
                self.act(PrimaryAction::RunAlone { term });
                self.report(Report::Live { term });
                self.release_all();
            }
            Outcome::Lost { term } => {
                let wanted = claim.expected_term() + 1;
                self.report(Report::ClaimLost { term });
                self.halt(format!(
                    "the claim of term {wanted} was lost (the arbiter is in term {term}): \
                     the backup runs the guest"
                ));
            }
            Outcome::Undecided => {}
        }
    }

    fn on_time(&mut self, now: Duration) {
        match &mut self.state {
            State::Greeting { give_up_at } if now >= *give_up_at => self.halt(format!(
                "the backup did not answer Hello within {} ms",
                self.timing.handshake_timeout.as_millis()
            )),
            State::Paired { .. } => {
                if self.log.flush_at().is_some_and(|at| now >= at) {
                    self.transmit_log(now);
                }
                self.send_heartbeat(now);
            }
            State::Claiming(claim) => {
                let ask = claim.ask_now(&self.timing, now);
                if claim.tell_waiting() {
                    self.report(Report::WaitingForArbiter);
                }
                if ask {
                    let expected_term = self.term;
                    self.act(PrimaryAction::Claim { expected_term });
                }
            }
            _ => {}
        }
    }

    fn form_pair(&mut self, now: Duration) {
        let Timing {
            heartbeat_interval,
            failure_timeout,
            lag_report_interval,
            ..
        } = self.timing;
        self.state = State::Paired {
            pulse: Pulse::new(
                Role::Primary,
                self.term,
                self.session,
                heartbeat_interval,
                now,
            ),
            contact: Contact::new(failure_timeout, now),
        };
        self.lag_report_at = now + lag_report_interval;
        self.report(Report::PairFormed { term: self.term });
        self.act(PrimaryAction::Start);
    }

    /// Pacing goes with the heartbeats: often enough, and no timer of its own.
    fn send_heartbeat(&mut self, now: Duration) {
        let State::Paired { pulse, contact } = &mut self.state else {
            return;
        };
        let Some(heartbeat) = pulse.beat(now) else {
            return;
        };
        contact.heartbeat_sent(heartbeat.counter, now);
        self.act(PrimaryAction::SendHeartbeat(heartbeat));
        let time = self.lag.time(now);
        if let Some(sleep_percent) = self.throttle.step(time, now) {
            self.pace(sleep_percent);
        }
        if now >= self.lag_report_at {
            self.lag_report_at = now + self.timing.lag_report_interval;
            let entries = self.lag.entries();
            self.report(Report::Lag { entries, time });
        }
    }

    fn transmit_log(&mut self, now: Duration) {
        if !matches!(self.state, State::Paired { .. }) {
            return;
        }
        while let Some((entries, released_through)) =
            self.log.next_batch(self.limits.batch_bytes, now)
        {
            self.act(PrimaryAction::Transmit(Message::Entries {
                entries,
                released_through,
            }));
        }
    }

    fn suspect(&mut self, why: LossReason, now: Duration) {
        let expected_term = self.term;
        self.state = State::Claiming(Claim::new(expected_term, &self.timing, now));
        self.log.stop_sending();
        self.report(Report::PeerLost { why });
        if self.throttle.let_go() {
            self.pace(0);
        }
        self.report(Report::Claiming {
            term: expected_term + 1,
        });
        self.act(PrimaryAction::Claim { expected_term });
    }

    fn release_all(&mut self) {
        if let Some(through) = self.log.permit_all() {
            self.act(PrimaryAction::Release { through });
        }
    }

    fn finish_if_done(&mut self) {
        if !self.guest_ended || self.log.held_outputs() > 0 {
            return;
        }
        match self.state {
            State::Paired { .. } if self.log.all_acknowledged() => {
                self.act(PrimaryAction::Transmit(Message::Goodbye));
            }
            State::Alone => {}
            _ => return,
        }
        self.state = State::Ended;
        self.report(Report::Finished);
        self.act(PrimaryAction::Finish);
    }

    fn halt(&mut self, reason: String) {
        self.state = State::Ended;
        self.report(Report::Halted {
            reason: reason.clone(),
        });
        self.act(PrimaryAction::Halt { reason });
    }

    fn pace(&mut self, sleep_percent: u8) {
        self.report(Report::Paced { sleep_percent });
        self.act(PrimaryAction::Pace { sleep_percent });
    }

    fn report(&mut self, report: Report) {
        self.act(PrimaryAction::Report(report));
    }

    fn act(&mut self, action: PrimaryAction) {
        self.actions.push_back(action);
    }
}
