//! Live inputs: asks the world, and records what it said.
//!
//! In: the host's clock, the inbox, the host's randomness. Out: events for the machine and the same events as entries for
//! the recorder. *What* happens *when* is decided here and nowhere else; any choice is right, as it is recorded.
//!
//! Order at each position: clock, entropy, disk, frame, console, timer tick, interrupt. The tick comes after what else arrived and is held back
//! while another interrupt waits, so that a guest that is slow at its ticks still gets its packets (IRQ 0 has the highest priority).
//!
//! Where instructions are counted, the guest's clock is the machine's own: it is corrected when it has drifted from the host's ([`super::discipline`]),
//! also before what wakes a halted guest; there are ticks in HLT alone, where instructions stand still.
//!
//! Where the world is asked depends on what the engine counts:
//!
//! ```text
//!  ClockKind::Exits         at each exit. If an interrupt waits and is not accepted there: Step, some instructions further.
//!  ClockKind::Instructions  at each exit and, however long the guest computes, after each slice of instructions. If an interrupt
//!                           waits and is not accepted there: where it is, at the first instruction boundary that accepts it.
//! ```
//!
//! The replay needs no word about slices: each entry's position says where the machine stood.
//!
//! On a clock of exits a guest that computes on keeps its inputs waiting. With a limit to that ([`Live::with_late_limit`]) another thread
//! ([`super::late`]) has it stopped where it is, and what it has become is recorded as a state delta, which counts as an exit: what waits comes there.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use logging_channel::{Digest, DiskOutcome, EndReason, Entry, Event, Position};

use super::{
    DIGEST_INTERVAL_NS, DIGEST_TURNS, InputError, Inputs, Next, SLICE_INSTRUCTIONS,
    apart::{self, Apart},
    delta,
    discipline::{Correction, Discipline, Sample},
    inbox::Inbox,
    jitter::Jitter,
    late::{LateWatch, Patience},
    recorder::Recorder,
    slice_instructions,
};
use crate::{
    effect::Effect,
    engine::{ClockKind, Delta, Goal, Kicker},
    inputs::Situation,
    machine::GuestMemory,
};

/// Instructions that are single-stepped at most, from an exit where an interrupt waits, to find a place that takes it.
const STEP_LIMIT: u64 = 16;

/// Guest time by the host's clock: `base_ns` was at the host's `since`.
#[derive(Clone, Copy, Debug)]
pub struct HostClock {
    base_ns: u64,
    since: Instant,
}

impl HostClock {
    /// A clock that shows `base_ns` now and goes on from there.
    #[must_use]
    pub fn starting_at(base_ns: u64) -> Self {
        Self {
            base_ns,
            since: Instant::now(),
        }
    }

    /// Guest time, nanoseconds since boot.
    #[must_use]
    pub fn now_ns(&self) -> u64 {
        self.base_ns + self.since.elapsed().as_nanos() as u64
    }

    /// Goes on from `guest_ns`, if it is not there yet.
    fn catch_up_with(&mut self, guest_ns: u64) {
        self.base_ns += guest_ns.saturating_sub(self.now_ns());
    }
}

/// From one beginning of the account of dirty pages to the next, at least: a delta has all pages dirtied since then, and each
/// beginning costs the guest a fault for every page that it then dirties anew.
const TRACK_INTERVAL: Duration = Duration::from_secs(1);

/// What a live machine has against late inputs.
struct Late {
    watch: LateWatch,
    /// When the account of dirty pages began.
    tracked_since: Option<Instant>,
    /// Where the last delta was taken.
    delta_at: Option<Position>,
    patience: Patience,
}

/// The world as inputs.
pub struct Live {
    clock: HostClock,
    /// Of the guest's clock, from the first question on, where instructions drive it.
    discipline: Option<Discipline>,
    inbox: Arc<Inbox>,
    recorder: Box<dyn Recorder>,
    next_seq: u64,
    /// Where the last interrupt was taken: its handler begins there, with interrupts off.
    interrupted_at: Option<Position>,
    /// Exits and slices since the last digest.
    turns: u32,
    /// Slices alone: they are what makes a log silent.
    slices: u32,
    /// When the last digest was.
    digest_ns: u64,
    jitter: Option<Jitter>,
    late: Option<Late>,
    /// By disk.
    apart: Vec<Apart>,
}

impl Live {
    /// Live inputs from guest time `clock` on, or from the machine's own if it is later; `next_seq` is the number of the first entry that will be recorded.
    #[must_use]
    pub fn new(
        clock: HostClock,
        inbox: Arc<Inbox>,
        recorder: Box<dyn Recorder>,
        next_seq: u64,
    ) -> Self {
        Self {
            clock,
            discipline: None,
            inbox,
            recorder,
            next_seq,
            interrupted_at: None,
            turns: 0,
            slices: 0,
            digest_ns: 0,
            jitter: None,
            late: None,
            apart: Vec::new(),
        }
    }

    /// Defers inputs at random.
    #[must_use]
    pub fn with_jitter(mut self, seed: Option<u64>) -> Self {
        self.jitter = seed.map(Jitter::new);
        self
    }

    /// Has the guest stopped where it is if it keeps an input waiting for longer than `limit`. Without a kicker it never does.
    #[must_use]
    pub fn with_late_limit(mut self, kicker: Option<Kicker>, limit: Option<Duration>) -> Self {
        self.late = kicker.zip(limit).map(|(kicker, limit)| Late {
            watch: LateWatch::start(kicker, Arc::clone(&self.inbox), self.clock, limit),
            tracked_since: None,
            delta_at: None,
            patience: Patience::new(limit),
        });
        self
    }

    /// Somebody follows this log who does a part of the disks' work for itself; by disk, and nothing on those that are not named.
    #[must_use]
    pub fn with_disks_apart(mut self, apart: Vec<Apart>) -> Self {
        self.apart = apart;
        self
    }

    fn record(
        &mut self,
        at: Position,
        event: Event,
        effect: Option<Effect>,
    ) -> Result<(), InputError> {
        let seq = self.next_seq;
        self.next_seq += 1;
        self.recorder.record(Entry { seq, at, event }, effect)
    }

    fn input(
        &mut self,
        at: Position,
        event: Event,
        machine: &dyn Situation,
    ) -> Result<Next, InputError> {
        self.something_came_in();
        let told = self.told_apart(&event, machine);
        self.record(at, told.unwrap_or_else(|| event.clone()), None)?;
        Ok(Next::Apply(event))
    }

    /// What the log says instead, if whoever follows it has done the same request for itself.
    fn told_apart(&self, event: &Event, machine: &dyn Situation) -> Option<Event> {
        let Event::Disk {
            disk,
            request,
            outcome: DiskOutcome::Done { bytes },
        } = event
        else {
            return None;
        };
        let operation = machine.disk_request(*disk, *request)?;
        let apart = self.apart.get(usize::from(*disk))?;
        apart.covers(&operation).then(|| Event::Disk {
            disk: *disk,
            request: *request,
            outcome: DiskOutcome::DoneApart {
                checksum: apart::checksum(bytes),
            },
        })
    }

    /// The oldest completion that the machine still waits for.
    fn disk_completion(&self, machine: &dyn Situation) -> Option<Event> {
        while self.inbox.has_disk() {
            let done = self.inbox.take_disk()?;
            if machine.disk_request(done.disk, done.request).is_some() {
                return Some(done.into());
            }
        }
        None
    }

    /// The correction that the guest's clock needs, if it has one of its own. A halted guest's is put right when something wakes it.
    fn correction(&mut self, machine: &dyn Situation) -> Option<Event> {
        let retired = machine.retired()?;
        let guest_ns = machine.time_ns();
        let ps_per_instruction = machine.ps_per_instruction();
        let discipline = self.discipline.get_or_insert_with(|| {
            self.clock.catch_up_with(guest_ns);
            Discipline::new(ps_per_instruction)
        });
        if machine.halted() {
            discipline.waits();
            if !is_something_here(&self.inbox, machine) {
                return None;
            }
        }
        let Correction {
            guest_ns,
            ps_per_instruction,
        } = discipline.correct(Sample {
            host_ns: self.clock.now_ns(),
            guest_ns,
            retired,
            ps_per_instruction,
        })?;
        Some(Event::Clock {
            guest_ns,
            ps_per_instruction,
        })
    }

    /// What has arrived and the guest would take.
    fn arrived(&mut self, machine: &dyn Situation) -> Result<Option<Event>, InputError> {
        if let Some(count) = machine.entropy_bytes() {
            return Ok(Some(Event::Entropy {
                bytes: random_bytes(count)?,
            }));
        }
        if let Some(event) = self.disk_completion(machine) {
            return Ok(Some(event));
        }
        if self.inbox.has_frame()
            && machine.takes_frame()
            && let Some(bytes) = self.inbox.take_frame()
        {
            return Ok(Some(Event::Frame { bytes }));
        }
        if self.inbox.has_console()
            && let Some(bytes) = self.inbox.take_console(machine.console_input_room())
        {
            return Ok(Some(Event::ConsoleInput { bytes }));
        }
        let by_itself = machine.retired().is_some() && !machine.halted();
        let held_back = machine.interrupt_pending() && machine.other_than_timer_pending();
        if by_itself || held_back {
            return Ok(None);
        }
        if let Some(deadline_ns) = machine.deadline_ns() {
            let host_ns = self.clock.now_ns();
            if host_ns >= deadline_ns {
                // The guest may be ahead by as much as is not worth a correction.
                let guest_ns = host_ns.max(machine.time_ns());
                return Ok(Some(Event::Tick { guest_ns }));
            }
        }
        Ok(None)
    }

    /// The vCPU waits in HLT: so do we.
    fn wait(&self, machine: &dyn Situation) {
        let timeout = machine.deadline_ns().map(|deadline_ns| {
            Duration::from_nanos(deadline_ns.saturating_sub(self.clock.now_ns()))
        });
        if timeout != Some(Duration::ZERO) {
            self.set_idle(true);
            self.inbox.wait(
                machine.takes_frame(),
                machine.console_input_room() > 0,
                timeout,
            );
            self.set_idle(false);
        }
    }

    fn set_idle(&self, idle: bool) {
        if let Some(late) = &self.late {
            late.watch.set_idle(idle);
        }
    }

    fn something_came_in(&mut self) {
        if let Some(late) = &mut self.late {
            late.patience.relieved();
        }
    }

    /// Whether the account of dirty pages is to begin, or to begin anew.
    fn begins_to_track(&mut self) -> bool {
        let Some(late) = &mut self.late else {
            return false;
        };
        let begins = late
            .tracked_since
            .is_none_or(|since| since.elapsed() >= TRACK_INTERVAL);
        if begins {
            late.tracked_since = Some(Instant::now());
        }
        begins
    }

    /// The guest runs to its next exit, or until it is late.
    fn run_to_exit(&mut self, at: Position, machine: &dyn Situation) -> Next {
        if let Some(late) = &mut self.late {
            if late
                .delta_at
                .is_some_and(|delta_at| delta_at.exits + 1 != at.exits)
            {
                late.patience.relieved();
            }
            late.watch.before_run(
                machine.deadline_ns(),
                machine.interrupt_pending(),
                &late.patience,
            );
        }
        Next::Run(Goal::Exit)
    }

    /// After so many turns; where they may be very short, not before some time is over.
    fn digest_is_due(&mut self, machine: &dyn Situation) -> bool {
        if self.turns < DIGEST_TURNS {
            return false;
        }
        let now_ns = self.clock.now_ns();
        let soon = now_ns < self.digest_ns + DIGEST_INTERVAL_NS;
        // One slice more may follow an exit.
        if machine.retired().is_some() && soon && self.slices + 1 < DIGEST_TURNS {
            return false;
        }
        (self.turns, self.slices, self.digest_ns) = (0, 0, now_ns);
        true
    }

    fn defers(&mut self, at: Position, machine: &dyn Situation) -> bool {
        !machine.halted()
            && (at.instructions == 0 || machine.clock_kind() == ClockKind::Instructions)
            && self.jitter.as_mut().is_some_and(Jitter::defers)
    }

    /// Lets the guest run on, to where the world is asked again.
    fn run_on(&mut self, at: Position, machine: &dyn Situation) -> Next {
        self.turns += 1;
        self.slices += u32::from(at.instructions > 0);
        if machine.clock_kind() == ClockKind::Exits {
            return self.run_to_exit(at, machine);
        }
        let slice = self
            .jitter
            .as_mut()
            .map_or(SLICE_INSTRUCTIONS, Jitter::slice_instructions);
        let slice = slice_instructions(slice, machine.ps_per_instruction());
        let limit = at.instructions + slice;
        Next::Run(
            if machine.interrupt_pending() && !machine.accepts_interrupts() {
                Goal::Interruptible { limit }
            } else {
                Goal::Instructions(limit)
            },
        )
    }

    /// On a clock that counts exits, lets the guest run on while an interrupt waits that it does not accept here.
    fn step_on(&mut self, at: Position, machine: &dyn Situation) -> Result<Next, InputError> {
        if at.instructions > 0 || self.interrupted_at == Some(at) {
            return Ok(self.run_on(at, machine));
        }
        self.record(at, Event::Step { limit: STEP_LIMIT }, None)?;
        Ok(Next::Run(Goal::Interruptible { limit: STEP_LIMIT }))
    }
}

/// Whether something waits that the guest would take, but for its timer.
fn is_something_here(inbox: &Inbox, machine: &dyn Situation) -> bool {
    machine.interrupt_pending()
        || machine.entropy_bytes().is_some()
        || inbox.has_disk()
        || inbox.has_frame() && machine.takes_frame()
        || inbox.has_console() && machine.console_input_room() > 0
}

/// Random bytes from the host.
///
/// # Errors
/// If the host has none.
pub fn random_bytes(count: usize) -> Result<Vec<u8>, InputError> {
    let mut bytes = vec![0; count];
    let mut filled = 0;
    while filled < count {
        filled +=
            rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty())
                .map_err(|error| InputError::Host {
                    doing: "Cannot get random bytes from the host",
                    source: error.into(),
                })?;
    }
    Ok(bytes)
}

impl Inputs for Live {
    fn time(&mut self, at: Position) -> Result<u64, InputError> {
        let guest_ns = self.clock.now_ns();
        self.record(at, Event::Time { guest_ns }, None)?;
        Ok(guest_ns)
    }

    fn next(&mut self, at: Position, machine: &dyn Situation) -> Result<Next, InputError> {
        if self.digest_is_due(machine) {
            return Ok(Next::Digest);
        }
        if self.turns == 0 && self.begins_to_track() {
            return Ok(Next::Track);
        }
        if self.defers(at, machine) {
            return Ok(self.run_on(at, machine));
        }
        loop {
            if let Some(event) = self.correction(machine) {
                return self.input(at, event, machine);
            }
            if let Some(event) = self.arrived(machine)? {
                return self.input(at, event, machine);
            }
            if machine.interrupt_pending() && machine.accepts_interrupts() {
                return Ok(Next::Interrupt);
            }
            if !machine.halted() {
                break;
            }
            if self.inbox.is_closed() {
                return Err(InputError::Closed);
            }
            self.wait(machine);
        }
        match machine.clock_kind() {
            ClockKind::Exits if machine.interrupt_pending() => self.step_on(at, machine),
            _ => Ok(self.run_on(at, machine)),
        }
    }

    fn interrupted(&mut self, at: Position, vector: Option<u8>) -> Result<(), InputError> {
        let vector =
            vector.expect("an interrupt is only asked for where it is pending and accepted");
        self.interrupted_at = Some(at);
        self.something_came_in();
        self.record(at, Event::Interrupt { vector }, None)
    }

    fn output(&mut self, at: Position, effect: Effect) -> Result<(), InputError> {
        let event = Event::Output {
            kind: effect.kind(),
            digest: effect.digest(),
        };
        self.record(at, event, Some(effect))
    }

    fn digest(&mut self, at: Position, digest: Digest) -> Result<(), InputError> {
        self.record(at, Event::Digest { digest }, None)
    }

    fn delta(
        &mut self,
        at: Position,
        delta: &Delta,
        memory: &GuestMemory,
    ) -> Result<(), InputError> {
        let stopped_at = Instant::now();
        delta::events(delta, memory).try_for_each(|event| self.record(at, event, None))?;
        // What was told is compared at once: registers, devices, a stripe of memory.
        self.turns = DIGEST_TURNS;
        if let Some(late) = &mut self.late {
            late.delta_at = Some(at);
            late.patience.kicked(stopped_at.elapsed());
            // Taking it has begun the account anew.
            late.tracked_since = Some(Instant::now());
        }
        Ok(())
    }

    fn end(&mut self, at: Position, reason: EndReason, digest: Digest) -> Result<(), InputError> {
        self.record(at, Event::End { reason, digest }, None)
    }
}

#[cfg(test)]
mod tests;
