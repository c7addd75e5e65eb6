//! Control registers: MOV CRn, CLTS, SMSW, LMSW, INVLPG (SDM 3A 2.5, 4.1.2 and 9.8.5).
//!
//! A new value is checked as a whole before anything changes. Since cached translations always equal what a walk would give, they
//! are dropped only where the walk itself would now go differently; INVLPG has nothing to do.
//!
//! Real-address mode does not exist here: an instruction that clears CR0.PE shuts the processor down.

use iced_x86::{Code, Instruction, OpKind};

use crate::{
    cpu::{
        CR0_AM, CR0_CD, CR0_EM, CR0_ET, CR0_MP, CR0_NE, CR0_NW, CR0_PE, CR0_PG, CR0_TS, CR0_WP,
        CR4_DE, CR4_OSFXSR, CR4_OSXMMEXCPT, CR4_OSXSAVE, CR4_PAE, CR4_PCE, CR4_PGE, CR4_PSE,
        CR4_SMAP, CR4_SMEP, CR4_TSD, Core, EFER_LMA, EFER_LME, Register, SegmentName, Step,
    },
    decode::op::{Handler, Op, Selected},
    exit::{Completion, Exit},
    integer::Integer,
    isa::{
        operand::{Memory, R1, Target, Width},
        system::descriptor::TSS_16_BUSY,
    },
    memory::walk::PHYSICAL_BITS,
};

/// The bits that CR0 has; others read as zero.
const CR0_BITS: u64 = CR0_PE
    | CR0_MP
    | CR0_EM
    | CR0_TS
    | CR0_ET
    | CR0_NE
    | CR0_WP
    | CR0_AM
    | CR0_NW
    | CR0_CD
    | CR0_PG;

/// The bits of CR4 whose features CPUID announces; setting others is #GP(0).
const CR4_BITS: u64 = CR4_TSD
    | CR4_DE
    | CR4_PSE
    | CR4_PAE
    | CR4_PGE
    | CR4_PCE
    | CR4_OSFXSR
    | CR4_OSXMMEXCPT
    | CR4_OSXSAVE
    | CR4_SMEP
    | CR4_SMAP;

/// A change of these reloads PAE paging's page-directory pointers (SDM 3A 4.4.1).
const CR0_RELOADS: u64 = CR0_PG | CR0_CD | CR0_NW;
const CR4_RELOADS: u64 = CR4_PAE | CR4_PGE | CR4_PSE | CR4_SMEP;
/// Reserved in a page-directory-pointer entry: bits 1, 2, 5 to 8, and addresses that do not exist.
const PDPTE_RESERVED: u64 = 0x1E6 | !((1 << PHYSICAL_BITS) - 1);

fn read_control(core: &mut Core, op: &Op) -> Step {
    core.require_supervisor()?;
    let value = match op.extra {
        0 => core.cr0,
        2 => core.cr2,
        3 => core.cr3,
        4 => core.cr4,
        8 => core.cr8,
        _ => return Err(core.invalid_opcode()),
    };
    core.put_whole(op.r1, value);
    Ok(())
}

fn write_control(core: &mut Core, op: &Op) -> Step {
    core.require_supervisor()?;
    let value = core.get_whole(op.r2);
    match op.extra {
        0 => core.write_cr0(value),
        2 => {
            core.cr2 = value;
            Ok(())
        }
        3 => core.write_cr3(value),
        4 => core.write_cr4(value),
        8 => core.write_cr8(value),
        _ => Err(core.invalid_opcode()),
    }
}

impl Core {
    fn write_cr0(&mut self, value: u64) -> Step {
        let forbidden = value >> 32 != 0
            || value & (CR0_PG | CR0_PE) == CR0_PG
            || value & (CR0_NW | CR0_CD) == CR0_NW;
        if forbidden {
            return Err(self.general_protection());
        }
        if value & CR0_PE == 0 {
            return Err(self.exit(Exit::Shutdown, Completion::Retired));
        }
        let new = value & CR0_BITS | CR0_ET;
        let changed = new ^ self.cr0;
        let turns_on = changed & new & CR0_PG != 0;
        let mut efer = self.efer & !EFER_LMA;
        if new & CR0_PG != 0 && self.efer & EFER_LME != 0 {
            efer |= EFER_LMA;
            if turns_on {
                self.check_long_mode_entry()?;
            }
        } else if self.is_64_bit() {
            // Paging off from 64-bit code.
            return Err(self.general_protection());
        } else if new & CR0_PG != 0 && self.cr4 & CR4_PAE != 0 && changed & CR0_RELOADS != 0 {
            let table = self.cr3;
            self.load_pointers(table)?;
        }
        self.cr0 = new;
        self.efer = efer;
        if changed & (CR0_PG | CR0_WP) != 0 {
            self.flush_translations();
        }
        self.update_mode();
        Ok(())
    }

    /// Paging goes on with EFER.LME set (SDM 3A 9.8.5).
    fn check_long_mode_entry(&mut self) -> Step {
        let wrong = self.cr4 & CR4_PAE == 0
            || self.segment(SegmentName::Cs).long()
            || self.tr.present() && self.tr.kind() <= TSS_16_BUSY;
        if wrong {
            return Err(self.general_protection());
        }
        Ok(())
    }

    fn write_cr3(&mut self, value: u64) -> Step {
        if self.long_mode() {
            if value >> PHYSICAL_BITS != 0 {
                return Err(self.general_protection());
            }
        } else if self.cr0 & CR0_PG != 0 && self.cr4 & CR4_PAE != 0 {
            let before = self.pdpte;
            self.load_pointers(value)?;
            if self.pdpte != before {
                self.flush_translations();
            }
        }
        if value != self.cr3 {
            self.cr3 = value;
            self.flush_translations();
        }
        Ok(())
    }

    /// Loads PAE paging's four page-directory-pointer entries (SDM 3A 4.4.1).
    fn load_pointers(&mut self, cr3: u64) -> Step {
        let table = cr3 & 0xFFFF_FFE0;
        let mut entries = [0; 4];
        for (index, entry) in entries.iter_mut().enumerate() {
            let address = table + index as u64 * 8;
            if self.ram.has_page(address) {
                *entry = self.ram.load(address);
            }
            if *entry & 1 != 0 && *entry & PDPTE_RESERVED != 0 {
                return Err(self.general_protection());
            }
        }
        self.pdpte = entries;
        Ok(())
    }

    fn write_cr4(&mut self, value: u64) -> Step {
        if value & !CR4_BITS != 0 || (self.long_mode() && value & CR4_PAE == 0) {
            return Err(self.general_protection());
        }
        let changed = value ^ self.cr4;
        let pae_paging = self.cr0 & CR0_PG != 0 && !self.long_mode() && value & CR4_PAE != 0;
        if pae_paging && changed & CR4_RELOADS != 0 {
            let table = self.cr3;
            self.load_pointers(table)?;
        }
        self.cr4 = value;
        // Global pages are cached no longer than others, and SMAP's translations are kept apart.
        if changed & (CR4_PAE | CR4_PSE | CR4_SMEP) != 0 {
            self.flush_translations();
        }
        self.update_mode();
        Ok(())
    }

    /// The task priority: no interrupt controller of ours looks at it.
    fn write_cr8(&mut self, value: u64) -> Step {
        if value > 15 {
            return Err(self.general_protection());
        }
        self.cr8 = value;
        Ok(())
    }
}

fn clts(core: &mut Core, _op: &Op) -> Step {
    core.require_supervisor()?;
    core.cr0 &= !CR0_TS;
    core.update_mode();
    Ok(())
}

/// SMSW: the low half of CR0, or as much as a register holds.
fn smsw<T: Width, D: Target<T>>(core: &mut Core, op: &Op) -> Step {
    D::write(core, op, T::truncate(core.cr0))
}

/// LMSW: PE, MP, EM and TS; PE can only be set.
fn lmsw<S: Target<u16>>(core: &mut Core, op: &Op) -> Step {
    core.require_supervisor()?;
    let value = u64::from(S::read(core, op)?);
    let changeable = CR0_MP | CR0_EM | CR0_TS;
    core.cr0 = core.cr0 & !changeable | value & changeable;
    Ok(())
}

/// There is never a stale translation to drop; a bad address is no fault either (SDM 2A, INVLPG).
fn invlpg(core: &mut Core, _op: &Op) -> Step {
    core.require_supervisor()
}

/// INVD, WBINVD: there is no cache of data.
fn invalidate_caches(core: &mut Core, _op: &Op) -> Step {
    core.require_supervisor()
}

/// XSETBV: only x87 and SSE state exist, and x87's bit is always set (SDM 2D, XSETBV).
fn xsetbv(core: &mut Core, _op: &Op) -> Step {
    require_xsave(core)?;
    core.require_supervisor()?;
    let value = core.wide_accumulator();
    if core.get::<u32>(Register::Rcx) != 0 || value & 1 == 0 || value & !3 != 0 {
        return Err(core.general_protection());
    }
    core.xcr0 = value;
    Ok(())
}

fn xgetbv(core: &mut Core, _op: &Op) -> Step {
    require_xsave(core)?;
    if core.get::<u32>(Register::Rcx) != 0 {
        return Err(core.general_protection());
    }
    core.put_wide_accumulator(core.xcr0);
    Ok(())
}

fn require_xsave(core: &mut Core) -> Step {
    if core.cr4 & CR4_OSXSAVE == 0 {
        return Err(core.invalid_opcode());
    }
    Ok(())
}

impl Core {
    /// A register as wide as the mode has it.
    pub(super) fn get_whole(&self, register: Register) -> u64 {
        if self.is_64_bit() {
            self.get::<u64>(register)
        } else {
            self.get::<u32>(register).zero_extend()
        }
    }

    /// Writes a register as wide as the mode has it.
    pub(super) fn put_whole(&mut self, register: Register, value: u64) {
        if self.is_64_bit() {
            self.put(register, value);
        } else {
            self.put(register, value as u32);
        }
    }

    /// EDX:EAX.
    pub(super) fn wide_accumulator(&self) -> u64 {
        self.get::<u32>(Register::Rdx).zero_extend() << 32
            | self.get::<u32>(Register::Rax).zero_extend()
    }

    /// Sets EDX:EAX.
    pub(super) fn put_wide_accumulator(&mut self, value: u64) {
        self.put(Register::Rax, value as u32);
        self.put(Register::Rdx, (value >> 32) as u32);
    }
}

/// Finds the handler for an instruction of this file.
pub(super) fn select(instruction: &Instruction, op: &mut Op) -> Option<Selected> {
    let handler: Handler = match instruction.code() {
        Code::Mov_r32_cr | Code::Mov_r64_cr => {
            op.extra = instruction.op1_register().number() as u16;
            read_control
        }
        Code::Mov_cr_r32 | Code::Mov_cr_r64 => {
            op.extra = instruction.op0_register().number() as u16;
            write_control
        }
        Code::Clts => clts,
        Code::Smsw_rm16 | Code::Smsw_r32m16 | Code::Smsw_r64m16 => {
            super::selector_target!(instruction, smsw)
        }
        Code::Lmsw_rm16 | Code::Lmsw_r32m16 | Code::Lmsw_r64m16 => {
            if instruction.op0_kind() == OpKind::Memory {
                lmsw::<Memory>
            } else {
                lmsw::<R1>
            }
        }
        Code::Invlpg_m => invlpg,
        Code::Invd | Code::Wbinvd | Code::Wbnoinvd => invalidate_caches,
        Code::Xsetbv => xsetbv,
        Code::Xgetbv => xgetbv,
        _ => return None,
    };
    Selected::last(handler)
}

#[cfg(test)]
#[path = "control_tests.rs"]
mod tests;
