//! The registers in gdb's order and shape.

use gdbstub_arch::x86::reg::{X86_64CoreRegs, X86SegmentRegs, X87FpuInternalRegs};

use crate::{engine::FloatingPoint, machine::inspect::View};

/// An empty x87 register's tag (SDM 1 8.1.7).
const TAG_EMPTY: u32 = 3;
const TAG_SPECIAL: u32 = 2;
const TAG_ZERO: u32 = 1;
const TAG_VALID: u32 = 0;

/// What gdb is told of the registers.
pub(super) fn for_gdb(view: &View, floating_point: &FloatingPoint) -> X86_64CoreRegs {
    let [rax, rbx, rcx, rdx, rsi, rdi, rsp, rbp, high @ ..] = view.registers.general;
    let mut regs = [
        rax, rbx, rcx, rdx, rsi, rdi, rbp, rsp, 0, 0, 0, 0, 0, 0, 0, 0,
    ];
    regs[8..].copy_from_slice(&high);
    let [es, cs, ss, ds, fs, gs] = view.system.selectors.map(u32::from);
    let [control, status, in_use] = floating_point.words;
    X86_64CoreRegs {
        regs,
        eflags: view.registers.rflags as u32,
        rip: view.registers.rip,
        segments: X86SegmentRegs {
            cs,
            ss,
            ds,
            es,
            fs,
            gs,
        },
        st: floating_point
            .st
            .map(|padded| std::array::from_fn(|index| padded[index])),
        fpu: X87FpuInternalRegs {
            fctrl: u32::from(control),
            fstat: u32::from(status),
            ftag: tags(floating_point, status, in_use),
            ..X87FpuInternalRegs::default()
        },
        xmm: floating_point.xmm.map(u128::from_le_bytes),
        mxcsr: floating_point.mxcsr,
    }
}

/// The whole tag word, two bits for each physical register, from the abridged one.
fn tags(floating_point: &FloatingPoint, status: u16, in_use: u16) -> u32 {
    let top = usize::from(status >> 11 & 7);
    let tag = |physical: usize| {
        if in_use >> physical & 1 == 0 {
            return TAG_EMPTY;
        }
        let value = &floating_point.st[(physical + 8 - top) % 8];
        let exponent = u16::from_le_bytes([value[8], value[9]]) & 0x7FFF;
        let integer_bit = value[7] >> 7 == 1;
        if exponent == 0 && value[..8] == [0; 8] {
            TAG_ZERO
        } else if exponent == 0 || exponent == 0x7FFF || !integer_bit {
            TAG_SPECIAL
        } else {
            TAG_VALID
        }
    };
    (0..8).fold(0, |word, physical| word | tag(physical) << (2 * physical))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        engine::{CpuMode, Registers, inspect::SystemState},
        machine::inspect::View,
    };

    #[test]
    fn registers_are_in_gdbs_order() {
        let general = std::array::from_fn(|index| 100 + index as u64);
        let view = View {
            registers: Registers {
                general,
                rip: 1,
                rflags: 2,
                ..Registers::default()
            },
            mode: CpuMode {
                privilege: 0,
                bits: 64,
            },
            system: SystemState {
                selectors: [1, 2, 3, 4, 5, 6],
                ..SystemState::default()
            },
        };
        let mut one = [0; 16];
        one[7] = 0x80;
        one[8..10].copy_from_slice(&0x3FFF_u16.to_le_bytes());
        let mut st = [[0; 16]; 8];
        st[0] = one;
        let floating_point = FloatingPoint {
            st,
            xmm: [[0; 16]; 16],
            // Physical register 6 is ST(0) and 1.0, 7 is zero, the others are empty.
            words: [0x37F, 6 << 11, 0xC0],
            mxcsr: 0x1F80,
        };
        let regs = for_gdb(&view, &floating_point);
        // RAX, RBX, RCX, RDX, RSI, RDI, RBP, RSP, R8: RSP and RBP change places.
        assert_eq!(
            regs.regs[..9],
            [100, 101, 102, 103, 104, 105, 107, 106, 108]
        );
        assert_eq!(
            (regs.segments.cs, regs.segments.es, regs.segments.gs),
            (2, 1, 6)
        );
        assert_eq!(regs.fpu.ftag, 0x4FFF);
        assert_eq!(regs.st[0], one[..10]);
    }
}
