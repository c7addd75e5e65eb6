//! Where operands are: handlers are generic over width and over these.

use crate::{
    cpu::{Core, Halt, Step},
    decode::op::Op,
    integer::Integer,
    memory::ram::Plain,
};

/// A width that both registers and memory have.
pub(crate) trait Width: Integer + Plain {}
impl<T: Integer + Plain> Width for T {}

/// An operand that can be read.
pub(crate) trait Source<T: Width> {
    /// Reads it.
    fn read(core: &mut Core, op: &Op) -> Result<T, Halt>;
    /// Reads it, if that takes no more than a look into the translation cache: see [`Core::load_quickly`].
    fn read_quickly(core: &Core, op: &Op) -> Option<T>;
}

/// An operand that can be read and written.
pub(crate) trait Target<T: Width>: Source<T> {
    /// Reads it, to be written next: that write cannot fault any more.
    fn read_to_modify(core: &mut Core, op: &Op) -> Result<T, Halt>;
    /// Writes it.
    fn write(core: &mut Core, op: &Op, value: T) -> Step;
    /// [`Self::read_to_modify`], if that takes no more than a look.
    fn read_to_modify_quickly(core: &Core, op: &Op) -> Option<T>;
    /// Writes it, if that takes no more than a look; returns whether it did.
    fn write_quickly(core: &mut Core, op: &Op, value: T) -> bool;
}

/// The first register operand.
pub(crate) struct R1;
/// The second register operand.
pub(crate) struct R2;
/// The memory operand.
pub(crate) struct Memory;
/// The immediate operand.
pub(crate) struct Immediate;

/// Reads a register, or AH to DH.
#[inline(always)]
fn get<T: Width>(core: &Core, register: crate::cpu::Register, high: bool) -> T {
    if T::BITS == 8 && high {
        T::truncate(core.general[register as usize] >> 8)
    } else {
        core.get(register)
    }
}

#[inline(always)]
fn put<T: Width>(core: &mut Core, register: crate::cpu::Register, high: bool, value: T) {
    if T::BITS == 8 && high {
        let slot = &mut core.general[register as usize];
        *slot = *slot & !0xFF00 | value.zero_extend() << 8;
    } else {
        core.put(register, value);
    }
}

macro_rules! register_operand {
    ($name:ident, $field:ident, $bit:expr) => {
        impl<T: Width> Source<T> for $name {
            #[inline(always)]
            fn read(core: &mut Core, op: &Op) -> Result<T, Halt> {
                Ok(get(core, op.$field, op.high & $bit != 0))
            }

            #[inline(always)]
            fn read_quickly(core: &Core, op: &Op) -> Option<T> {
                Some(get(core, op.$field, op.high & $bit != 0))
            }
        }

        impl<T: Width> Target<T> for $name {
            #[inline(always)]
            fn read_to_modify(core: &mut Core, op: &Op) -> Result<T, Halt> {
                Ok(get(core, op.$field, op.high & $bit != 0))
            }

            #[inline(always)]
            fn write(core: &mut Core, op: &Op, value: T) -> Step {
                put(core, op.$field, op.high & $bit != 0, value);
                Ok(())
            }

            #[inline(always)]
            fn read_to_modify_quickly(core: &Core, op: &Op) -> Option<T> {
                Some(get(core, op.$field, op.high & $bit != 0))
            }

            #[inline(always)]
            fn write_quickly(core: &mut Core, op: &Op, value: T) -> bool {
                put(core, op.$field, op.high & $bit != 0, value);
                true
            }
        }
    };
}

register_operand!(R1, r1, 1);
register_operand!(R2, r2, 2);

impl<T: Width> Source<T> for Memory {
    #[inline(always)]
    fn read(core: &mut Core, op: &Op) -> Result<T, Halt> {
        core.load(op)
    }

    #[inline(always)]
    fn read_quickly(core: &Core, op: &Op) -> Option<T> {
        core.load_quickly(op)
    }
}

impl<T: Width> Target<T> for Memory {
    #[inline(always)]
    fn read_to_modify(core: &mut Core, op: &Op) -> Result<T, Halt> {
        core.load_to_modify(op)
    }

    #[inline(always)]
    fn write(core: &mut Core, op: &Op, value: T) -> Step {
        core.store(op, value)
    }

    #[inline(always)]
    fn read_to_modify_quickly(core: &Core, op: &Op) -> Option<T> {
        core.load_to_modify_quickly(op)
    }

    #[inline(always)]
    fn write_quickly(core: &mut Core, op: &Op, value: T) -> bool {
        core.store_quickly(op, value)
    }
}

impl<T: Width> Source<T> for Immediate {
    #[inline(always)]
    fn read(_core: &mut Core, op: &Op) -> Result<T, Halt> {
        Ok(T::truncate(op.immediate))
    }

    #[inline(always)]
    fn read_quickly(_core: &Core, op: &Op) -> Option<T> {
        Some(T::truncate(op.immediate))
    }
}
