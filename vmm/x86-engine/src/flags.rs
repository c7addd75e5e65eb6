//! RFLAGS, with the six arithmetic flags kept lazily.
//!
//! An arithmetic instruction stores two words and derives nothing from them:
//!
//! ```text
//!  result   sign-extended to 64 bits        ZF = (result == 0)
//!  carries  bit 63: carry out of the top    CF = bit 63
//!           bit 62: carry into the top      OF = bit 63 ^ bit 62
//!           bit 3:  carry out of bit 3      AF = bit 3
//!           bit 0:  inverts SF              SF = result's top bit ^ bit 0
//!           bits 8 to 15: invert PF         PF = even parity of (result ^ bits 8 to 15)
//! ```
//!
//! The inverting bits are zero after arithmetic; they exist for POPF, SAHF and the like, which can ask for combinations that no
//! result has (ZF and SF together). There is no "kind of the last operation" to branch on.

use crate::integer::Integer;

/// Carry.
pub(crate) const CF: u64 = 1 << 0;
/// Even parity of the low byte.
pub(crate) const PF: u64 = 1 << 2;
/// Carry out of bit 3.
pub(crate) const AF: u64 = 1 << 4;
/// Zero.
pub(crate) const ZF: u64 = 1 << 6;
/// Sign.
pub(crate) const SF: u64 = 1 << 7;
/// Trap after each instruction.
pub(crate) const TF: u64 = 1 << 8;
/// Interrupts enabled.
pub(crate) const IF: u64 = 1 << 9;
/// Strings go down.
pub(crate) const DF: u64 = 1 << 10;
/// Overflow.
pub(crate) const OF: u64 = 1 << 11;
/// I/O privilege level.
pub(crate) const IOPL: u64 = 3 << 12;
/// Nested task.
pub(crate) const NT: u64 = 1 << 14;
/// Resume: instruction breakpoints are off for one instruction.
pub(crate) const RF: u64 = 1 << 16;
/// Virtual 8086 mode.
pub(crate) const VM: u64 = 1 << 17;
/// Alignment check; with SMAP, allows access to user pages.
pub(crate) const AC: u64 = 1 << 18;
/// Virtual interrupt flag and virtual interrupt pending.
pub(crate) const VIF_VIP: u64 = 3 << 19;
/// CPUID exists if this can be changed.
pub(crate) const ID: u64 = 1 << 21;
/// Always reads as 1.
pub(crate) const RESERVED_1: u64 = 1 << 1;

/// The six that arithmetic sets.
pub(crate) const ARITHMETIC: u64 = CF | PF | AF | ZF | SF | OF;

const CARRY_OUT: u64 = 1 << 63;
const CARRY_IN: u64 = 1 << 62;
const HALF_CARRY: u64 = 1 << 3;

/// RFLAGS.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Flags {
    result: u64,
    carries: u64,
    /// Everything but the six arithmetic flags, where RFLAGS has it.
    system: u64,
}

impl Flags {
    /// All of RFLAGS.
    pub(crate) fn get(&self) -> u64 {
        self.system | RESERVED_1 | self.arithmetic()
    }

    /// The six arithmetic flags, where RFLAGS has them.
    pub(crate) fn arithmetic(&self) -> u64 {
        u64::from(self.carry())
            | u64::from(self.parity()) << 2
            | u64::from(self.adjust()) << 4
            | u64::from(self.zero()) << 6
            | u64::from(self.sign()) << 7
            | u64::from(self.overflow()) << 11
    }

    /// Sets all of RFLAGS, unchecked.
    pub(crate) fn set(&mut self, value: u64) {
        self.system = value & !(ARITHMETIC | RESERVED_1);
        self.set_arithmetic(value);
    }

    /// Sets the six arithmetic flags from where RFLAGS has them.
    pub(crate) fn set_arithmetic(&mut self, value: u64) {
        let bit = |mask: u64| u64::from(value & mask != 0);
        // The parity of 0 is even, that of 1 odd.
        self.result = 1 - bit(ZF);
        let parity_inverted = if self.result == 0 {
            1 - bit(PF)
        } else {
            bit(PF)
        };
        self.carries = bit(CF) << 63
            | (bit(CF) ^ bit(OF)) << 62
            | bit(AF) << 3
            | bit(SF)
            | parity_inverted << 8;
    }

    /// The system flags among `mask`.
    #[inline(always)]
    pub(crate) fn system(&self, mask: u64) -> u64 {
        self.system & mask
    }

    /// Sets or clears the system flags of `mask`.
    #[inline(always)]
    pub(crate) fn set_system(&mut self, mask: u64, on: bool) {
        debug_assert!(mask & ARITHMETIC == 0);
        if on {
            self.system |= mask;
        } else {
            self.system &= !mask;
        }
    }

    #[inline(always)]
    pub(crate) fn carry(&self) -> bool {
        self.carries & CARRY_OUT != 0
    }

    #[inline(always)]
    pub(crate) fn zero(&self) -> bool {
        self.result == 0
    }

    #[inline(always)]
    pub(crate) fn sign(&self) -> bool {
        (self.result >> 63) ^ (self.carries & 1) != 0
    }

    #[inline(always)]
    pub(crate) fn overflow(&self) -> bool {
        (self.carries ^ (self.carries << 1)) & CARRY_OUT != 0
    }

    #[inline(always)]
    pub(crate) fn adjust(&self) -> bool {
        self.carries & HALF_CARRY != 0
    }

    #[inline(always)]
    pub(crate) fn parity(&self) -> bool {
        ((self.result ^ (self.carries >> 8)) as u8).count_ones() & 1 == 0
    }

    /// After `result = a + b (+ carry)`.
    #[inline(always)]
    pub(crate) fn after_add<T: Integer>(&mut self, a: T, b: T, result: T) {
        let (a, b, r) = (a.zero_extend(), b.zero_extend(), result.zero_extend());
        self.after_carries::<T>(result, (a & b) | ((a | b) & !r));
    }

    /// After `result = a - b (- borrow)`.
    #[inline(always)]
    pub(crate) fn after_sub<T: Integer>(&mut self, a: T, b: T, result: T) {
        let (a, b, r) = (a.zero_extend(), b.zero_extend(), result.zero_extend());
        self.after_carries::<T>(result, (!a & b) | ((!a | b) & r));
    }

    #[inline(always)]
    fn after_carries<T: Integer>(&mut self, result: T, carries: u64) {
        self.result = result.sign_extend();
        self.carries =
            ((carries << (64 - T::BITS)) & (CARRY_OUT | CARRY_IN)) | (carries & HALF_CARRY);
    }

    /// After AND, OR, XOR, TEST: CF and OF clear; AF, undefined, is clear as on real processors.
    #[inline(always)]
    pub(crate) fn after_logic<T: Integer>(&mut self, result: T) {
        self.result = result.sign_extend();
        self.carries = 0;
    }

    /// SF, ZF and PF of `result`, and the others as given.
    #[inline(always)]
    pub(crate) fn after<T: Integer>(
        &mut self,
        result: T,
        carry: bool,
        overflow: bool,
        adjust: bool,
    ) {
        self.result = result.sign_extend();
        self.carries =
            u64::from(carry) << 63 | u64::from(carry ^ overflow) << 62 | u64::from(adjust) << 3;
    }

    /// Changes CF and OF alone.
    #[inline(always)]
    pub(crate) fn set_carry_overflow(&mut self, carry: bool, overflow: bool) {
        self.carries = (self.carries & !(CARRY_OUT | CARRY_IN))
            | u64::from(carry) << 63
            | u64::from(carry ^ overflow) << 62;
    }

    /// Changes CF alone.
    #[inline(always)]
    pub(crate) fn set_carry(&mut self, carry: bool) {
        let overflow = self.overflow();
        self.set_carry_overflow(carry, overflow);
    }

    /// Evaluates a condition code: the low four bits of `Jcc`, `SETcc` and `CMOVcc` (SDM 1 appendix B).
    #[inline(always)]
    pub(crate) fn condition(&self, code: u8) -> bool {
        let holds = match code >> 1 {
            0 => self.overflow(),
            1 => self.carry(),
            2 => self.zero(),
            3 => self.carry() || self.zero(),
            4 => self.sign(),
            5 => self.parity(),
            6 => self.sign() != self.overflow(),
            _ => self.zero() || self.sign() != self.overflow(),
        };
        holds ^ (code & 1 != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_combination_can_be_set_and_read_back() {
        for bits in 0..64_u64 {
            let mut value = 0;
            for (index, flag) in [CF, PF, AF, ZF, SF, OF].into_iter().enumerate() {
                if bits >> index & 1 != 0 {
                    value |= flag;
                }
            }
            let mut flags = Flags::default();
            flags.set(value | IF);
            assert_eq!(flags.get(), value | IF | RESERVED_1);
        }
    }

    #[test]
    fn sums_and_differences_of_all_bytes_have_the_manuals_flags() {
        for a in 0..=255_u8 {
            for b in 0..=255_u8 {
                let mut flags = Flags::default();
                let sum = a.wrapping_add(b);
                flags.after_add(a, b, sum);
                check(&flags, sum, a.checked_add(b).is_none());
                assert_eq!(flags.overflow(), (a as i8).checked_add(b as i8).is_none());
                assert_eq!(flags.adjust(), (a & 15) + (b & 15) > 15);
                let difference = a.wrapping_sub(b);
                flags.after_sub(a, b, difference);
                check(&flags, difference, a < b);
                assert_eq!(flags.overflow(), (a as i8).checked_sub(b as i8).is_none());
                assert_eq!(flags.adjust(), a & 15 < b & 15);
            }
        }
    }

    fn check(flags: &Flags, result: u8, carry: bool) {
        assert_eq!(flags.carry(), carry);
        assert_eq!(flags.zero(), result == 0);
        assert_eq!(flags.sign(), result > 127);
        assert_eq!(flags.parity(), result.count_ones().is_multiple_of(2));
    }
}
