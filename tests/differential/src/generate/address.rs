//! Addresses, and the forms in which an operand can say them.

use iced_x86::{Instruction, OpKind, Register};

use super::{Builder, values};
use crate::{
    case::{PATCH_BYTES, PATCHES, Patch},
    layout::{CODE, CODE_BYTES, DATA, DATA_BYTES, FS_BASE, GS_BASE, PAGE, READ_ONLY, SUPERVISOR},
};

const CANONICAL_EDGE: u64 = 0x8000_0000_0000;

impl Builder<'_> {
    /// An address for an access of `bytes` bytes: mostly in the writable pages, sometimes at every edge there is.
    pub(super) fn target(&mut self, bytes: u64) -> u64 {
        let random = &mut *self.random;
        let bytes = bytes.clamp(1, 1024);
        // Up to 15 bytes before `edge`, so that the access may reach over it.
        let across = |edge: u64, random: &mut crate::random::Random| {
            edge.wrapping_sub(random.below(bytes + 8))
        };
        let inside = DATA + random.below(DATA_BYTES - 2 * bytes);
        match random.below(100) {
            0..=59 => inside & !15,
            60..=69 => inside & !7,
            70..=79 => inside,
            80..=84 => across(DATA + PAGE, random),
            85..=86 => across(READ_ONLY, random),
            87..=88 => READ_ONLY + (random.below(PAGE / 2) & !15),
            89 => across(SUPERVISOR, random),
            90..=91 => SUPERVISOR + random.below(PAGE / 2),
            92 => across(SUPERVISOR + PAGE, random),
            93..=94 => across(DATA, random),
            95 => across(CANONICAL_EDGE, random),
            // The first byte beyond is the host's own on kvm-pvm, which shows in the error code.
            96 => CANONICAL_EDGE.wrapping_neg() - bytes - random.below(8),
            97 => random.next(),
            98 => random.pick(&[0, 8, u64::MAX, u64::MAX - 15]),
            _ => CODE + random.below(CODE_BYTES),
        }
    }

    /// An address for the stack: most instructions are more interesting if they do not fault.
    pub(super) fn stack(&mut self) -> u64 {
        match self.random.below(20) {
            0 => self.target(8),
            1 => DATA + 0x800 + self.random.below(0x800),
            _ => DATA + 0x400 + (self.random.below(0x1800) & !7),
        }
    }

    /// Puts bytes at an address, if it can be written and there is still a patch left.
    pub(super) fn patch(&mut self, at: u64, bytes: &[u8]) -> bool {
        let end = DATA + DATA_BYTES - PATCH_BYTES as u64;
        let from = at.clamp(DATA, end);
        let skip = (at.wrapping_sub(from)) as usize;
        if at < DATA || skip + bytes.len() > PATCH_BYTES || self.patches.len() == PATCHES {
            return false;
        }
        let mut content = [0; PATCH_BYTES];
        for byte in &mut content {
            *byte = self.random.next() as u8;
        }
        content[skip..skip + bytes.len()].copy_from_slice(bytes);
        self.patches.push(Patch {
            at: from,
            bytes: content,
        });
        true
    }

    /// Makes operand `operand` a memory operand at `target`, in a random form. Registers get the values that this needs.
    pub(super) fn set_memory(&mut self, instruction: &mut Instruction, operand: u32, target: u64) {
        instruction.set_op_kind(operand, OpKind::Memory);
        let is_low = target < 1 << 31;
        match self.random.below(16) {
            0 if is_low && self.pointers == 0 => set_absolute(instruction, target),
            1 | 2 if is_low && self.pointers == 0 => {
                instruction.set_memory_base(Register::RIP);
                instruction.set_memory_displ_size(8);
                instruction.set_memory_displacement64(target);
            }
            3 if is_low => self.set_index_only(instruction, target),
            4 | 5 => self.set_based(instruction, target, 8, true),
            6 if is_low => {
                let indexed = self.random.chance(1, 2);
                self.set_based(instruction, target, 4, indexed);
            }
            7 => {
                let (segment, base) = self
                    .random
                    .pick(&[(Register::FS, FS_BASE), (Register::GS, GS_BASE)]);
                instruction.set_segment_prefix(segment);
                self.set_based(instruction, target.wrapping_sub(base), 8, false);
            }
            _ => self.set_based(instruction, target, 8, false),
        }
    }

    /// No base: scaled index and displacement.
    fn set_index_only(&mut self, instruction: &mut Instruction, target: u64) {
        let index = self.index_register();
        let scale = self.random.pick(&[1, 2, 4, 8]);
        if self.is_free(index) {
            let value = self.random.below(0x1000);
            self.assign(index, value);
        }
        let scaled = self.general[index].wrapping_mul(u64::from(scale));
        let displacement = target.wrapping_sub(scaled);
        if i64::from(displacement as i32) as u64 != displacement {
            return set_absolute(instruction, target);
        }
        instruction.set_memory_index(Register::RAX + index as u32);
        instruction.set_memory_index_scale(scale);
        instruction.set_memory_displ_size(8);
        instruction.set_memory_displacement64(displacement);
    }

    /// Base, perhaps scaled index, perhaps displacement.
    fn set_based(&mut self, instruction: &mut Instruction, target: u64, size: u32, indexed: bool) {
        let first = if size == 8 {
            Register::RAX
        } else {
            Register::EAX
        };
        let base = self.base_register();
        let mut rest = target;
        if indexed {
            let index = self.index_register();
            let scale = self.random.pick(&[1, 2, 4, 8]);
            if self.is_free(index) && index != base {
                let value = if self.random.chance(1, 2) {
                    self.random.below(64)
                } else {
                    values::integer(self.random)
                };
                self.assign(index, value);
            }
            if index != base {
                instruction.set_memory_index(first + index as u32);
                instruction.set_memory_index_scale(scale);
                rest = rest.wrapping_sub(self.general[index].wrapping_mul(u64::from(scale)));
            }
        }
        instruction.set_memory_base(first + base as u32);
        let displacement = self.displacement(base, rest);
        if displacement != 0 || self.random.chance(1, 8) {
            let wide = size == 8 || self.random.chance(1, 2);
            let displacement_size = if self.random.chance(1, 3) && wide {
                size
            } else {
                1
            };
            instruction.set_memory_displ_size(displacement_size);
            let kept = if size == 8 {
                displacement
            } else {
                displacement & 0xFFFF_FFFF
            };
            instruction.set_memory_displacement64(kept);
        }
        if self.is_free(base) {
            let mut value = rest.wrapping_sub(displacement);
            if size == 4 {
                value =
                    value & 0xFFFF_FFFF | self.random.pick(&[0, 0xFFFF_FFFF, 0x1234_5678]) << 32;
            }
            self.assign(base, value);
        }
    }

    fn displacement(&mut self, base: usize, rest: u64) -> u64 {
        if !self.is_free(base) {
            let needed = rest.wrapping_sub(self.general[base]);
            // A fixed base that is too far away: let it point where it does.
            return if i64::from(needed as i32) as u64 == needed {
                needed
            } else {
                0
            };
        }
        match self.random.below(4) {
            0 => 0,
            1 | 2 => i64::from(self.random.next() as i8) as u64,
            _ => i64::from(self.random.next() as i32) as u64,
        }
    }

    /// Any register but RSP, which cannot be scaled.
    fn index_register(&mut self) -> usize {
        self.random
            .pick(&[0, 1, 2, 3, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15])
    }

    fn base_register(&mut self) -> usize {
        if self.pointers == 0 {
            return self.random.below(16) as usize;
        }
        let pointers: Vec<usize> = (0..16)
            .filter(|register| self.pointers >> register & 1 != 0)
            .collect();
        self.random.pick(&pointers)
    }
}

fn set_absolute(instruction: &mut Instruction, target: u64) {
    instruction.set_memory_displ_size(8);
    instruction.set_memory_displacement64(target);
}
