//! The primary's process: its protocol core, and the session that drives it.

use std::collections::VecDeque;
use std::ops::Range;

use logging_channel::protocol::{ClaimAnswer, Primary, PrimaryAction, PrimaryEvent, Report, Role};
use logging_channel::{Digest, DiskOutcome, Entry, Event};

use crate::bug::Bug;
use crate::checker::Checked;
use crate::guest::{Answer, Did, Guest};
use crate::network::Segment;
use crate::process::{Input, Process};
use crate::table::Request;
use crate::world::{Happening, TERM, World};

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
    /// Outputs may leave up to this entry.
    permitted: u64,
    /// Writes and flushes not yet submitted.
    writes: Vec<HeldWrite>,
    /// Completed reads that the backup may have yet to do for itself: the entries of their completion.
    read_apart: Vec<(u64, Range<usize>)>,
    /// What the disk has answered and the guest has yet to be told.
    pub answers: VecDeque<Answer>,
}

struct HeldWrite {
    /// The entry at which it was issued.
    seq: u64,
    /// The backup must have executed this entry.
    after: u64,
    request: Request,
}

impl PrimaryProcess {
    pub fn new(process: Process, core: Primary, guest: Guest) -> Self {
        Self {
            process,
            core,
            guest,
            mode: Mode::Greeting,
            held: VecDeque::new(),
            sleep_percent: 0,
            permitted: 0,
            writes: Vec::new(),
            read_apart: Vec::new(),
            answers: VecDeque::new(),
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
        self.submit_writes();
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
                self.grant(ME, term);
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
        self.primary.permitted = self.primary.permitted.max(through);
        while let Some(&(seq, digest)) = self.primary.held.front()
            && seq <= through
        {
            self.primary.held.pop_front();
            self.trace(|| format!("primary releases {seq}"));
            self.checker.output(Role::Primary, alone, seq, digest)?;
        }
        Ok(())
    }

    /// Submits what may be: acknowledged, and not over anything that the backup has yet to read.
    fn submit_writes(&mut self) {
        let (primary, bug) = (&mut self.primary, self.bug);
        let (permitted, executed) = (primary.permitted, primary.core.executed());
        let alone = primary.mode == Mode::Live;
        let may_leave = |write: &mut HeldWrite| {
            let acknowledged = write.seq <= permitted || bug == Some(Bug::WritesBeforeAck);
            let read = write.after <= executed || bug == Some(Bug::WritesBeforeExecuted);
            acknowledged && (read || alone)
        };
        primary.read_apart.retain(|&(seq, _)| seq > executed);
        let leaving: Vec<HeldWrite> = primary.writes.extract_if(.., may_leave).collect();
        for write in leaving {
            self.submit(Role::Primary, write.request);
        }
    }

    /// The primary's part in what its guest did.
    fn on_recorded(&mut self, entry: &Entry, did: Did) {
        match did {
            Did::Sent(digest) => self.primary.held.push_back((entry.seq, digest)),
            Did::Issued(request) if request.operation.is_read() => {
                self.submit(Role::Primary, request);
            }
            Did::Issued(request) => self.hold_write(entry.seq, request),
            Did::Completed(request, _) => {
                if let Event::Disk { outcome, .. } = &entry.event
                    && matches!(outcome, DiskOutcome::DoneApart { .. })
                {
                    let range = request.operation.range();
                    self.primary.read_apart.push((entry.seq, range));
                }
            }
            Did::Nothing | Did::Made(_) => {}
        }
    }

    fn hold_write(&mut self, seq: u64, request: Request) {
        let overlapping = |(_, range): &&(u64, Range<usize>)| request.operation.overlaps(range);
        let reads = self.primary.read_apart.iter().filter(overlapping);
        let after = reads.map(|&(seq, _)| seq).max().unwrap_or(0);
        self.counts.held += u64::from(after > 0);
        let write = HeldWrite {
            seq,
            after,
            request,
        };
        self.primary.writes.push(write);
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
            let (guest, answers) = (&mut self.primary.guest, &mut self.primary.answers);
            let recorded = guest.record(&mut self.random, answers, end);
            let (entry, did) = recorded.map_err(|divergence| format!("{divergence:?}"))?;
            let state = guest.state();
            self.checker.primary_appended(&entry, &did, state)?;
            self.on_recorded(&entry, did);
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
