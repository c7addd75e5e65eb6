//! The general registers.

use super::Core;
use crate::integer::Integer;

/// A general register, or one of two helpers that make every address the sum of the same four terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs, reason = "the manual's names")]
pub(crate) enum Register {
    Rax,
    Rcx,
    Rdx,
    Rbx,
    Rsp,
    Rbp,
    Rsi,
    Rdi,
    R8,
    R9,
    R10,
    R11,
    R12,
    R13,
    R14,
    R15,
    /// Always zero: no base, or no index.
    Zero,
    /// Where the current block begins: RIP-relative addresses are relative to it.
    Block,
}

impl Register {
    /// How many there are, the two helpers included.
    pub(crate) const COUNT: usize = 18;

    const ALL: [Self; 16] = [
        Self::Rax,
        Self::Rcx,
        Self::Rdx,
        Self::Rbx,
        Self::Rsp,
        Self::Rbp,
        Self::Rsi,
        Self::Rdi,
        Self::R8,
        Self::R9,
        Self::R10,
        Self::R11,
        Self::R12,
        Self::R13,
        Self::R14,
        Self::R15,
    ];

    /// The register with the hardware's number, 0 to 15.
    pub(crate) fn numbered(number: usize) -> Self {
        Self::ALL[number]
    }
}

impl Core {
    /// The low part of a register. 8-bit operands of instructions can be AH to DH: see [`crate::isa::operand`].
    #[inline(always)]
    pub(crate) fn get<T: Integer>(&self, register: Register) -> T {
        T::truncate(self.general[register as usize])
    }

    /// Writes a register as instructions do: 32 bits clear the upper half, 8 and 16 leave the rest alone.
    #[inline(always)]
    pub(crate) fn put<T: Integer>(&mut self, register: Register, value: T) {
        let slot = &mut self.general[register as usize];
        *slot = match T::BITS {
            64 | 32 => value.zero_extend(),
            bits => *slot & (u64::MAX << bits) | value.zero_extend(),
        };
    }
}
