//! Model-specific registers: RDMSR and WRMSR (SDM 4, chapter 2).
//!
//! Those of the announced features exist, and a few that guests touch without asking CPUID first. Every other one raises #GP(0), as
//! does a value that its register cannot hold; nothing has changed then.

use iced_x86::{Code, Instruction};

use crate::{
    cpu::{
        CR0_PG, Core, EFER_LMA, EFER_LME, EFER_NXE, EFER_SCE, Halt, Register, SegmentName, Step,
    },
    decode::op::{Handler, Op, Selected},
    exit::{Completion, Exit},
    memory::{slow::is_canonical, walk::PHYSICAL_BITS},
    model,
};

const TSC: u32 = 0x10;
const PLATFORM_ID: u32 = 0x17;
const APIC_BASE: u32 = 0x1B;
const SPECULATION_CONTROL: u32 = 0x48;
const PREDICTOR_COMMAND: u32 = 0x49;
const MICROCODE_REVISION: u32 = 0x8B;
const ARCH_CAPABILITIES: u32 = 0x10A;
const SYSENTER_CS: u32 = 0x174;
const SYSENTER_ESP: u32 = 0x175;
const SYSENTER_EIP: u32 = 0x176;
const MISC_ENABLE: u32 = 0x1A0;
const DEBUG_CONTROL: u32 = 0x1D9;
const PAT: u32 = 0x277;
const EFER: u32 = 0xC000_0080;
const STAR: u32 = 0xC000_0081;
const LSTAR: u32 = 0xC000_0082;
const CSTAR: u32 = 0xC000_0083;
const FMASK: u32 = 0xC000_0084;
const FS_BASE: u32 = 0xC000_0100;
const GS_BASE: u32 = 0xC000_0101;
const KERNEL_GS_BASE: u32 = 0xC000_0102;
const TSC_AUX: u32 = 0xC000_0103;

/// Revision 1, in the half where microcode's is.
const REVISION: u64 = 1 << 32;
/// IA32_SPEC_CTRL: IBRS, STIBP and BHI_DIS_S, which have nothing to restrain.
const SPECULATION_CONTROL_BITS: u64 = 1 << 10 | 0b11;
/// IA32_PRED_CMD: IBPB, which has nothing to forget.
const PREDICTOR_COMMAND_BITS: u64 = 0b1;
/// IA32_APIC_BASE: this is the boot processor; the address. There is no local APIC to enable.
const APIC_BASE_BITS: u64 = 1 << 8 | ((1 << PHYSICAL_BITS) - 1) & !0xFFF;
/// IA32_MISC_ENABLE: fast strings. What the other bits would switch on or off is not there.
const MISC_ENABLE_BITS: u64 = 1 << 0;
const EFER_BITS: u64 = EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE;

fn rdmsr(core: &mut Core, _op: &Op) -> Step {
    core.require_supervisor()?;
    let value = match core.get::<u32>(Register::Rcx) {
        FS_BASE => core.segment(SegmentName::Fs).base,
        GS_BASE => core.segment(SegmentName::Gs).base,
        KERNEL_GS_BASE => core.msrs.kernel_gs_base,
        EFER => core.efer,
        STAR => core.msrs.star,
        LSTAR => core.msrs.lstar,
        CSTAR => core.msrs.cstar,
        FMASK => core.msrs.fmask,
        TSC_AUX => core.msrs.tsc_aux,
        TSC => {
            return Err(core.exit(Exit::TscRead { with_aux: false }, Completion::TimeStamp));
        }
        SYSENTER_CS => core.msrs.sysenter_cs,
        SYSENTER_ESP => core.msrs.sysenter_esp,
        SYSENTER_EIP => core.msrs.sysenter_eip,
        PAT => core.msrs.pat,
        MISC_ENABLE => core.msrs.misc_enable,
        APIC_BASE => core.msrs.apic_base,
        ARCH_CAPABILITIES => model::ARCH_CAPABILITIES,
        SPECULATION_CONTROL => core.msrs.spec_ctrl,
        MICROCODE_REVISION => REVISION,
        PLATFORM_ID | DEBUG_CONTROL => 0,
        _ => return Err(core.general_protection()),
    };
    core.put_wide_accumulator(value);
    Ok(())
}

fn wrmsr(core: &mut Core, _op: &Op) -> Step {
    core.require_supervisor()?;
    let value = core.wide_accumulator();
    match core.get::<u32>(Register::Rcx) {
        FS_BASE => core.write_base(SegmentName::Fs, value)?,
        GS_BASE => core.write_base(SegmentName::Gs, value)?,
        KERNEL_GS_BASE => core.msrs.kernel_gs_base = core.canonical(value)?,
        EFER => core.write_efer(value)?,
        STAR => core.msrs.star = value,
        LSTAR => core.msrs.lstar = core.canonical(value)?,
        CSTAR => core.msrs.cstar = core.canonical(value)?,
        FMASK => core.msrs.fmask = value,
        TSC_AUX => core.msrs.tsc_aux = core.among(value, 0xFFFF_FFFF)?,
        SYSENTER_CS => core.msrs.sysenter_cs = value & 0xFFFF,
        SYSENTER_ESP => core.msrs.sysenter_esp = core.canonical(value)?,
        SYSENTER_EIP => core.msrs.sysenter_eip = core.canonical(value)?,
        PAT => core.write_pat(value)?,
        MISC_ENABLE => core.msrs.misc_enable = core.among(value, MISC_ENABLE_BITS)?,
        APIC_BASE => core.msrs.apic_base = core.among(value, APIC_BASE_BITS)?,
        SPECULATION_CONTROL => {
            core.msrs.spec_ctrl = core.among(value, SPECULATION_CONTROL_BITS)?;
        }
        PREDICTOR_COMMAND => {
            core.among(value, PREDICTOR_COMMAND_BITS)?;
        }
        DEBUG_CONTROL => {
            core.among(value, 0)?;
        }
        // Time comes from outside, and what is written here does not change it. Asking for the microcode's revision begins
        // with a write.
        TSC | MICROCODE_REVISION => {}
        _ => return Err(core.general_protection()),
    }
    Ok(())
}

impl Core {
    /// `value`, or #GP(0) if it is not canonical.
    fn canonical(&mut self, value: u64) -> Result<u64, Halt> {
        if is_canonical(value) {
            Ok(value)
        } else {
            Err(self.general_protection())
        }
    }

    /// `value`, or #GP(0) if it has other bits than `bits`.
    fn among(&mut self, value: u64, bits: u64) -> Result<u64, Halt> {
        if value & !bits == 0 {
            Ok(value)
        } else {
            Err(self.general_protection())
        }
    }

    fn write_base(&mut self, name: SegmentName, value: u64) -> Step {
        let base = self.canonical(value)?;
        self.segments[name as usize].base = base;
        self.long_bases[name as usize] = base;
        Ok(())
    }

    /// LMA is not for software to write; LME cannot change while paging is on.
    fn write_efer(&mut self, value: u64) -> Step {
        let changed = value ^ self.efer;
        if value & !EFER_BITS != 0 || (changed & EFER_LME != 0 && self.cr0 & CR0_PG != 0) {
            return Err(self.general_protection());
        }
        self.efer = value & !EFER_LMA | self.efer & EFER_LMA;
        if changed & EFER_NXE != 0 {
            self.flush_translations();
        }
        self.update_mode();
        Ok(())
    }

    /// Every byte is one of the memory types 0, 1, 4, 5, 6, 7.
    fn write_pat(&mut self, value: u64) -> Step {
        if value
            .to_le_bytes()
            .iter()
            .any(|kind| !matches!(kind, 0 | 1 | 4..=7))
        {
            return Err(self.general_protection());
        }
        self.msrs.pat = value;
        Ok(())
    }
}

/// Finds the handler for an instruction of this file.
pub(super) fn select(instruction: &Instruction) -> Option<Selected> {
    let handler: Handler = match instruction.code() {
        Code::Rdmsr => rdmsr,
        Code::Wrmsr => wrmsr,
        _ => return None,
    };
    Selected::last(handler)
}

#[cfg(test)]
#[path = "msr_tests.rs"]
mod tests;
