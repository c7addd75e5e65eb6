//! The primary's process: its protocol core, and the session that drives it.

use std::collections::VecDeque;

use logging_channel::protocol::{ClaimAnswer, Primary, PrimaryAction, PrimaryEvent, Report, Role};
use logging_channel::{Digest, Event};

use crate::checker::Checked;
use crate::guest::Guest;
use crate::network::Segment;
use crate::process::{Input, Process};
use crate::world::{Bug, Happening, TERM, World};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Greeting,
    Paired,
    Suspecting,
    /// Runs alone (the primary) or has taken over (the backup).
    Live,
    Finished,
    Halted,
}

pub struct PrimaryProcess {
    pub process: Process,
    pub core: Primary,
    pub guest: Guest,
    pub mode: Mode,
    /// Outputs held back.
    pub held: VecDeque<(u64, Digest)>,
    pub sleep_percent: u64,
}

impl PrimaryProcess {
    pub fn new(process: Process, core: Primary) -> Self {
        Self {
            process,
            core,
            guest: Guest::default(),
            mode: Mode::Greeting,
            held: VecDeque::new(),
            sleep_percent: 0,
        }
    }

    pub fn vcpu_may_run(&self) -> bool {
        self.process.is_running()
            && !self.guest.ended
            && self.core.has_room()
            && matches!(self.mode, Mode::Paired | Mode::Suspecting | Mode::Live)
    }
}

impl World {
    pub fn tick_primary(&mut self) -> Checked {
        self.tell_primary(PrimaryEvent::Tick)
    }

    pub fn take_primary(&mut self, input: Input) -> Checked {
        self.tell_primary(match input {
            Input::Segment(Segment::Message(message)) => PrimaryEvent::Message(*message),
            Input::Segment(Segment::Close) => PrimaryEvent::Disconnected,
            Input::Heartbeat(heartbeat) => PrimaryEvent::Heartbeat(heartbeat),
            Input::Answer(ClaimAnswer::Unreachable)
                if self.bug == Some(Bug::RunsAloneUnreachable) =>
            {
                PrimaryEvent::Claim(ClaimAnswer::Won { term: TERM + 1 })
            }
            Input::Answer(answer) => PrimaryEvent::Claim(answer),
        })
    }

    fn tell_primary(&mut self, event: PrimaryEvent) -> Checked {
        let clock = self.clock(Role::Primary);
        self.primary.core.handle(event, clock);
        self.perform_primary()
    }

    pub fn perform_primary(&mut self) -> Checked {
        let was_live = self.primary.mode == Mode::Live;
        while let Some(action) = self.primary.core.poll() {
            self.perform_primary_action(action)?;
        }
        if self.primary.mode == Mode::Live && !was_live {
            self.checker.survives(Role::Primary)?;
        }
        Ok(())
    }

    fn perform_primary_action(&mut self, action: PrimaryAction) -> Checked {
        const ME: Role = Role::Primary;
        match action {
            PrimaryAction::Transmit(message) => self.transmit(ME, message),
            PrimaryAction::SendHeartbeat(heartbeat) => self.send_heartbeat(ME, heartbeat),
            PrimaryAction::Start => self.primary.mode = Mode::Paired,
            PrimaryAction::Release { through } => {
                self.release(through)?;
                let at = self.now + self.random.between(0, 1_500);
                self.schedule(at, Happening::Released { through });
            }
            PrimaryAction::Claim { expected_term } => self.claim(ME, expected_term),
            PrimaryAction::RunAlone { term } => {
                self.primary.mode = Mode::Live;
                self.checker.live(ME, term)?;
            }
            PrimaryAction::Pace { sleep_percent } => {
                self.primary.sleep_percent = u64::from(sleep_percent);
            }
            PrimaryAction::Report(report) => {
                self.trace(|| format!("primary: {report}"));
                if matches!(report, Report::PeerLost { .. }) {
                    self.primary.mode = Mode::Suspecting;
                    if self.closes_on_suspicion {
                        self.close(ME);
                    }
                }
            }
            PrimaryAction::Refused { reason, .. } => return Err(reason),
            PrimaryAction::Finish => {
                self.primary.mode = Mode::Finished;
                self.exit(ME);
            }
            PrimaryAction::Halt { .. } => {
                self.primary.mode = Mode::Halted;
                self.exit(ME);
            }
        }
        Ok(())
    }

    /// Lets outputs go. That they have gone is known a little later.
    fn release(&mut self, through: u64) -> Checked {
        let alone = self.primary.mode == Mode::Live;
        while let Some(&(seq, digest)) = self.primary.held.front()
            && seq <= through
        {
            self.primary.held.pop_front();
            self.trace(|| format!("primary releases {seq}"));
            self.checker.output(Role::Primary, alone, seq, digest)?;
        }
        Ok(())
    }

    pub fn primary_released(&mut self, through: u64) -> Checked {
        if self.primary.process.is_dead() {
            return Ok(());
        }
        if !self.primary.process.is_running() {
            self.schedule(self.now + 10_000, Happening::Released { through });
            return Ok(());
        }
        self.tell_primary(PrimaryEvent::Released { through })?;
        self.pump(Role::Primary)
    }

    /// The primary's vCPU runs a little and records some entries.
    pub fn run_primary_vcpu(&mut self) -> Checked {
        if self.primary.process.is_dead() || self.primary.guest.ended {
            return Ok(());
        }
        let pace = 100 * self.vcpu_interval / (100 - self.primary.sleep_percent);
        let at = self.now + self.random.between(pace / 2, pace * 2);
        self.schedule(at, Happening::Vcpu(Role::Primary));
        if !self.primary.vcpu_may_run() {
            return Ok(());
        }
        let mut entries = Vec::new();
        for _ in 0..self.random.between(1, 5) {
            if self.primary.guest.ended {
                break;
            }
            let end = self.guest_ends_at.is_some_and(|end| self.now >= end);
            let entry = self.primary.guest.record(&mut self.random, end);
            let state = self.primary.guest.state();
            self.checker.primary_appended(&entry, state);
            if let Event::Output { digest, .. } = entry.event {
                self.primary.held.push_back((entry.seq, digest));
            }
            entries.push(entry);
        }
        if self.bug == Some(Bug::ReleasesBeforeAck) {
            let through = self.primary.guest.last_seq;
            self.release(through)?;
        }
        let ended = self.primary.guest.ended;
        self.tell_primary(PrimaryEvent::Append(entries))?;
        if ended {
            self.tell_primary(PrimaryEvent::GuestEnded)?;
        }
        self.pump(Role::Primary)
    }
}
