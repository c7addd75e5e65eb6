//! The software CPU as an engine: clock `instructions`, on any host.
//!
//! In: the machine's memory and the loader's state. Out: the crate `x86_engine`'s exits under this crate's names. What always holds: before
//! the CPU executes anything it has been told of every page that the VMM wrote meanwhile, because memory itself keeps account
//! ([`crate::machine::memory`]): devices cannot forget to say so.

use std::ptr::NonNull;

use vm_memory::{GuestMemoryBackend, GuestMemoryRegion, MemoryRegionAddress};
use x86_engine::{Cpu, Ram, State};

use super::{
    ClockKind, CpuMode, Engine, EngineError, Exit, FloatingPoint, Goal, Persist, Registers, Reply,
    Stop,
};
use crate::machine::{
    GuestMemory,
    boot::{BootState, Segment},
    memory::take_written,
};

/// Its clock counts every retired instruction, every iteration of a repeated string instruction and every delivered exception.
const CLOCK: &str = "instructions";

/// The CPU model that its guests see.
pub const MODEL: &str = x86_engine::model::MODEL;

/// EFER.LMA: long mode is active (SDM 3A 2.2.1).
const EFER_LMA: u64 = 1 << 10;

/// The software CPU as an engine.
pub struct SoftEngine {
    cpu: Cpu,
    /// Outlives the CPU, which has the mapping's address.
    memory: GuestMemory,
    /// Where it stops for a debugger, ascending.
    addresses: Vec<u64>,
}

impl SoftEngine {
    /// A CPU in its reset state on this memory.
    ///
    /// # Errors
    /// [`EngineError::Missing`] if the memory is not one region from address 0 on.
    pub fn new(memory: &GuestMemory) -> Result<Self, EngineError> {
        let region = memory.iter().next();
        let region = region
            .filter(|region| memory.num_regions() == 1 && region.start_addr().0 == 0)
            .ok_or(EngineError::Missing(
                "memory in one piece from address 0 on",
            ))?;
        let host = region
            .get_host_address(MemoryRegionAddress(0))
            .ok()
            .and_then(NonNull::new)
            .expect("guest memory is mapped");
        // SAFETY: the mapping is `region.len()` bytes long and lives as long as `memory`, of which this engine holds a clone. While the
        // CPU runs nobody else touches it: devices and digests work on the vCPU's own thread, between two calls of `run`.
        let ram = unsafe { Ram::new(host, region.len()) };
        Ok(Self {
            cpu: Cpu::new(ram),
            memory: memory.clone(),
            addresses: Vec::new(),
        })
    }

    /// Changes a general register, as a fault would; `index` is its place in [`Registers::general`].
    ///
    /// # Errors
    /// None that can occur: it is this version's own state that is put back.
    pub fn set_general_register(&mut self, index: usize, value: u64) -> Result<(), EngineError> {
        // The hardware's numbers of RAX, RBX, RCX, RDX, RSI, RDI, RSP, RBP.
        const NUMBERS: [usize; 8] = [0, 3, 1, 2, 6, 7, 4, 5];
        let mut state = self.cpu.save();
        state.general[NUMBERS.get(index).copied().unwrap_or(index)] = value;
        self.restore(&state)
    }

    /// The CPU's whole state, to look at.
    pub(super) fn state(&self) -> State {
        self.cpu.save()
    }

    /// Stops at these linear addresses from now on.
    pub(super) fn stop_at(&mut self, addresses: &[u64]) {
        self.addresses = addresses.to_vec();
        self.addresses.sort_unstable();
    }

    /// Whether it has just come to one of them.
    pub(super) fn stands_at_address(&self) -> bool {
        self.cpu.arrived_at(&self.addresses)
    }

    /// Tells the CPU what was written behind its back.
    fn catch_up(&mut self) {
        for pages in take_written(&self.memory) {
            self.cpu
                .memory_written(pages.start, pages.end - pages.start);
        }
    }
}

impl Engine for SoftEngine {
    fn clock(&self) -> String {
        CLOCK.to_owned()
    }

    fn clock_kind(&self) -> ClockKind {
        ClockKind::Instructions
    }

    fn cpu_model(&self) -> String {
        MODEL.to_owned()
    }

    fn boot(&mut self, state: &BootState) -> Result<(), EngineError> {
        self.catch_up();
        self.cpu
            .restore(&first_state(state))
            .expect("a state of this very version");
        Ok(())
    }

    fn run(&mut self, goal: Goal) -> Result<Stop, EngineError> {
        self.catch_up();
        let goal = match goal {
            Goal::Exit => x86_engine::Goal::Exit,
            Goal::Instructions(count) => x86_engine::Goal::Instructions(count),
            Goal::Interruptible { limit } => x86_engine::Goal::Interruptible { limit },
        };
        let stop = if self.addresses.is_empty() {
            self.cpu.run(goal)
        } else {
            self.cpu.run_to_addresses(goal, &self.addresses)
        };
        Ok(match stop {
            x86_engine::Stop::Exit(exit) => Stop::Exit(exit_of(exit)),
            x86_engine::Stop::Reached if self.stands_at_address() => Stop::Breakpoint,
            x86_engine::Stop::Reached => Stop::Reached,
        })
    }

    fn reply(&mut self, reply: Reply) -> Result<(), EngineError> {
        // An answered MMIO access executes its instruction.
        self.catch_up();
        self.cpu.reply(match reply {
            Reply::Port(value) => x86_engine::Reply::Port(value),
            Reply::Mmio(data) => x86_engine::Reply::Mmio(data),
            Reply::Tsc { value } => x86_engine::Reply::Tsc { value },
            Reply::None => x86_engine::Reply::None,
        });
        Ok(())
    }

    fn instructions(&self) -> u64 {
        self.cpu.instructions()
    }

    fn retired(&self) -> Option<u64> {
        Some(self.cpu.retired())
    }

    fn accepts_interrupts(&self) -> bool {
        self.cpu.accepts_interrupts()
    }

    fn interrupt(&mut self, vector: u8) -> Result<(), EngineError> {
        // The delivery reads the guest's tables and writes its stack.
        self.catch_up();
        self.cpu.interrupt(vector);
        Ok(())
    }

    fn registers(&mut self) -> Result<Registers, EngineError> {
        let state = self.cpu.save();
        // The hardware's order, RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, becomes KVM's.
        let [rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, high @ ..] = state.general;
        let mut general = [
            rax, rbx, rcx, rdx, rsi, rdi, rsp, rbp, 0, 0, 0, 0, 0, 0, 0, 0,
        ];
        general[8..].copy_from_slice(&high);
        Ok(Registers {
            general,
            rip: state.rip,
            rflags: state.rflags,
            control: [state.cr0, state.cr2, state.cr3, state.cr4],
            segment_bases: [state.segments[4].base, state.segments[5].base],
        })
    }

    fn mode(&mut self) -> Result<CpuMode, EngineError> {
        let state = self.cpu.save();
        let [_, code, stack, ..] = state.segments;
        let long_mode = state.efer & EFER_LMA != 0;
        Ok(CpuMode {
            privilege: (stack.access >> 5 & 3) as u8,
            bits: CpuMode::code_bits(
                long_mode && code.access >> 13 & 1 == 1,
                code.access >> 14 & 1 == 1,
            ),
        })
    }

    fn floating_point(&mut self) -> Result<FloatingPoint, EngineError> {
        let State {
            x87, xmm, mxcsr, ..
        } = self.cpu.save();
        let top = usize::from(x87.status >> 11 & 7);
        let st = std::array::from_fn(|index| {
            let physical = (top + index) % 8;
            let mut bytes = [0; 16];
            bytes[..8].copy_from_slice(&x87.mantissa[physical].to_le_bytes());
            bytes[8..10].copy_from_slice(&x87.sign_exponent[physical].to_le_bytes());
            bytes
        });
        Ok(FloatingPoint {
            st,
            xmm: xmm.map(u128::to_le_bytes),
            words: [x87.control, x87.status, u16::from(x87.in_use)],
            mxcsr,
        })
    }
}

impl Persist for SoftEngine {
    type State = State;

    fn save(&mut self) -> Result<State, EngineError> {
        Ok(self.cpu.save())
    }

    fn restore(&mut self, state: &State) -> Result<(), EngineError> {
        self.catch_up();
        Ok(self.cpu.restore(state)?)
    }
}

/// The loader's state as the CPU's; what the loader does not name is as after power-on.
fn first_state(boot: &BootState) -> State {
    let data = segment(&boot.data);
    let mut state = State {
        rip: boot.rip,
        rflags: boot.rflags,
        // ES, CS, SS, DS, FS, GS.
        segments: [data, segment(&boot.code), data, data, data, data],
        tr: segment(&boot.tss),
        gdtr: x86_engine::DescriptorTable {
            base: boot.gdt_base,
            limit: boot.gdt_limit,
        },
        idtr: x86_engine::DescriptorTable {
            base: boot.idt_base,
            limit: boot.idt_limit,
        },
        cr0: boot.cr0,
        cr3: boot.cr3,
        cr4: boot.cr4,
        efer: boot.efer,
        ..State::default()
    };
    (state.general[3], state.general[4], state.general[6]) = (boot.rbx, boot.rsp, boot.rsi);
    state
}

/// The descriptor's bits 40 to 55, without the limit's (SDM 3A 3.4.5).
fn segment(segment: &Segment) -> x86_engine::Segment {
    let bit = |value: bool, at: u16| u16::from(value) << at;
    x86_engine::Segment {
        selector: segment.selector,
        base: segment.base,
        limit: segment.limit,
        access: u16::from(segment.type_)
            | bit(segment.code_or_data, 4)
            | u16::from(segment.dpl) << 5
            | bit(segment.present, 7)
            | bit(segment.long, 13)
            | bit(segment.default_32, 14)
            | bit(segment.granularity, 15),
    }
}

fn exit_of(exit: x86_engine::Exit) -> Exit {
    match exit {
        x86_engine::Exit::PortRead { port, width } => Exit::PortRead { port, width },
        x86_engine::Exit::PortWrite { port, width, value } => {
            Exit::PortWrite { port, width, value }
        }
        x86_engine::Exit::MmioRead { address, width } => Exit::MmioRead { address, width },
        x86_engine::Exit::MmioWrite {
            address,
            width,
            data,
        } => Exit::MmioWrite {
            address,
            width,
            data,
        },
        x86_engine::Exit::TscRead { with_aux } => Exit::TscRead { with_aux },
        x86_engine::Exit::Halt => Exit::Halt,
        x86_engine::Exit::Shutdown => Exit::Shutdown,
    }
}
