//! One x87 instruction on the real processor: operands and control word in, what it left out.
//!
//! Between the instruction and FNSAVE, which also resets the FPU, no waiting instruction is
//! executed. So an unmasked exception stays pending, is seen in the status word, and never traps.

use crate::float80::{Exceptions, Float80};

/// What FNSAVE stores in 64-bit mode (Intel SDM 1, figure 8-9).
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Image {
    environment: [u16; 14],
    registers: [[u8; 10]; 8],
}

/// The FPU after the instruction.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Observed {
    status: u16,
    pub(super) stack: [Float80; 3],
    pub(super) memory: [u8; 16],
}

pub(super) const C1: u16 = 1 << 9;
/// C3, C2, C1 and C0.
pub(super) const CODES: u16 = 1 << 14 | 1 << 10 | 1 << 9 | 1 << 8;
/// What memory holds where nothing is stored.
pub(super) const UNTOUCHED: u8 = 0xA5;

impl Observed {
    fn new(image: &Image, memory: [u8; 16]) -> Observed {
        Observed {
            status: image.environment[2],
            stack: [0, 1, 2].map(|index| Float80::from_bytes(image.registers[index])),
            memory,
        }
    }

    pub(super) fn exceptions(&self) -> Exceptions {
        Exceptions::from_bits(self.status)
    }

    /// The condition codes, of which only those in `mask`.
    pub(super) fn codes(&self, mask: u16) -> u16 {
        self.status & mask
    }

    /// How many registers are in use.
    pub(super) fn depth(&self) -> u16 {
        (8 - (self.status >> 11 & 7)) & 7
    }
}

/// An instruction of the real processor, with ST(0), ST(1), control word and 16 bytes of memory.
pub(super) type Instruction = fn(Float80, Float80, u16, [u8; 16]) -> Observed;

/// Makes an [`Instruction`] of assembler text, in which RDI points to the memory operand.
macro_rules! instruction {
    ($text:literal) => {
        |a: $crate::float80::Float80, b: $crate::float80::Float80, control: u16, memory: [u8; 16]| {
            $crate::float80::tests::oracle::run(a, b, control, memory, |pointers| {
                // SAFETY: the pointers are to live buffers of at least the size each instruction
                // accesses; all FPU registers are declared clobbered; FNSAVE leaves the FPU
                // reset, which is the state Rust code expects, and no exception pending.
                unsafe {
                    std::arch::asm!(
                        "fninit",
                        "fld tbyte ptr [rdx]",
                        "fld tbyte ptr [rsi]",
                        "fldcw word ptr [rcx]",
                        $text,
                        "fnsave [r8]",
                        in("rsi") pointers.a,
                        in("rdx") pointers.b,
                        in("rcx") pointers.control,
                        in("rdi") pointers.memory,
                        in("r8") pointers.image,
                        out("st(0)") _, out("st(1)") _, out("st(2)") _, out("st(3)") _,
                        out("st(4)") _, out("st(5)") _, out("st(6)") _, out("st(7)") _,
                    );
                }
            })
        }
    };
}
pub(super) use instruction;

/// Where an instruction finds its operands.
pub(super) struct Pointers {
    pub(super) a: *const u8,
    pub(super) b: *const u8,
    pub(super) control: *const u16,
    pub(super) memory: *mut u8,
    pub(super) image: *mut Image,
}

/// Lays the operands out in memory, executes, and collects the result.
pub(super) fn run(
    a: Float80,
    b: Float80,
    control: u16,
    mut memory: [u8; 16],
    execute: impl FnOnce(&Pointers),
) -> Observed {
    let (a, b) = (a.to_bytes(), b.to_bytes());
    let mut image = Image { environment: [0; 14], registers: [[0; 10]; 8] };
    execute(&Pointers {
        a: a.as_ptr(),
        b: b.as_ptr(),
        control: &raw const control,
        memory: memory.as_mut_ptr(),
        image: &raw mut image,
    });
    Observed::new(&image, memory)
}
