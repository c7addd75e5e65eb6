//! One element of a string instruction.

use crate::{
    cpu::{Core, Register, SegmentName, Step},
    decode::op::Op,
    flags::DF,
    integer::Integer,
    isa::operand::Width,
};

/// A string instruction. `T` is the element, `A` the address size.
pub(crate) trait Element {
    /// Does one element and moves the index registers on.
    fn element<T: Width, A: Width>(core: &mut Core, op: &Op) -> Step;

    /// Does up to `limit` elements at once, but none after one that makes ZF differ from `WHILE`, and says how many; perhaps none.
    /// The last thing done must have been the element before these.
    #[inline(always)]
    fn run<T: Width, A: Width, const WHILE: u8>(_core: &mut Core, _op: &Op, _limit: u64) -> u64 {
        0
    }
}

/// MOVS.
pub(crate) struct Move;
/// STOS.
pub(crate) struct Store;
/// LODS.
pub(crate) struct Load;
/// CMPS.
pub(crate) struct Compare;
/// SCAS.
pub(crate) struct Scan;

/// The element at RSI, in DS or the segment that a prefix names.
#[inline(always)]
fn source<T: Width, A: Width>(core: &mut Core, op: &Op) -> Result<T, crate::cpu::Halt> {
    let offset = core.get::<A>(Register::Rsi).zero_extend();
    core.load_at(op.segment, offset)
}

/// Where RDI points to, always in ES.
#[inline(always)]
fn target<A: Width>(core: &Core) -> u64 {
    core.get::<A>(Register::Rdi).zero_extend()
}

/// Moves an index register on, or back if DF is set.
#[inline(always)]
fn advance<T: Width, A: Width>(core: &mut Core, register: Register) {
    let bytes = A::truncate(<T as Integer>::BYTES);
    let index: A = core.get(register);
    let next = if core.flags.system(DF) == 0 {
        index.add(bytes)
    } else {
        index.sub(bytes)
    };
    core.put(register, next);
}

impl Element for Move {
    #[inline(always)]
    fn element<T: Width, A: Width>(core: &mut Core, op: &Op) -> Step {
        let value: T = source::<T, A>(core, op)?;
        core.store_at(SegmentName::Es, target::<A>(core), value)?;
        advance::<T, A>(core, Register::Rsi);
        advance::<T, A>(core, Register::Rdi);
        Ok(())
    }

    #[inline(always)]
    fn run<T: Width, A: Width, const WHILE: u8>(core: &mut Core, op: &Op, limit: u64) -> u64 {
        super::run::move_run(core, op, <T as Integer>::BYTES, limit)
    }
}

impl Element for Store {
    #[inline(always)]
    fn element<T: Width, A: Width>(core: &mut Core, _op: &Op) -> Step {
        let value: T = core.get(Register::Rax);
        core.store_at(SegmentName::Es, target::<A>(core), value)?;
        advance::<T, A>(core, Register::Rdi);
        Ok(())
    }

    #[inline(always)]
    fn run<T: Width, A: Width, const WHILE: u8>(core: &mut Core, op: &Op, limit: u64) -> u64 {
        super::run::store_run::<T>(core, op, limit)
    }
}

impl Element for Load {
    #[inline(always)]
    fn element<T: Width, A: Width>(core: &mut Core, op: &Op) -> Step {
        let value: T = source::<T, A>(core, op)?;
        core.put(Register::Rax, value);
        advance::<T, A>(core, Register::Rsi);
        Ok(())
    }
}

impl Element for Compare {
    #[inline(always)]
    fn element<T: Width, A: Width>(core: &mut Core, op: &Op) -> Step {
        // The target first, as AMD's processors do: it shows if both fault.
        let b: T = core.load_at(SegmentName::Es, target::<A>(core))?;
        let a: T = source::<T, A>(core, op)?;
        core.flags.after_sub(a, b, a.sub(b));
        advance::<T, A>(core, Register::Rsi);
        advance::<T, A>(core, Register::Rdi);
        Ok(())
    }

    #[inline(always)]
    fn run<T: Width, A: Width, const WHILE: u8>(core: &mut Core, op: &Op, limit: u64) -> u64 {
        super::run::compare_run::<T, WHILE>(core, op, limit)
    }
}

impl Element for Scan {
    #[inline(always)]
    fn element<T: Width, A: Width>(core: &mut Core, _op: &Op) -> Step {
        let a: T = core.get(Register::Rax);
        let b: T = core.load_at(SegmentName::Es, target::<A>(core))?;
        core.flags.after_sub(a, b, a.sub(b));
        advance::<T, A>(core, Register::Rdi);
        Ok(())
    }

    #[inline(always)]
    fn run<T: Width, A: Width, const WHILE: u8>(core: &mut Core, op: &Op, limit: u64) -> u64 {
        super::run::scan_run::<T, WHILE>(core, op, limit)
    }
}
