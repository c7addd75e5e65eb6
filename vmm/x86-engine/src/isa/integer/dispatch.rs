//! From widths and kinds of operands, known when an instruction is decoded, to the instance of a generic handler.

use iced_x86::{Instruction, OpKind};

/// Picks the width of a generic handler whose instruction has no 8-bit form.
macro_rules! with_wide_width {
    ($bytes:expr, $T:ident => $body:expr) => {
        match $bytes {
            2 => {
                type $T = u16;
                $body
            }
            4 => {
                type $T = u32;
                $body
            }
            _ => {
                type $T = u64;
                $body
            }
        }
    };
}

/// Names an operand that is a register or memory: operand `$index`, which is register operand `$register` if it is one.
macro_rules! with_operand {
    ($instruction:expr, $index:expr, $register:ty, $D:ident => $body:expr) => {
        if $crate::isa::integer::dispatch::is_register($instruction, $index) {
            type $D = $register;
            $body
        } else {
            type $D = $crate::isa::operand::Memory;
            $body
        }
    };
}

/// Names a condition code, 0 to 15, as a constant.
macro_rules! with_condition {
    ($code:expr, $C:ident => $body:expr) => {
        with_condition!(@arms $code, $C, $body, 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14; 15)
    };
    (@arms $code:expr, $C:ident, $body:expr, $($number:literal)*; $last:literal) => {
        match $code {
            $($number => {
                const $C: u8 = $number;
                $body
            })*
            _ => {
                const $C: u8 = $last;
                $body
            }
        }
    };
}

/// Names a type of the given address size in bits.
macro_rules! with_address_width {
    ($bits:expr, $A:ident => $body:expr) => {
        $crate::isa::integer::dispatch::with_wide_width!($bits / 8, $A => $body)
    };
}

pub(crate) use {with_address_width, with_condition, with_operand, with_wide_width};

/// Whether an operand is a register.
pub(crate) fn is_register(instruction: &Instruction, index: u32) -> bool {
    instruction.op_kind(index) == OpKind::Register
}
