//! The guest on KVM: raw exits become exits, and answers become what KVM wants to have them.
//!
//! In: raw exits, replies. Out: [`Exit`]s. What always holds: repeated port accesses (`rep ins`, `rep outs`) that KVM delivers in one raw exit
//! are handed out one element at a time, so that the machine does not see how KVM batches them; and what KVM returns for without the guest having asked for anything
//! is no exit.
//!
//! ```text
//!  enter ─► raw exit ─► interpret ─► Exit ─► reply ─┬─► enter: KVM completes the instruction first
//!                                                   └─► complete: KVM completes it, and nothing else ─┬─► done
//!                                                                                                     └─► it exits again: further
//! ```

use kvm_bindings::kvm_regs;

use super::{
    kick::Kicks,
    pvm::{Completed, Pvm},
    vcpu::{Debugging, RawExit, Vcpu},
};
use crate::{
    engine::{EngineError, Exit, Reply},
    machine::{
        GuestMemory,
        layout::{RDTSC_PORT, RDTSCP_PORT},
    },
};

/// A port exit whose elements are handed out one by one.
#[derive(Clone, Copy, Debug)]
struct PortAccess {
    port: u16,
    width: u8,
    count: u32,
    read: bool,
    /// The element that is next to be handed out.
    next: u32,
}

/// A vCPU, its memory, and what is left of its last exit.
pub struct Guest {
    pub vcpu: Vcpu,
    /// Present on a `kvm-pvm` host alone; elsewhere none of it is ever called.
    pub pvm: Option<Pvm>,
    pub memory: GuestMemory,
    pub kicks: Kicks,
    /// An exception was queued that KVM tells nobody of: it is to be delivered before anything else.
    pub hidden_exception: Option<u8>,
    port_access: Option<PortAccess>,
    /// An exit whose instruction KVM completes on the next entry.
    incomplete: bool,
    /// A further exit of an instruction that was completed so far.
    further: Option<RawExit>,
    /// The registers that are seen while an instruction exits more than once.
    pub shown: Option<kvm_regs>,
}

impl Guest {
    /// A vCPU that has not run yet.
    pub fn new(vcpu: Vcpu, pvm: Option<Pvm>, memory: GuestMemory) -> Self {
        Self {
            vcpu,
            pvm,
            memory,
            kicks: Kicks::default(),
            hidden_exception: None,
            port_access: None,
            incomplete: false,
            further: None,
            shown: None,
        }
    }

    /// Enters the guest; comes back at the next raw exit.
    pub fn enter(&mut self) -> Result<RawExit, EngineError> {
        self.incomplete = false;
        self.vcpu.enter()
    }

    /// The exit that is due before the guest runs on: of the same instruction as the last one.
    pub fn further_exit(&mut self) -> Result<Option<Exit>, EngineError> {
        if let Some(exit) = self.next_port_element() {
            return Ok(Some(exit));
        }
        match self.further.take() {
            Some(raw) => self.interpret(raw),
            None => Ok(None),
        }
    }

    /// The general registers as they are seen.
    pub fn regs(&self) -> Result<kvm_regs, EngineError> {
        match self.shown {
            Some(shown) if self.further.is_some() => Ok(shown),
            _ => self.vcpu.regs(),
        }
    }

    /// Whether the instruction of the last exit has more of them.
    pub fn within_instruction(&self) -> bool {
        self.port_access.is_some() || self.further.is_some()
    }

    /// Whether KVM holds state of the last exit's instruction.
    pub fn is_incomplete(&self) -> bool {
        self.incomplete || self.within_instruction()
    }

    /// Completes the instruction of the last exit, which was answered, and runs no other.
    pub fn complete(&mut self) -> Result<(), EngineError> {
        if !self.incomplete || self.within_instruction() {
            return Ok(());
        }
        let debugging = Debugging {
            step: false,
            ..self.vcpu.debugging()
        };
        self.vcpu.set_debugging(debugging)?;
        self.further = self.vcpu.complete_exit()?;
        self.incomplete = false;
        Ok(())
    }

    /// Makes an exit of a raw exit; `None` if it was a host's accident and the guest runs on.
    pub fn interpret(&mut self, raw: RawExit) -> Result<Option<Exit>, EngineError> {
        let exit = match raw {
            RawExit::Interrupted | RawExit::InterruptWindow => return Ok(None),
            RawExit::Port {
                port,
                width,
                count,
                read,
            } => {
                self.incomplete = true;
                self.port_access = Some(PortAccess {
                    port,
                    width,
                    count,
                    read,
                    next: 0,
                });
                self.next_port_element()
                    .expect("a port exit has at least one element")
            }
            RawExit::MmioRead { address, width } => {
                self.incomplete = true;
                Exit::MmioRead { address, width }
            }
            RawExit::MmioWrite {
                address,
                width,
                mut data,
            } => {
                self.incomplete = true;
                // KVM leaves there what it has behind the value.
                data[usize::from(width)..].fill(0);
                Exit::MmioWrite {
                    address,
                    width,
                    data,
                }
            }
            RawExit::MsrWrite { index, value } => {
                return self.msr_written(index, value).map(|()| None);
            }
            RawExit::Halt => Exit::Halt,
            RawExit::Shutdown => Exit::Shutdown,
            RawExit::Debug { pc } => return self.breakpoint(pc),
            RawExit::EmulationFailure { bytes, length } => {
                return self
                    .emulation_failure(&bytes[..usize::from(length)])
                    .map(|_| None);
            }
        };
        Ok(Some(exit))
    }

    fn breakpoint(&mut self, pc: u64) -> Result<Option<Exit>, EngineError> {
        match &mut self.pvm {
            Some(pvm) if pvm.is_fault_entry(pc) => pvm.fault(&mut self.vcpu, &self.memory),
            _ => Err(EngineError::Unexpected(format!(
                "a debug exit at {pc:#x} that nobody asked for"
            ))),
        }
    }

    fn msr_written(&mut self, index: u32, value: u64) -> Result<(), EngineError> {
        match &mut self.pvm {
            Some(pvm) => pvm.msr_written(&mut self.vcpu, &self.memory, index, value),
            None => Err(EngineError::Unexpected(format!(
                "a write to model-specific register {index:#x} that was not filtered"
            ))),
        }
    }

    /// Completes an instruction that KVM does not emulate, if it is known here.
    pub fn emulation_failure(&mut self, bytes: &[u8]) -> Result<Completed, EngineError> {
        if self.pvm.is_some()
            && let Some(completed) = Pvm::complete_instruction(&self.vcpu, bytes)?
        {
            if let Completed::Raises(vector) = completed {
                self.hidden_exception = Some(vector);
            }
            return Ok(completed);
        }
        let rip = self.vcpu.regs()?.rip;
        let why = if self.pvm.is_some() {
            "kvm-pvm emulates guest kernel code and lacks this instruction; see docs/hosts.md"
        } else {
            "KVM gave no reason"
        };
        let bytes = bytes
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<Vec<_>>()
            .join(" ");
        Err(EngineError::Emulation {
            rip,
            bytes,
            why: why.to_owned(),
        })
    }

    fn next_port_element(&mut self) -> Option<Exit> {
        let access = self.port_access.as_mut()?;
        let index = access.next;
        if index == access.count {
            self.port_access = None;
            return None;
        }
        access.next += 1;
        let PortAccess {
            port, width, read, ..
        } = *access;
        Some(match (read, port) {
            (true, RDTSC_PORT) => Exit::TscRead { with_aux: false },
            (true, RDTSCP_PORT) => Exit::TscRead { with_aux: true },
            (true, _) => Exit::PortRead { port, width },
            (false, _) => Exit::PortWrite {
                port,
                width,
                value: self.vcpu.port_element(index, width),
            },
        })
    }

    /// Answers `exit`.
    pub fn reply(&mut self, exit: Exit, reply: Reply) -> Result<(), EngineError> {
        match (exit, reply) {
            (Exit::PortRead { width, .. }, Reply::Port(value)) => {
                let index = self.port_access.map_or(0, |access| access.next - 1);
                self.vcpu.set_port_element(index, width, value);
            }
            (Exit::MmioRead { .. }, Reply::Mmio(data)) => self.vcpu.set_mmio_data(data),
            (Exit::TscRead { with_aux }, Reply::Tsc { value }) => {
                self.reply_tsc(value, with_aux)?;
            }
            (
                Exit::PortWrite { .. }
                | Exit::MmioWrite { .. }
                | Exit::Halt
                | Exit::InjectionPoint
                | Exit::Shutdown,
                Reply::None,
            ) => {}
            (exit, reply) => panic!("{reply:?} does not answer {exit:?}"),
        }
        if self
            .port_access
            .is_some_and(|access| access.next == access.count)
        {
            self.port_access = None;
        }
        Ok(())
    }

    /// EDX (and ECX) of RDTSC(P); EAX is the data of the `in` that stands in its place.
    fn reply_tsc(&mut self, value: u64, with_aux: bool) -> Result<(), EngineError> {
        let index = self.port_access.map_or(0, |access| access.next - 1);
        self.vcpu.set_port_element(index, 4, value as u32);
        self.port_access = None;
        self.complete()?;
        let mut regs = self.vcpu.regs()?;
        regs.rdx = value >> 32;
        if with_aux {
            regs.rcx = 0;
        }
        self.vcpu.set_regs(&regs)
    }
}
