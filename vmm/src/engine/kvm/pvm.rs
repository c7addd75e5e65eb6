//! What `kvm-pvm`, KVM without virtualisation hardware, does differently, and how the guest is kept from noticing.
//!
//! `kvm-pvm` runs guest user mode (CPL 3) natively and emulates guest kernel mode. Measured differences that
//! matter here:
//!
//! - `syscall` at CPL 3 goes to LSTAR without changing to CPL 0, so that the fetch there raises #PF, with error
//!   code 0x15 and CR2 = LSTAR. A breakpoint on the guest's #PF entry point catches it, and the state is rewritten to what SYSCALL
//!   should have made of it (SDM 2B, SYSCALL).
//! - Guest user mode offers no exit of its own at which an interrupt could be injected, but every #PF and every system call
//!   from user mode passes that breakpoint: a deterministic point. It is reported as [`Exit::InjectionPoint`] and counted,
//!   and [`CLOCK`] says so.
//! - RFLAGS.RF does not suppress the breakpoint in emulated code: the handler's first instruction is stepped over.
//! - HLT cannot be single-stepped: it is run freely, which stops after it all the same.
//! - A few instructions are not emulated at CPL 0; `fwait` and `int3` are completed here.
//! - CPUID leaf 1 lets the host's features through: they become part of the CPU model's name.
//!
//! ```text
//!  Free ── breakpoint, fault from CPL 0 ─► step over ─► Free
//!    │
//!    └── breakpoint, fault from CPL 3 ─► AtFault (exit InjectionPoint)
//!              ├─ interrupt(): user state put back, interrupt injected; the instruction is executed again later ─► Free
//!              └─ run(): a system call is completed as SYSCALL; a page fault is let into its handler (step over) ─► Free
//! ```
//!
//! RDTSC and RDRAND in guest *user* mode run natively and cannot be caught: guests must not use them there (`docs/hosts.md`).

use kvm_bindings::{
    KVM_CAP_X86_USER_SPACE_MSR, KVM_MSR_EXIT_REASON_FILTER, kvm_enable_cap, kvm_segment,
};
use kvm_ioctls::{MsrFilterDefaultAction, MsrFilterRange, MsrFilterRangeFlags, VmFd};
use serde::{Deserialize, Serialize};
use vm_memory::{Bytes, GuestAddress};

use super::{
    paging,
    vcpu::{Debugging, RawExit, Vcpu, failed},
};
use crate::engine::{EngineError, Exit};
use crate::machine::GuestMemory;

/// Added to the clock's name: pairs of unlike hosts are refused.
pub const CLOCK: &str = "exits+pvm-user-faults";

/// The vector of #PF.
const PAGE_FAULT: u8 = 14;
/// Error code of the #PF that the broken SYSCALL ends in: present, user, instruction fetch (SDM 3A 4.7).
const SYSCALL_FAULT: u64 = 0x15;
const MSR_STAR: u32 = 0xC000_0081;
const MSR_LSTAR: u32 = 0xC000_0082;
const MSR_FMASK: u32 = 0xC000_0084;
/// Exits from one look at the guest's #PF entry point to the next, once it makes system calls.
const RECHECK_EXITS: u64 = 256;
const RFLAGS_IF: u64 = 1 << 9;
/// RF and VM are cleared by SYSCALL besides what FMASK names.
const RFLAGS_RF: u64 = 1 << 16;

/// A fault from user mode: the user's state before the faulting instruction.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct UserFault {
    /// It is a SYSCALL that `kvm-pvm` left half done.
    is_syscall: bool,
    rip: u64,
    cs: u64,
    rflags: u64,
    rsp: u64,
    ss: u64,
}

/// State of the repairs for one vCPU.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Pvm {
    /// The guest's #PF entry point, once it has set SYSCALL up.
    fault_entry: Option<u64>,
    star: u64,
    lstar: u64,
    fmask: u64,
    exits_since_look: u64,
    /// Reported as an injection point and not resumed yet.
    at_fault: Option<UserFault>,
}

/// Whether this host's KVM is `kvm-pvm`.
#[must_use]
pub fn present() -> bool {
    std::path::Path::new("/sys/module/kvm_pvm").exists()
}

/// The features that leaf 1 shows whatever was configured.
#[must_use]
pub fn host_features() -> String {
    let leaf = std::arch::x86_64::__cpuid(1);
    format!("pvm-leaf1:{:08x}:{:08x}", leaf.ecx, leaf.edx)
}

impl Pvm {
    /// Makes the guest's writes to the registers of SYSCALL known here: that is when the guest has its exception handlers and will
    /// soon enter user mode.
    pub fn configure(vm: &VmFd) -> Result<(), EngineError> {
        let capability = kvm_enable_cap {
            cap: KVM_CAP_X86_USER_SPACE_MSR,
            args: [u64::from(KVM_MSR_EXIT_REASON_FILTER), 0, 0, 0],
            ..Default::default()
        };
        vm.enable_cap(&capability)
            .map_err(failed("pass writes to model-specific registers on"))?;
        // STAR, LSTAR, CSTAR, FMASK: one bit each, 0 is "do not write, but tell".
        let range = MsrFilterRange {
            flags: MsrFilterRangeFlags::WRITE,
            base: MSR_STAR,
            msr_count: 4,
            bitmap: &[0],
        };
        vm.set_msr_filter(MsrFilterDefaultAction::ALLOW, &[range])
            .map_err(failed("filter writes to model-specific registers"))
    }

    /// The guest writes a register of SYSCALL.
    pub fn msr_written(
        &mut self,
        vcpu: &mut Vcpu,
        memory: &GuestMemory,
        index: u32,
        value: u64,
    ) -> Result<(), EngineError> {
        vcpu.complete_msr_write(index, value)?;
        match index {
            MSR_STAR => self.star = value,
            MSR_LSTAR => self.lstar = value,
            MSR_FMASK => self.fmask = value,
            _ => {}
        }
        self.look(vcpu, memory)
    }

    /// What must stop the guest while it runs freely.
    pub fn debugging(&self, step: bool) -> Debugging {
        Debugging {
            step,
            breakpoints: [self.fault_entry, None, None, None],
        }
    }

    /// After a counted exit: looks now and then whether the guest's #PF entry point is another. When it looks is a function of the
    /// exits alone.
    pub fn after_exit(&mut self, vcpu: &Vcpu, memory: &GuestMemory) -> Result<(), EngineError> {
        if self.lstar == 0 {
            return Ok(());
        }
        self.exits_since_look += 1;
        if self.exits_since_look < RECHECK_EXITS {
            return Ok(());
        }
        self.look(vcpu, memory)
    }

    fn look(&mut self, vcpu: &Vcpu, memory: &GuestMemory) -> Result<(), EngineError> {
        self.exits_since_look = 0;
        if let Some(entry) = paging::handler(memory, &vcpu.sregs()?, PAGE_FAULT) {
            self.fault_entry = Some(entry);
        }
        Ok(())
    }

    /// Whether HLT is the next instruction. It must not be single-stepped: KVM then reports the step, keeps the halt to itself and
    /// reports it some instructions later.
    pub fn next_is_halt(vcpu: &Vcpu, memory: &GuestMemory) -> Result<bool, EngineError> {
        const HLT: u8 = 0xF4;
        let rip = vcpu.regs()?.rip;
        let physical = paging::translate(memory, vcpu.sregs()?.cr3, rip);
        Ok(physical.and_then(|address| memory.read_obj(GuestAddress(address)).ok()) == Some(HLT))
    }

    /// Whether this debug exit is the breakpoint on the #PF entry point.
    pub fn is_fault_entry(&self, pc: u64) -> bool {
        self.fault_entry == Some(pc)
    }

    /// At the breakpoint: `Some` if it is an exit of this host's clock, `None` if the guest was let into its handler.
    pub fn fault(
        &mut self,
        vcpu: &mut Vcpu,
        memory: &GuestMemory,
    ) -> Result<Option<Exit>, EngineError> {
        let regs = vcpu.regs()?;
        let sregs = vcpu.sregs()?;
        // The frame of a #PF in 64-bit mode (SDM 3A 6.14.2).
        let frame = paging::read_words::<6>(memory, sregs.cr3, regs.rsp);
        let [error_code, rip, cs, rflags, rsp, ss] = frame.ok_or_else(|| {
            EngineError::Unexpected(format!(
                "the page-fault frame at {:#x} is not mapped",
                regs.rsp
            ))
        })?;
        if cs & 3 != 3 {
            self.step_over(vcpu)?;
            return Ok(None);
        }
        let is_syscall =
            error_code == SYSCALL_FAULT && rip == self.lstar && sregs.cr2 == self.lstar;
        // SYSCALL is two bytes long; it left the address behind itself in RCX and RFLAGS in R11, and has masked RFLAGS.
        let (rip, rflags) = if is_syscall {
            (regs.rcx.wrapping_sub(2), regs.r11)
        } else {
            (rip, rflags)
        };
        self.at_fault = Some(UserFault {
            is_syscall,
            rip,
            cs,
            rflags,
            rsp,
            ss,
        });
        Ok(Some(Exit::InjectionPoint))
    }

    /// Whether the guest, if it stands at an injection point, accepts interrupts there.
    pub fn accepts_interrupts(&self) -> Option<bool> {
        self.at_fault.map(|fault| fault.rflags & RFLAGS_IF != 0)
    }

    /// Before the guest runs on: completes what stopped at the injection point.
    pub fn resume(&mut self, vcpu: &mut Vcpu) -> Result<(), EngineError> {
        let Some(fault) = self.at_fault.take() else {
            return Ok(());
        };
        if fault.is_syscall {
            return self.complete_syscall(vcpu, &fault);
        }
        self.step_over(vcpu)
    }

    /// Before an interrupt is injected: puts the user state back as it was before the faulting instruction.
    pub fn before_interrupt(&mut self, vcpu: &Vcpu) -> Result<(), EngineError> {
        let Some(fault) = self.at_fault.take() else {
            return Ok(());
        };
        let mut regs = vcpu.regs()?;
        let mut sregs = vcpu.sregs()?;
        // RCX and R11 keep what SYSCALL put there: it overwrites them again when it is executed again.
        (regs.rip, regs.rflags, regs.rsp) = (fault.rip, fault.rflags, fault.rsp);
        sregs.cs = flat_segment(fault.cs as u16, true, 3);
        sregs.ss = flat_segment(fault.ss as u16, false, 3);
        vcpu.set_sregs(&sregs)?;
        vcpu.set_regs(&regs)
    }

    fn complete_syscall(&self, vcpu: &Vcpu, fault: &UserFault) -> Result<(), EngineError> {
        let mut sregs = vcpu.sregs()?;
        let mut regs = vcpu.regs()?;
        regs.rip = self.lstar;
        regs.rsp = fault.rsp;
        regs.rflags = (fault.rflags & !(self.fmask | RFLAGS_RF)) | 2;
        let selector = (self.star >> 32) as u16 & 0xFFFC;
        sregs.cs = flat_segment(selector, true, 0);
        sregs.ss = flat_segment(selector + 8, false, 0);
        vcpu.set_sregs(&sregs)?;
        vcpu.set_regs(&regs)
    }

    /// Executes the handler's first instruction with the breakpoint off.
    fn step_over(&self, vcpu: &mut Vcpu) -> Result<(), EngineError> {
        vcpu.set_debugging(Debugging {
            step: true,
            ..Debugging::default()
        })?;
        loop {
            match vcpu.enter()? {
                // Whoever kicked is heard afterwards: until then entries must last, or this would never end.
                RawExit::Interrupted => vcpu.forget_kick(),
                RawExit::Debug { .. } => return Ok(()),
                other => {
                    return Err(EngineError::Unexpected(format!(
                        "{other:?} at the first instruction of the page-fault handler"
                    )));
                }
            }
        }
    }

    /// Completes an instruction that KVM does not emulate, if it is known here.
    pub fn complete_instruction(
        vcpu: &Vcpu,
        bytes: &[u8],
    ) -> Result<Option<Completed>, EngineError> {
        const FWAIT: u8 = 0x9B;
        const INT3: u8 = 0xCC;
        const BREAKPOINT_VECTOR: u8 = 3;
        let Some(opcode @ (FWAIT | INT3)) = bytes.first().copied() else {
            return Ok(None);
        };
        let mut regs = vcpu.regs()?;
        regs.rip += 1;
        vcpu.set_regs(&regs)?;
        if opcode == FWAIT {
            return Ok(Some(Completed::Done));
        }
        let mut events = vcpu
            .fd()
            .get_vcpu_events()
            .map_err(failed("read pending events"))?;
        events.exception.injected = 1;
        events.exception.nr = BREAKPOINT_VECTOR;
        events.exception.has_error_code = 0;
        vcpu.fd()
            .set_vcpu_events(&events)
            .map_err(failed("inject a breakpoint exception"))?;
        Ok(Some(Completed::Raises(BREAKPOINT_VECTOR)))
    }
}

/// What came of an instruction that KVM does not emulate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Completed {
    /// It is over.
    Done,
    /// At the next entry, KVM delivers the exception with this vector.
    Raises(u8),
}

/// A flat segment as SYSCALL loads it or as user mode has it.
pub fn flat_segment(selector: u16, code: bool, privilege: u8) -> kvm_segment {
    kvm_segment {
        selector,
        limit: u32::MAX,
        type_: if code { 0xB } else { 0x3 },
        present: 1,
        dpl: privilege,
        s: 1,
        l: u8::from(code),
        db: u8::from(!code),
        g: 1,
        ..Default::default()
    }
}
