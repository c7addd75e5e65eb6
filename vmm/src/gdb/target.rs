//! A replay as what a debugger controls.
//!
//! In: what the debugger asks for. Out: what it is told. What always holds: breakpoints are the stub's own, nothing is written into the guest;
//! whenever the debugger may look, the machine stands at a departure ([`crate::session::time_travel`]), about to execute the instruction at RIP.

use std::collections::BTreeSet;

use gdbstub::{
    common::Signal,
    stub::SingleThreadStopReason,
    target::{
        Target, TargetError, TargetResult,
        ext::{
            base::{
                BaseOps,
                reverse_exec::{
                    ReplayLogPosition, ReverseCont, ReverseContOps, ReverseStep, ReverseStepOps,
                },
                singlethread::{
                    SingleThreadBase, SingleThreadResume, SingleThreadResumeOps,
                    SingleThreadSingleStep, SingleThreadSingleStepOps,
                },
            },
            breakpoints::{
                Breakpoints, BreakpointsOps, HwBreakpoint, HwBreakpointOps, HwWatchpoint,
                HwWatchpointOps, SwBreakpoint, SwBreakpointOps, WatchKind,
            },
            monitor_cmd::{ConsoleOutput as MonitorOutput, MonitorCmd, MonitorCmdOps},
        },
    },
};
use gdbstub_arch::x86::{X86_64_SSE, reg::X86_64CoreRegs};
use logging_channel::Position;

use super::registers;
use crate::{
    engine::{Checkpoint, EngineError, Inspect},
    host::ConsoleOutput,
    session::{
        replica::ReplicaError,
        time_travel::{Found, Halt, Search, Stops, TimeMachine, TravelError, Watched},
    },
};

/// Instructions between two looks whether the debugger wants something: some 30 ms.
const SLICE_INSTRUCTIONS: u64 = 5_000_000;
/// The same where memory is watched.
const WATCHED_SLICE_INSTRUCTIONS: u64 = 50_000;
/// The most that is watched at once, bytes: more than a debugger's variable needs.
const MAX_WATCHED_BYTES: u64 = 4096;

/// As far as the log goes.
const END: Position = Position {
    exits: u64::MAX,
    instructions: u64::MAX,
};

type Stop = SingleThreadStopReason<u64>;

const LOG_BEGINS: Stop = Stop::ReplayLog {
    tid: None,
    pos: ReplayLogPosition::Begin,
};
const LOG_ENDS: Stop = Stop::ReplayLog {
    tid: None,
    pos: ReplayLogPosition::End,
};

/// What the machine was told to do.
enum Errand {
    Nothing,
    Step,
    Continue,
    StepBack,
    ContinueBack(Search),
}

/// A replay under a debugger.
pub(super) struct Debugged<E: Checkpoint> {
    pub(super) replay: TimeMachine<E>,
    console: ConsoleOutput,
    software: BTreeSet<u64>,
    hardware: BTreeSet<u64>,
    watched: BTreeSet<Watched>,
    errand: Errand,
}

impl<E: Checkpoint + Inspect> Debugged<E> {
    pub(super) fn new(replay: TimeMachine<E>, console: ConsoleOutput) -> Self {
        Self {
            replay,
            console,
            software: BTreeSet::new(),
            hardware: BTreeSet::new(),
            watched: BTreeSet::new(),
            errand: Errand::Nothing,
        }
    }

    /// The debugger is gone, and its breakpoints with it.
    pub(super) fn forget_breakpoints(&mut self) {
        self.software.clear();
        self.hardware.clear();
        self.watched.clear();
        self.errand = Errand::Nothing;
    }

    /// Goes on with what the machine was told to do, for a slice. `None` as long as it is not done.
    pub(super) fn go_on(&mut self) -> Result<Option<Stop>, TravelError> {
        let stop = match std::mem::replace(&mut self.errand, Errand::Nothing) {
            Errand::Nothing => Some(Stop::DoneStep),
            Errand::Step => Some(match self.replay.step()? {
                None => Stop::DoneStep,
                Some(_) => LOG_ENDS,
            }),
            Errand::Continue => self.go_forward()?,
            Errand::StepBack => Some(if self.replay.step_back()? {
                Stop::DoneStep
            } else {
                LOG_BEGINS
            }),
            Errand::ContinueBack(search) => self.go_backward(search)?,
        };
        self.print();
        Ok(stop)
    }

    fn go_forward(&mut self) -> Result<Option<Stop>, TravelError> {
        let halt = self.replay.run_to_stop(&self.stops(), END, self.slice())?;
        Ok(match halt {
            None => {
                self.errand = Errand::Continue;
                None
            }
            Some(Halt::Breakpoint) => Some(self.hit()?),
            Some(Halt::Changed { address, .. }) => Some(changed(address)),
            Some(Halt::Until | Halt::Stopped(_)) => Some(LOG_ENDS),
        })
    }

    fn go_backward(&mut self, mut search: Search) -> Result<Option<Stop>, TravelError> {
        let (stops, slice) = (self.stops(), self.slice());
        let found = self.replay.search(&mut search, &stops, slice)?;
        Ok(match found {
            None => {
                self.errand = Errand::ContinueBack(search);
                None
            }
            Some(Found::Breakpoint) => Some(self.hit()?),
            Some(Found::Change { address }) => Some(changed(address)),
            Some(Found::Beginning) => Some(LOG_BEGINS),
        })
    }

    /// The debugger wants it to stop where it is.
    pub(super) fn interrupt(&mut self) -> Result<Stop, TravelError> {
        self.errand = Errand::Nothing;
        self.replay.settle()?;
        Ok(Stop::Signal(Signal::SIGINT))
    }

    fn stops(&self) -> Stops {
        Stops {
            breakpoints: self.software.union(&self.hardware).copied().collect(),
            watched: self.watched.iter().copied().collect(),
        }
    }

    fn slice(&self) -> u64 {
        if self.watched.is_empty() {
            SLICE_INSTRUCTIONS
        } else {
            WATCHED_SLICE_INSTRUCTIONS
        }
    }

    fn hit(&mut self) -> Result<Stop, TravelError> {
        let rip = looked(self.replay.machine_mut().view())?.linear_rip();
        Ok(if self.software.contains(&rip) {
            Stop::SwBreak(())
        } else {
            Stop::HwBreak(())
        })
    }

    pub(super) fn print(&mut self) {
        // The console is a convenience here; that it cannot be written changes nothing in the replay.
        drop(self.console.write(&self.replay.take_printed()));
    }
}

fn changed(address: u64) -> Stop {
    Stop::Watch {
        tid: (),
        kind: WatchKind::Write,
        addr: address,
    }
}

/// An engine that cannot be looked at cannot be debugged either.
pub(super) fn looked<T>(result: Result<T, EngineError>) -> Result<T, TravelError> {
    result.map_err(|error| TravelError::Replica(ReplicaError::Engine(error)))
}

impl<E: Checkpoint + Inspect> Target for Debugged<E> {
    type Arch = X86_64_SSE;
    type Error = TravelError;

    fn base_ops(&mut self) -> BaseOps<'_, X86_64_SSE, TravelError> {
        BaseOps::SingleThread(self)
    }

    fn support_breakpoints(&mut self) -> Option<BreakpointsOps<'_, Self>> {
        Some(self)
    }

    fn support_monitor_cmd(&mut self) -> Option<MonitorCmdOps<'_, Self>> {
        Some(self)
    }
}

impl<E: Checkpoint + Inspect> SingleThreadBase for Debugged<E> {
    fn read_registers(&mut self, registers: &mut X86_64CoreRegs) -> TargetResult<(), Self> {
        let machine = self.replay.machine_mut();
        let view = looked(machine.view()).map_err(TargetError::Fatal)?;
        let floating_point = looked(machine.floating_point()).map_err(TargetError::Fatal)?;
        *registers = registers::for_gdb(&view, &floating_point);
        Ok(())
    }

    /// A replay does what its log says.
    fn write_registers(&mut self, _registers: &X86_64CoreRegs) -> TargetResult<(), Self> {
        Err(TargetError::NonFatal)
    }

    fn read_addrs(&mut self, start: u64, data: &mut [u8]) -> TargetResult<usize, Self> {
        let read = self.replay.machine_mut().read_linear(start, data);
        match looked(read).map_err(TargetError::Fatal)? {
            0 => Err(TargetError::NonFatal),
            read => Ok(read),
        }
    }

    /// A replay does what its log says.
    fn write_addrs(&mut self, _start: u64, _data: &[u8]) -> TargetResult<(), Self> {
        Err(TargetError::NonFatal)
    }

    fn support_resume(&mut self) -> Option<SingleThreadResumeOps<'_, Self>> {
        Some(self)
    }
}

impl<E: Checkpoint + Inspect> SingleThreadResume for Debugged<E> {
    fn resume(&mut self, _signal: Option<Signal>) -> Result<(), TravelError> {
        self.errand = Errand::Continue;
        Ok(())
    }

    fn support_single_step(&mut self) -> Option<SingleThreadSingleStepOps<'_, Self>> {
        Some(self)
    }

    fn support_reverse_step(&mut self) -> Option<ReverseStepOps<'_, (), Self>> {
        Some(self)
    }

    fn support_reverse_cont(&mut self) -> Option<ReverseContOps<'_, (), Self>> {
        Some(self)
    }
}

impl<E: Checkpoint + Inspect> SingleThreadSingleStep for Debugged<E> {
    fn step(&mut self, _signal: Option<Signal>) -> Result<(), TravelError> {
        self.errand = Errand::Step;
        Ok(())
    }
}

impl<E: Checkpoint + Inspect> ReverseStep<()> for Debugged<E> {
    fn reverse_step(&mut self, (): ()) -> Result<(), TravelError> {
        self.errand = Errand::StepBack;
        Ok(())
    }
}

impl<E: Checkpoint + Inspect> ReverseCont<()> for Debugged<E> {
    fn reverse_cont(&mut self) -> Result<(), TravelError> {
        self.errand = Errand::ContinueBack(self.replay.search_back());
        Ok(())
    }
}

impl<E: Checkpoint + Inspect> Breakpoints for Debugged<E> {
    fn support_sw_breakpoint(&mut self) -> Option<SwBreakpointOps<'_, Self>> {
        Some(self)
    }

    fn support_hw_breakpoint(&mut self) -> Option<HwBreakpointOps<'_, Self>> {
        Some(self)
    }

    fn support_hw_watchpoint(&mut self) -> Option<HwWatchpointOps<'_, Self>> {
        Some(self)
    }
}

impl<E: Checkpoint + Inspect> SwBreakpoint for Debugged<E> {
    fn add_sw_breakpoint(&mut self, address: u64, _kind: usize) -> TargetResult<bool, Self> {
        self.software.insert(address);
        Ok(true)
    }

    fn remove_sw_breakpoint(&mut self, address: u64, _kind: usize) -> TargetResult<bool, Self> {
        Ok(self.software.remove(&address))
    }
}

impl<E: Checkpoint + Inspect> HwBreakpoint for Debugged<E> {
    fn add_hw_breakpoint(&mut self, address: u64, _kind: usize) -> TargetResult<bool, Self> {
        self.hardware.insert(address);
        Ok(true)
    }

    fn remove_hw_breakpoint(&mut self, address: u64, _kind: usize) -> TargetResult<bool, Self> {
        Ok(self.hardware.remove(&address))
    }
}

/// Writes that change something: nobody notices loads.
impl<E: Checkpoint + Inspect> HwWatchpoint for Debugged<E> {
    fn add_hw_watchpoint(
        &mut self,
        address: u64,
        bytes: u64,
        kind: WatchKind,
    ) -> TargetResult<bool, Self> {
        let possible = kind == WatchKind::Write && (1..=MAX_WATCHED_BYTES).contains(&bytes);
        if possible {
            self.watched.insert(watched(address, bytes));
        }
        Ok(possible)
    }

    fn remove_hw_watchpoint(
        &mut self,
        address: u64,
        bytes: u64,
        _kind: WatchKind,
    ) -> TargetResult<bool, Self> {
        Ok(self.watched.remove(&watched(address, bytes)))
    }
}

fn watched(address: u64, bytes: u64) -> Watched {
    Watched {
        address,
        bytes: bytes as usize,
    }
}

impl<E: Checkpoint + Inspect> MonitorCmd for Debugged<E> {
    fn handle_monitor_cmd(
        &mut self,
        command: &[u8],
        mut out: MonitorOutput<'_>,
    ) -> Result<(), TravelError> {
        let answer = self.monitor(&String::from_utf8_lossy(command))?;
        out.write_raw(answer.as_bytes());
        Ok(())
    }
}
