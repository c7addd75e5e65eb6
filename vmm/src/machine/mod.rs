//! The deterministic machine: engine, memory and devices.
//!
//! In: inputs, each at its position, and the answers to time reads. Out: effects, as values. What
//! always holds: the state is a function of the initial state and of what was put in, and where.
//! Nothing here reads a clock, a file or a socket.
//!
//! ```text
//!   run(goal) ──► Stop::Exit(exit) ──► handle(exit, time) ──► take_effects()
//!                                   ──► apply(event) | interrupt() ──► take_effects()
//!            ──► Stop::Kicked ──► take_delta() ──► go_on_from(state)    a replica: put_pages(…) ──► go_on_from(state)
//! ```
//!
//! Where the engine counts its instructions, guest time follows from their number ([`clock`]), and a timer fires at the very instruction at which it
//! is due: neither needs an input. Only a halted vCPU, whose count stands still, must be told that time passes.

pub mod boot;
pub mod clock;
pub mod compare;
pub mod digest;
pub mod inspect;
pub mod layout;
pub mod linear;
pub mod memory;
pub mod state;

use logging_channel::{DiskOutcome, EndReason, Event, Position};
use vm_memory::{Bytes, GuestAddress};

pub use memory::{
    GuestMemory, MAX_MEMORY_BYTES, MIN_MEMORY_BYTES, MemoryError, PAGE_BYTES, allocate_memory,
};

use crate::{
    devices::{Devices, DevicesConfig, DiskAnswer},
    effect::{DiskOperation, DiskRequest, Effect},
    engine::{
        AnyEngine, ClockKind, CpuMode, Delta, Engine, EngineError, Exit, Goal, Kicker, Registers,
        Reply, Stop,
    },
    inputs::Situation,
};
use boot::BootState;
use clock::GuestClock;

/// A machine and where it stands.
pub struct Machine<E> {
    engine: E,
    memory: GuestMemory,
    devices: Devices,
    exits: u64,
    clock: GuestClock,
    /// Instructions retired by when a timer fires by itself, if nothing changes before. Follows from the rest.
    timer_at: Option<u64>,
    halted: bool,
    ended: Option<EndReason>,
    /// Periodic digests so far.
    digests: u64,
}

impl<E: Engine> Machine<E> {
    /// A machine that is about to execute its first instruction. `memory` holds what the loader put there.
    ///
    /// # Errors
    /// If the engine refuses the initial state.
    pub fn new(
        mut engine: E,
        memory: GuestMemory,
        devices: &DevicesConfig,
        state: &BootState,
    ) -> Result<Self, EngineError> {
        engine.boot(state)?;
        Ok(Self {
            engine,
            memory,
            devices: Devices::new(devices),
            exits: 0,
            clock: GuestClock::default(),
            timer_at: None,
            halted: false,
            ended: None,
            digests: 0,
        })
    }

    /// Where the machine stands.
    #[must_use]
    pub fn position(&self) -> Position {
        Position {
            exits: self.exits,
            instructions: self.engine.instructions(),
        }
    }

    /// Its memory.
    #[must_use]
    pub fn memory(&self) -> &GuestMemory {
        &self.memory
    }

    /// Guest time now, nanoseconds since boot: where the engine does not count its instructions, the latest that any input told.
    #[must_use]
    pub fn time_ns(&self) -> u64 {
        self.clock.at(self.retired_or_zero())
    }

    /// The vCPU's registers as of now.
    ///
    /// # Errors
    /// If the engine fails.
    pub fn registers(&mut self) -> Result<Registers, EngineError> {
        self.engine.registers()
    }

    /// What kind of code the vCPU is about to execute.
    ///
    /// # Errors
    /// If the engine fails.
    pub fn mode(&mut self) -> Result<CpuMode, EngineError> {
        self.engine.mode()
    }

    /// Whether the guest ended, and why.
    #[must_use]
    pub fn ended(&self) -> Option<EndReason> {
        self.ended
    }

    /// Runs the guest to the next exit or to the goal. An exit must be handled next.
    ///
    /// # Errors
    /// If the engine fails.
    ///
    /// # Panics
    /// If the vCPU waits in HLT: only an interrupt lets it run on.
    pub fn run(&mut self, goal: Goal) -> Result<Stop, EngineError> {
        assert!(
            !self.halted,
            "the vCPU waits for an interrupt at {}",
            self.position()
        );
        loop {
            let leg = self.leg(goal);
            let stop = self.engine.run(leg)?;
            if let Stop::Exit(_) = stop {
                self.exits += 1;
                return Ok(stop);
            }
            self.fire_due_timers();
            if stop == Stop::Breakpoint || leg == goal || self.has_reached(goal) {
                return Ok(stop);
            }
        }
    }

    /// Towards `goal`, but not past the next timer.
    fn leg(&self, goal: Goal) -> Goal {
        let Some(timer_at) = self.timer_at else {
            return goal;
        };
        let left = timer_at.saturating_sub(self.retired_or_zero());
        let timer = self.engine.instructions().saturating_add(left);
        match goal {
            Goal::Exit => Goal::Instructions(timer),
            Goal::Instructions(end) => Goal::Instructions(end.min(timer)),
            Goal::Interruptible { limit } => Goal::Interruptible {
                limit: limit.min(timer),
            },
        }
    }

    fn has_reached(&self, goal: Goal) -> bool {
        let instructions = self.engine.instructions();
        match goal {
            Goal::Exit => false,
            Goal::Instructions(end) => instructions >= end,
            Goal::Interruptible { limit } => {
                instructions >= limit || self.engine.accepts_interrupts()
            }
        }
    }

    /// Whether [`Self::handle`] must be given the time for this exit. Where the engine counts its instructions, the machine knows it.
    #[must_use]
    pub fn needs_time(&self, exit: Exit) -> bool {
        if self.engine.retired().is_some() {
            return false;
        }
        match exit {
            Exit::PortRead { port, .. } => self.devices.port_needs_time(port, false),
            Exit::PortWrite { port, .. } => self.devices.port_needs_time(port, true),
            Exit::TscRead { .. } => true,
            _ => false,
        }
    }

    /// Serves an exit. `time_ns` is the guest time, where [`Self::needs_time`].
    ///
    /// # Errors
    /// If the engine fails.
    pub fn handle(&mut self, exit: Exit, time_ns: Option<u64>) -> Result<(), EngineError> {
        if let Some(time_ns) = time_ns {
            self.set_time(time_ns);
        }
        // The exit's own instruction may be the one at which a timer is due.
        self.fire_due_timers();
        let now_ns = self.time_ns();
        let reply = match exit {
            Exit::PortRead { port, width } => {
                Reply::Port(self.devices.port_read(port, width, now_ns))
            }
            Exit::PortWrite { port, width, value } => {
                self.devices.port_write(port, width, value, now_ns);
                Reply::None
            }
            Exit::MmioRead { address, width } => {
                let mut data = [0; 8];
                self.devices
                    .mmio_read(address, &mut data[..usize::from(width)]);
                Reply::Mmio(data)
            }
            Exit::MmioWrite {
                address,
                width,
                data,
            } => {
                self.devices
                    .mmio_write(address, &data[..usize::from(width)], &self.memory);
                Reply::None
            }
            Exit::TscRead { .. } => Reply::Tsc { value: tsc(now_ns) },
            Exit::Halt | Exit::InjectionPoint => Reply::None,
            Exit::Shutdown => {
                self.ended = Some(EndReason::TripleFault);
                Reply::None
            }
        };
        self.engine.reply(reply)?;
        if exit == Exit::Halt {
            self.halt();
        }
        if self.devices.reset_requested() {
            self.ended = Some(EndReason::Reset);
        }
        if self.ended.is_some() {
            self.devices.flush_console();
        }
        self.plan_timer();
        Ok(())
    }

    fn halt(&mut self) {
        self.devices.flush_console();
        self.halted = true;
        if !self.engine.accepts_interrupts() {
            self.ended = Some(EndReason::Halted);
        }
    }

    /// Puts an asynchronous input in, at this position. Other events are none of the machine's business; nor is a request to a disk that is
    /// [`DiskOutcome::DoneApart`], as what was read is not in it: whoever has the bytes gives them as [`DiskOutcome::Done`].
    ///
    /// # Panics
    /// If time would go backwards: whoever makes entries keeps it from that.
    pub fn apply(&mut self, event: &Event) {
        let retired = self.retired_or_zero();
        match event {
            Event::Clock {
                guest_ns,
                ps_per_instruction,
            } => self.clock.correct(retired, *guest_ns, *ps_per_instruction),
            Event::Tick { guest_ns } => {
                self.set_time(*guest_ns);
                self.devices.tick(*guest_ns);
            }
            Event::Frame { bytes } => self.devices.receive_frame(bytes, &self.memory),
            Event::ConsoleInput { bytes } => self.devices.console_input(bytes),
            Event::Entropy { bytes } => self.devices.entropy(bytes, &self.memory),
            Event::Disk {
                disk,
                request,
                outcome,
            } => self.disk_done(*disk, *request, outcome),
            Event::Step { .. }
            | Event::Time { .. }
            | Event::Interrupt { .. }
            | Event::Output { .. }
            | Event::Digest { .. }
            | Event::End { .. }
            | Event::Pages { .. }
            | Event::State { .. } => {}
        }
        self.plan_timer();
    }

    fn disk_done(&mut self, disk: u8, request: u64, outcome: &DiskOutcome) {
        let answer = match outcome {
            DiskOutcome::Done { bytes } => DiskAnswer::Done(bytes),
            DiskOutcome::Failed => DiskAnswer::Failed,
            DiskOutcome::Unsupported => DiskAnswer::Unsupported,
            DiskOutcome::DoneApart { .. } => return,
        };
        self.devices.disk_done(disk, request, answer, &self.memory);
    }

    /// Acknowledges the interrupt controller's request and delivers it to the vCPU; returns the vector.
    /// `None` if there is no request or the vCPU takes none here.
    ///
    /// # Errors
    /// If the engine fails.
    pub fn interrupt(&mut self) -> Result<Option<u8>, EngineError> {
        if !self.devices.interrupt_pending() || !self.engine.accepts_interrupts() {
            return Ok(None);
        }
        self.devices.flush_console();
        let vector = self.devices.acknowledge_interrupt();
        self.engine.interrupt(vector)?;
        self.halted = false;
        self.plan_timer();
        Ok(Some(vector))
    }

    /// From here on the guest's stores are accounted for by page, anew.
    ///
    /// # Errors
    /// If the host cannot.
    pub fn track_dirty(&mut self) -> Result<(), EngineError> {
        self.engine.track_dirty()
    }

    /// After [`Stop::Kicked`]: what the guest has become. [`Self::go_on_from`] must follow.
    ///
    /// # Errors
    /// If the engine fails.
    pub fn take_delta(&mut self) -> Result<Delta, EngineError> {
        self.engine.take_delta()
    }

    /// Puts bytes of a delta into memory. False if there is no memory.
    #[must_use]
    pub fn put_pages(&mut self, address: u64, bytes: &[u8]) -> bool {
        self.memory
            .write_slice(bytes, GuestAddress(address))
            .is_ok()
    }

    /// The guest goes on from a delta's state, one exit further; memory is as it was then.
    ///
    /// # Errors
    /// If the state is none of this engine's.
    pub fn go_on_from(&mut self, state: &[u8]) -> Result<(), EngineError> {
        self.engine.go_on_from(state)?;
        self.exits += 1;
        Ok(())
    }

    /// A handle by which another thread has the guest stopped, where the engine needs that.
    pub fn kicker(&self) -> Option<Kicker> {
        self.engine.kicker()
    }

    /// What the devices want done since the last call, in order.
    pub fn take_effects(&mut self) -> Vec<Effect> {
        self.devices.take_effects()
    }

    fn set_time(&mut self, time_ns: u64) {
        self.clock.set(self.retired_or_zero(), time_ns);
    }

    /// Instructions retired; 0 where the engine does not count them, so that the clock stands where it was set.
    fn retired_or_zero(&self) -> u64 {
        self.engine.retired().unwrap_or(0)
    }

    /// Fires the timers that are due by now, where they fire by themselves.
    fn fire_due_timers(&mut self) {
        if self.timer_at.is_some_and(|at| at <= self.retired_or_zero()) {
            self.devices.tick(self.time_ns());
            self.plan_timer();
        }
    }

    /// Works out when the next timer fires by itself, and fires what is due already. Called wherever devices or clock have changed, which is
    /// at exits, entries and timers alone: every replica does so at the same positions.
    ///
    /// A timer is held back while an interrupt waits besides its own: IRQ 0 has the highest priority, and a guest that is slow at its ticks would
    /// never see its packets.
    fn plan_timer(&mut self) {
        self.timer_at = None;
        let Some(retired) = self.engine.retired() else {
            return;
        };
        while let Some(deadline_ns) = self.devices.deadline_ns()
            && !(self.devices.interrupt_pending() && self.devices.other_interrupt_pending())
        {
            self.timer_at = self.clock.reaches(deadline_ns);
            if self.timer_at.is_none_or(|at| at > retired) {
                return;
            }
            self.devices.tick(self.clock.at(retired));
        }
        self.timer_at = None;
    }
}

impl Machine<AnyEngine> {
    /// Changes a general register, as a fault would; see [`AnyEngine::set_general_register`].
    ///
    /// # Errors
    /// See there.
    pub fn set_general_register(&mut self, index: usize, value: u64) -> Result<(), EngineError> {
        self.engine.set_general_register(index, value)
    }
}

impl<E: Engine> Situation for Machine<E> {
    fn clock_kind(&self) -> ClockKind {
        self.engine.clock_kind()
    }

    fn retired(&self) -> Option<u64> {
        self.engine.retired()
    }

    fn time_ns(&self) -> u64 {
        Machine::time_ns(self)
    }

    fn ps_per_instruction(&self) -> u32 {
        self.clock.ps_per_instruction()
    }

    fn deadline_ns(&self) -> Option<u64> {
        self.devices.deadline_ns()
    }

    fn takes_frame(&self) -> bool {
        self.devices.takes_frame(&self.memory)
    }

    fn console_input_room(&self) -> usize {
        self.devices.console_input_room()
    }

    fn entropy_bytes(&self) -> Option<usize> {
        self.devices.entropy_bytes(&self.memory)
    }

    fn disk_request(&self, disk: u8, request: u64) -> Option<DiskOperation> {
        self.devices.disk_request(disk, request).cloned()
    }

    fn disk_requests(&self) -> Vec<DiskRequest> {
        self.devices.disk_requests()
    }

    fn interrupt_pending(&self) -> bool {
        self.devices.interrupt_pending()
    }

    fn other_than_timer_pending(&self) -> bool {
        self.devices.other_interrupt_pending()
    }

    fn accepts_interrupts(&self) -> bool {
        self.engine.accepts_interrupts()
    }

    fn halted(&self) -> bool {
        self.halted
    }
}

/// The time-stamp counter at a guest time.
fn tsc(time_ns: u64) -> u64 {
    const { assert!(layout::TSC_HZ == 1_000_000_000, "one count a nanosecond") };
    time_ns
}

#[cfg(test)]
mod disk_tests;
#[cfg(test)]
mod tests;
