//! The KVM engine: one vCPU, no in-kernel interrupt controller or timer, clock `Exits`.
//!
//! ```text
//!  run(Goal::Exit)                       free running; the next architectural exit is returned
//!  run(Goal::Instructions | Interruptible)   complete the last exit, then single-step, counting
//! ```
//!
//! Repeated port accesses (`rep ins`, `rep outs`) that KVM delivers in one raw exit are handed out one element at a time: what the
//! machine sees does not depend on how KVM batches them.

mod cpuid;
pub mod facts;
mod paging;
mod pvm;
mod vcpu;

use kvm_bindings::{
    KVM_MAX_CPUID_ENTRIES, kvm_dtable, kvm_regs, kvm_segment, kvm_sregs,
    kvm_userspace_memory_region,
};
use kvm_ioctls::{Cap, Kvm, VmFd};
use vm_memory::{GuestMemoryBackend, GuestMemoryRegion};

use self::{
    pvm::Pvm,
    vcpu::{Debugging, RawExit, Vcpu, failed},
};
use super::{
    ClockKind, CpuMode, Engine, EngineError, Exit, FloatingPoint, Goal, Registers, Reply, Stop,
    inspect::SystemState,
};
use crate::machine::{
    GuestMemory,
    boot::{BootState, Segment},
    layout::{RDTSC_PORT, RDTSCP_PORT},
};

/// Where Intel hosts keep three pages for real mode, and an identity page table: below 4 GiB, outside of guest memory.
const TSS_ADDRESS: usize = 0xFFFB_D000;

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

/// KVM as an engine.
pub struct KvmEngine {
    vcpu: Vcpu,
    /// Present on a `kvm-pvm` host alone; elsewhere none of it is ever called.
    pvm: Option<Pvm>,
    memory: GuestMemory,
    unanswered: Option<Exit>,
    port_access: Option<PortAccess>,
    instructions: u64,
    /// An exit whose instruction KVM completes on the next entry.
    exit_incomplete: bool,
    accepts_interrupts: bool,
    _vm: VmFd,
    _kvm: Kvm,
}

impl KvmEngine {
    /// A virtual machine with this memory and one vCPU in its reset state.
    ///
    /// # Errors
    /// [`EngineError::Open`] without a usable `/dev/kvm`, [`EngineError::Missing`] where KVM is too old.
    pub fn new(memory: &GuestMemory) -> Result<Self, EngineError> {
        let kvm = Kvm::new().map_err(EngineError::Open)?;
        for (capability, name) in [
            (Cap::UserMemory, "user memory regions"),
            (Cap::ImmediateExit, "KVM_CAP_IMMEDIATE_EXIT"),
            (Cap::SetGuestDebug, "KVM_CAP_SET_GUEST_DEBUG"),
        ] {
            if !kvm.check_extension(capability) {
                return Err(EngineError::Missing(name));
            }
        }
        let vm = kvm
            .create_vm()
            .map_err(failed("create a virtual machine"))?;
        vm.set_tss_address(TSS_ADDRESS)
            .map_err(failed("set the TSS address"))?;
        for (slot, region) in memory.iter().enumerate() {
            add_memory(&vm, slot as u32, region)?;
        }
        let pvm = pvm::present().then(Pvm::default);
        if pvm.is_some() {
            Pvm::configure(&vm)?;
        }
        let fd = vm.create_vcpu(0).map_err(failed("create a vCPU"))?;
        debug_assert!(cpuid::model().as_slice().len() <= KVM_MAX_CPUID_ENTRIES);
        fd.set_cpuid2(&cpuid::model())
            .map_err(failed("set the CPU model"))?;
        Ok(Self {
            vcpu: Vcpu::new(fd),
            pvm,
            memory: memory.clone(),
            unanswered: None,
            port_access: None,
            instructions: 0,
            exit_incomplete: false,
            accepts_interrupts: false,
            _vm: vm,
            _kvm: kvm,
        })
    }

    fn run_free(&mut self) -> Result<Exit, EngineError> {
        loop {
            let debugging = self
                .pvm
                .as_ref()
                .map_or(Debugging::default(), |pvm| pvm.debugging(false));
            self.vcpu.set_debugging(debugging)?;
            let raw = self.vcpu.enter()?;
            if let Some(exit) = self.interpret(raw)? {
                return Ok(exit);
            }
        }
    }

    /// Single-steps until `done`, which is asked before each step, or an exit.
    fn step_until(&mut self, done: impl Fn(&Self) -> bool) -> Result<Stop, EngineError> {
        if done(self) {
            return Ok(Stop::Reached);
        }
        if self.exit_incomplete {
            self.vcpu.set_debugging(Debugging::default())?;
            self.vcpu.complete_exit()?;
            self.exit_incomplete = false;
        }
        while !done(self) {
            let debugging = self.stepping()?;
            self.vcpu.set_debugging(debugging)?;
            match self.vcpu.enter()? {
                RawExit::Debug { pc } if !self.at_fault_entry(pc) => {
                    self.instructions += 1;
                    self.accepts_interrupts = self.vcpu.ready_for_interrupt();
                }
                raw => {
                    if let Some(exit) = self.interpret(raw)? {
                        return Ok(Stop::Exit(exit));
                    }
                }
            }
        }
        Ok(Stop::Reached)
    }

    /// How to execute one instruction.
    fn stepping(&self) -> Result<Debugging, EngineError> {
        Ok(match &self.pvm {
            Some(pvm) => pvm.debugging(!Pvm::next_is_halt(&self.vcpu, &self.memory)?),
            None => Debugging {
                step: true,
                breakpoint: None,
            },
        })
    }

    fn at_fault_entry(&self, pc: u64) -> bool {
        self.pvm.as_ref().is_some_and(|pvm| pvm.is_fault_entry(pc))
    }

    /// Makes an exit of a raw exit; `None` if it was a host's accident and the guest runs on.
    fn interpret(&mut self, raw: RawExit) -> Result<Option<Exit>, EngineError> {
        let exit = match raw {
            RawExit::Interrupted => return Ok(None),
            RawExit::Port {
                port,
                width,
                count,
                read,
            } => {
                self.exit_incomplete = true;
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
                self.exit_incomplete = true;
                Exit::MmioRead { address, width }
            }
            RawExit::MmioWrite {
                address,
                width,
                data,
            } => {
                self.exit_incomplete = true;
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
                    .map(|()| None);
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

    fn emulation_failure(&mut self, bytes: &[u8]) -> Result<(), EngineError> {
        if self.pvm.is_some() && Pvm::complete_instruction(&self.vcpu, bytes)? {
            return Ok(());
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

    /// Accounts for an exit that is about to be returned.
    fn exited(&mut self, exit: Exit) -> Result<Stop, EngineError> {
        self.instructions = 0;
        self.unanswered = Some(exit);
        self.accepts_interrupts = self.vcpu.ready_for_interrupt();
        if let Some(pvm) = &mut self.pvm {
            pvm.after_exit(&self.vcpu, &self.memory)?;
        }
        Ok(Stop::Exit(exit))
    }

    /// EDX (and ECX) of RDTSC(P); EAX is the data of the `in` that stands in its place.
    fn reply_tsc(&mut self, value: u64, with_aux: bool) -> Result<(), EngineError> {
        let index = self.port_access.map_or(0, |access| access.next - 1);
        self.vcpu.set_port_element(index, 4, value as u32);
        self.vcpu.set_debugging(
            self.pvm
                .as_ref()
                .map_or(Debugging::default(), |pvm| pvm.debugging(false)),
        )?;
        self.vcpu.complete_exit()?;
        self.exit_incomplete = false;
        let mut regs = self.vcpu.regs()?;
        regs.rdx = value >> 32;
        if with_aux {
            regs.rcx = 0;
        }
        self.vcpu.set_regs(&regs)
    }
}

impl Engine for KvmEngine {
    fn clock(&self) -> String {
        self.pvm.as_ref().map_or("exits", |_| pvm::CLOCK).to_owned()
    }

    fn clock_kind(&self) -> ClockKind {
        ClockKind::Exits
    }

    fn cpu_model(&self) -> String {
        let leaked = self
            .pvm
            .as_ref()
            .map_or(String::new(), |_| format!("+{}", pvm::host_features()));
        format!("{}{leaked}", cpuid::MODEL)
    }

    fn boot(&mut self, state: &BootState) -> Result<(), EngineError> {
        let mut sregs = self.vcpu.sregs()?;
        sregs.cs = segment(&state.code);
        let data = segment(&state.data);
        (sregs.ds, sregs.es, sregs.fs, sregs.gs, sregs.ss) = (data, data, data, data, data);
        sregs.tr = segment(&state.tss);
        sregs.gdt = kvm_dtable {
            base: state.gdt_base,
            limit: state.gdt_limit,
            ..Default::default()
        };
        sregs.idt = kvm_dtable {
            base: state.idt_base,
            limit: state.idt_limit,
            ..Default::default()
        };
        (sregs.cr0, sregs.cr3, sregs.cr4, sregs.efer) =
            (state.cr0, state.cr3, state.cr4, state.efer);
        self.vcpu.set_sregs(&sregs)?;
        self.vcpu.set_regs(&kvm_regs {
            rip: state.rip,
            rsi: state.rsi,
            rbx: state.rbx,
            rsp: state.rsp,
            rflags: state.rflags,
            ..kvm_regs::default()
        })
    }

    fn run(&mut self, goal: Goal) -> Result<Stop, EngineError> {
        assert!(
            self.unanswered.is_none(),
            "exit {:?} was not answered",
            self.unanswered
        );
        if let Some(exit) = self.next_port_element() {
            return self.exited(exit);
        }
        let reached = match goal {
            Goal::Exit => false,
            Goal::Instructions(count) => self.instructions >= count,
            Goal::Interruptible { limit } => {
                self.accepts_interrupts() || self.instructions >= limit
            }
        };
        if reached {
            return Ok(Stop::Reached);
        }
        if let Some(pvm) = &mut self.pvm {
            pvm.resume(&mut self.vcpu)?;
        }
        let stop = match goal {
            Goal::Exit => Stop::Exit(self.run_free()?),
            Goal::Instructions(count) => self.step_until(|engine| engine.instructions >= count)?,
            Goal::Interruptible { limit } => {
                self.step_until(|engine| engine.accepts_interrupts || engine.instructions >= limit)?
            }
        };
        match stop {
            Stop::Exit(exit) => self.exited(exit),
            Stop::Reached => Ok(Stop::Reached),
        }
    }

    fn reply(&mut self, reply: Reply) -> Result<(), EngineError> {
        let exit = self.unanswered.take().expect("there is no exit to answer");
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

    fn instructions(&self) -> u64 {
        self.instructions
    }

    fn retired(&self) -> Option<u64> {
        None
    }

    fn accepts_interrupts(&self) -> bool {
        if self.port_access.is_some() {
            return false;
        }
        self.pvm
            .as_ref()
            .and_then(Pvm::accepts_interrupts)
            .unwrap_or(self.accepts_interrupts)
    }

    fn interrupt(&mut self, vector: u8) -> Result<(), EngineError> {
        assert!(
            self.accepts_interrupts(),
            "interrupt {vector:#x} where the guest accepts none"
        );
        if let Some(pvm) = &mut self.pvm {
            pvm.before_interrupt(&self.vcpu)?;
        }
        self.accepts_interrupts = false;
        self.vcpu.interrupt(vector)
    }

    fn mode(&mut self) -> Result<CpuMode, EngineError> {
        let kvm_sregs { cs, ss, .. } = self.vcpu.sregs()?;
        Ok(CpuMode {
            privilege: ss.dpl,
            bits: CpuMode::code_bits(cs.l != 0, cs.db != 0),
        })
    }

    fn floating_point(&mut self) -> Result<FloatingPoint, EngineError> {
        let fpu = self
            .vcpu
            .fd()
            .get_fpu()
            .map_err(failed("read the floating-point registers"))?;
        Ok(FloatingPoint {
            st: fpu.fpr,
            xmm: fpu.xmm,
            words: [fpu.fcw, fpu.fsw, u16::from(fpu.ftwx)],
            mxcsr: fpu.mxcsr,
        })
    }

    fn registers(&mut self) -> Result<Registers, EngineError> {
        let r = self.vcpu.regs()?;
        let s = self.vcpu.sregs()?;
        Ok(Registers {
            general: [
                r.rax, r.rbx, r.rcx, r.rdx, r.rsi, r.rdi, r.rsp, r.rbp, r.r8, r.r9, r.r10, r.r11,
                r.r12, r.r13, r.r14, r.r15,
            ],
            rip: r.rip,
            rflags: r.rflags,
            control: [s.cr0, s.cr2, s.cr3, s.cr4],
            segment_bases: [s.fs.base, s.gs.base],
        })
    }
}

impl KvmEngine {
    /// What only people look at.
    pub(super) fn system(&self) -> Result<SystemState, EngineError> {
        let s = self.vcpu.sregs()?;
        Ok(SystemState {
            selectors: [s.es, s.cs, s.ss, s.ds, s.fs, s.gs].map(|segment| segment.selector),
            code_base: s.cs.base,
            efer: s.efer,
        })
    }
}

fn add_memory(vm: &VmFd, slot: u32, region: &impl GuestMemoryRegion) -> Result<(), EngineError> {
    use vm_memory::MemoryRegionAddress;
    let host = region
        .get_host_address(MemoryRegionAddress(0))
        .expect("guest memory is mapped");
    let region = kvm_userspace_memory_region {
        slot,
        guest_phys_addr: region.start_addr().0,
        memory_size: region.len(),
        userspace_addr: host as u64,
        flags: 0,
    };
    // SAFETY: the engine holds a clone of the memory, so that the mapping outlives the virtual machine.
    unsafe { vm.set_user_memory_region(region) }.map_err(failed("map guest memory"))
}

fn segment(segment: &Segment) -> kvm_segment {
    kvm_segment {
        base: segment.base,
        limit: segment.limit,
        selector: segment.selector,
        type_: segment.type_,
        present: u8::from(segment.present),
        dpl: segment.dpl,
        db: u8::from(segment.default_32),
        s: u8::from(segment.code_or_data),
        l: u8::from(segment.long),
        g: u8::from(segment.granularity),
        unusable: u8::from(!segment.present),
        ..Default::default()
    }
}
