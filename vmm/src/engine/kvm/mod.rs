//! The KVM engine: one vCPU, no in-kernel interrupt controller or timer.
//!
//! ```text
//!  Engine ─► ClockSource ([`count`]: what is counted, and how a goal is reached)
//!               └─► Guest ([`guest`]: raw exits become exits, answers what KVM wants)
//!                     ├─► Vcpu ([`vcpu`]: KVM_RUN)
//!                     └─► Pvm ([`pvm`]: what such a host does differently)
//! ```

pub mod count;
mod cpuid;
mod delta;
pub mod facts;
mod guest;
pub mod kick;
mod paging;
mod pvm;
mod slots;
pub mod state;
mod step;
mod vcpu;

pub use count::{BranchCounter, CountKind};

use kvm_bindings::{
    KVM_MAX_CPUID_ENTRIES, KVM_SYNC_X86_REGS, KVM_SYNC_X86_SREGS, kvm_dtable, kvm_regs,
    kvm_segment, kvm_sregs,
};
use kvm_ioctls::{Cap, Kvm, VmFd};

use self::{
    count::ClockSource,
    guest::Guest,
    kick::Kicker,
    pvm::Pvm,
    slots::Slots,
    vcpu::{Vcpu, failed},
};
use super::{
    ClockKind, CpuMode, Delta, Engine, EngineError, Exit, FloatingPoint, Goal, Registers, Reply,
    Stop, inspect::SystemState,
};
use crate::machine::{
    GuestMemory,
    boot::{BootState, Segment},
};

/// Where Intel hosts keep three pages for real mode, and an identity page table: below 4 GiB, outside of guest memory.
const TSS_ADDRESS: usize = 0xFFFB_D000;

/// KVM_CAP_SYNC_REGS: general and system registers.
const REGISTERS: i32 = (KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS) as i32;

/// KVM as an engine.
pub struct KvmEngine {
    guest: Guest,
    source: Box<dyn ClockSource + Send>,
    count: CountKind,
    slots: Slots,
    unanswered: Option<Exit>,
    vm: VmFd,
    _kvm: Kvm,
}

impl KvmEngine {
    /// A virtual machine with this memory and one vCPU in its reset state.
    ///
    /// # Errors
    /// [`EngineError::Open`] without a usable `/dev/kvm`, [`EngineError::Missing`] where KVM is too old.
    pub fn new(memory: &GuestMemory, count: CountKind) -> Result<Self, EngineError> {
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
        let slots = Slots::map(&vm, memory)?;
        let pvm = pvm::present().then(Pvm::default);
        if pvm.is_some() {
            Pvm::configure(&vm)?;
        }
        let fd = vm.create_vcpu(0).map_err(failed("create a vCPU"))?;
        debug_assert!(cpuid::model().as_slice().len() <= KVM_MAX_CPUID_ENTRIES);
        fd.set_cpuid2(&cpuid::model())
            .map_err(failed("set the CPU model"))?;
        let mut vcpu = Vcpu::new(fd);
        if count != CountKind::Exits
            && kvm.check_extension_int(Cap::SyncRegs) & REGISTERS == REGISTERS
        {
            vcpu.keep_registers();
        }
        Ok(Self {
            guest: Guest::new(vcpu, pvm, memory.clone()),
            source: count::source(count)?,
            count,
            slots,
            unanswered: None,
            vm,
            _kvm: kvm,
        })
    }
}

impl Engine for KvmEngine {
    fn clock(&self) -> String {
        self.source.name(&self.guest).to_owned()
    }

    fn clock_kind(&self) -> ClockKind {
        self.source.kind()
    }

    fn cpu_model(&self) -> String {
        let leaked = self
            .guest
            .pvm
            .as_ref()
            .map_or(String::new(), |_| format!("+{}", pvm::host_features()));
        format!("{}{leaked}", cpuid::MODEL)
    }

    fn boot(&mut self, state: &BootState) -> Result<(), EngineError> {
        let mut sregs = self.guest.vcpu.sregs()?;
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
        self.guest.vcpu.set_sregs(&sregs)?;
        self.guest.vcpu.set_regs(&kvm_regs {
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
        let stop = self.source.run(&mut self.guest, goal)?;
        if let Stop::Exit(exit) = stop {
            self.unanswered = Some(exit);
        }
        Ok(stop)
    }

    fn reply(&mut self, reply: Reply) -> Result<(), EngineError> {
        let exit = self.unanswered.take().expect("there is no exit to answer");
        self.guest.reply(exit, reply)?;
        self.source.answered(&mut self.guest, exit)
    }

    fn instructions(&self) -> u64 {
        self.source.instructions()
    }

    fn retired(&self) -> Option<u64> {
        self.source.retired()
    }

    fn accepts_interrupts(&self) -> bool {
        !self.guest.within_instruction() && self.source.accepts_interrupts(&self.guest)
    }

    fn interrupt(&mut self, vector: u8) -> Result<(), EngineError> {
        assert!(
            self.accepts_interrupts(),
            "interrupt {vector:#x} where the guest accepts none"
        );
        self.source.interrupt(&mut self.guest, vector)
    }

    fn mode(&mut self) -> Result<CpuMode, EngineError> {
        let kvm_sregs { cs, ss, .. } = self.guest.vcpu.sregs()?;
        Ok(CpuMode {
            privilege: ss.dpl,
            bits: CpuMode::code_bits(cs.l != 0, cs.db != 0),
        })
    }

    fn kicker(&self) -> Option<Kicker> {
        (self.clock_kind() == ClockKind::Exits).then(|| self.guest.kicks.kicker())
    }

    fn track_dirty(&mut self) -> Result<(), EngineError> {
        self.slots.track_dirty(&self.vm)
    }

    fn take_delta(&mut self) -> Result<Delta, EngineError> {
        self.delta()
    }

    fn go_on_from(&mut self, state: &[u8]) -> Result<(), EngineError> {
        self.restore_bytes(state)
    }

    fn floating_point(&mut self) -> Result<FloatingPoint, EngineError> {
        self.settle()?;
        let fpu = self
            .guest
            .vcpu
            .fd()
            .get_fpu()
            .map_err(failed("read the floating-point registers"))?;
        // KVM_GET_FPU leaves MXCSR out. It is bytes 24 to 27 of the XSAVE area (SDM 1 10.5.1).
        let area = self.guest.vcpu.fd().get_xsave();
        let area = area.map_err(failed("read the SSE control register"))?;
        Ok(FloatingPoint {
            st: fpu.fpr,
            xmm: fpu.xmm,
            words: [fpu.fcw, fpu.fsw, u16::from(fpu.ftwx)],
            mxcsr: area.region[6],
        })
    }

    fn registers(&mut self) -> Result<Registers, EngineError> {
        self.settle()?;
        let r = self.guest.regs()?;
        let s = self.guest.vcpu.sregs()?;
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
        let s = self.guest.vcpu.sregs()?;
        Ok(SystemState {
            selectors: [s.es, s.cs, s.ss, s.ds, s.fs, s.gs].map(|segment| segment.selector),
            code_base: s.cs.base,
            efer: s.efer,
        })
    }
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
