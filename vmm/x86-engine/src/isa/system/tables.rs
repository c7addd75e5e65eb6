//! Table registers: LGDT, LIDT, SGDT, SIDT, LLDT, LTR, SLDT, STR (SDM 3A 2.4).

use iced_x86::{Code, Instruction, OpKind};

use super::descriptor::{LDT, LOCAL, TSS, TSS_16, is_null};
use crate::{
    cpu::{Core, DescriptorTable, Segment, Step},
    decode::op::{Handler, Op, Selected},
    exception::Exception,
    isa::operand::{Memory, R1, Source, Target, Width},
    memory::{Access, slow::is_canonical},
};

/// SGDT, SIDT: limit, then base.
fn store_table(core: &mut Core, op: &Op, table: DescriptorTable) -> Step {
    let mut bytes = [0; 10];
    bytes[..2].copy_from_slice(&table.limit.to_le_bytes());
    bytes[2..].copy_from_slice(&table.base.to_le_bytes());
    if core.is_64_bit() {
        return core.store(op, bytes);
    }
    let [a, b, c, d, e, f, ..] = bytes;
    core.store(op, [a, b, c, d, e, f])
}

/// LGDT, LIDT. With 16-bit operands the base has 24 bits.
fn load_table(core: &mut Core, op: &Op) -> Result<DescriptorTable, crate::cpu::Halt> {
    core.require_supervisor()?;
    let bytes = if core.is_64_bit() { 10 } else { 6 };
    let linear = core.linear(op, bytes, Access::Read)?;
    let limit: u16 = core.load_linear(linear, op.segment)?;
    let at = core.wrap(linear.wrapping_add(2));
    let base = if core.is_64_bit() {
        core.load_linear(at, op.segment)?
    } else {
        u64::from(core.load_linear::<u32>(at, op.segment)?)
    };
    if !is_canonical(base) {
        return Err(core.general_protection());
    }
    let base = if op.extra == NARROW {
        base & 0xFF_FFFF
    } else {
        base
    };
    Ok(DescriptorTable { base, limit })
}

/// `extra` of LGDT and LIDT with 16-bit operands.
const NARROW: u16 = 1;

fn sgdt(core: &mut Core, op: &Op) -> Step {
    store_table(core, op, core.gdtr)
}

fn sidt(core: &mut Core, op: &Op) -> Step {
    store_table(core, op, core.idtr)
}

fn lgdt(core: &mut Core, op: &Op) -> Step {
    core.gdtr = load_table(core, op)?;
    Ok(())
}

fn lidt(core: &mut Core, op: &Op) -> Step {
    core.idtr = load_table(core, op)?;
    Ok(())
}

/// A null selector leaves an LDT without descriptors.
fn lldt<S: Source<u16>>(core: &mut Core, op: &Op) -> Step {
    core.require_supervisor()?;
    let selector = S::read(core, op)?;
    if is_null(selector) {
        core.ldtr = Segment {
            selector,
            ..Segment::default()
        };
        return Ok(());
    }
    if selector & LOCAL != 0 {
        return core.bad_selector(selector);
    }
    let descriptor = core.descriptor(selector, Exception::general_protection)?;
    if !descriptor.is_system() || descriptor.kind() != LDT || descriptor.is_malformed() {
        return core.bad_selector(selector);
    }
    if !descriptor.present() {
        return core.absent(selector);
    }
    core.ldtr = descriptor.segment(selector);
    Ok(())
}

/// The task becomes busy, in the table too.
fn ltr<S: Source<u16>>(core: &mut Core, op: &Op) -> Step {
    core.require_supervisor()?;
    let selector = S::read(core, op)?;
    if is_null(selector) {
        return Err(core.general_protection());
    }
    if selector & LOCAL != 0 {
        return core.bad_selector(selector);
    }
    let mut descriptor = core.descriptor(selector, Exception::general_protection)?;
    let available = match descriptor.kind() {
        TSS => true,
        TSS_16 => !core.long_mode(),
        _ => false,
    };
    if !descriptor.is_system() || !available || descriptor.is_malformed() {
        return core.bad_selector(selector);
    }
    if !descriptor.present() {
        return core.absent(selector);
    }
    descriptor.low |= 1 << 41;
    core.store_system(
        descriptor.address.wrapping_add(5),
        (descriptor.low >> 40) as u8,
    )?;
    core.tr = descriptor.segment(selector);
    Ok(())
}

fn sldt<T: Width, D: Target<T>>(core: &mut Core, op: &Op) -> Step {
    D::write(core, op, T::truncate(u64::from(core.ldtr.selector)))
}

/// `str` is a type's name.
fn store_task<T: Width, D: Target<T>>(core: &mut Core, op: &Op) -> Step {
    D::write(core, op, T::truncate(u64::from(core.tr.selector)))
}

/// Finds the handler for an instruction of this file.
pub(super) fn select(instruction: &Instruction, op: &mut Op) -> Option<Selected> {
    let in_memory = instruction.op0_kind() == OpKind::Memory;
    let handler: Handler = match instruction.code() {
        Code::Sgdt_m1632_16 | Code::Sgdt_m1632 | Code::Sgdt_m1664 => sgdt,
        Code::Sidt_m1632_16 | Code::Sidt_m1632 | Code::Sidt_m1664 => sidt,
        Code::Lgdt_m1632 | Code::Lgdt_m1664 => lgdt,
        Code::Lidt_m1632 | Code::Lidt_m1664 => lidt,
        Code::Lgdt_m1632_16 => {
            op.extra = NARROW;
            lgdt
        }
        Code::Lidt_m1632_16 => {
            op.extra = NARROW;
            lidt
        }
        Code::Lldt_rm16 | Code::Lldt_r32m16 | Code::Lldt_r64m16 if in_memory => lldt::<Memory>,
        Code::Lldt_rm16 | Code::Lldt_r32m16 | Code::Lldt_r64m16 => lldt::<R1>,
        Code::Ltr_rm16 | Code::Ltr_r32m16 | Code::Ltr_r64m16 if in_memory => ltr::<Memory>,
        Code::Ltr_rm16 | Code::Ltr_r32m16 | Code::Ltr_r64m16 => ltr::<R1>,
        Code::Sldt_rm16 | Code::Sldt_r32m16 | Code::Sldt_r64m16 => {
            super::selector_target!(instruction, sldt)
        }
        Code::Str_rm16 | Code::Str_r32m16 | Code::Str_r64m16 => {
            super::selector_target!(instruction, store_task)
        }
        _ => return None,
    };
    Selected::last(handler)
}

#[cfg(test)]
#[path = "tables_tests.rs"]
mod tests;
