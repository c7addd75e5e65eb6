//! Registers, flags and memory that suit an instruction.

use iced_x86::{Code, Instruction, MemorySize, Mnemonic, OpKind};

use super::{
    Builder,
    values::{self, Content, sixteen},
};
use crate::{
    case::{Case, Float, PATCH_BYTES},
    layout::{DATA, RFLAGS, USER_CODE, USER_DATA},
    random::Random,
};

const RAX: usize = 0;
const RCX: usize = 1;
const RDX: usize = 2;
const RBX: usize = 3;
const RSP: usize = 4;
const RBP: usize = 5;
const RSI: usize = 6;
const RDI: usize = 7;

/// The arithmetic flags and DF.
const COMMON_FLAGS: u64 = 0xCD5;
const TF: u64 = 1 << 8;
const NT: u64 = 1 << 14;
const AC: u64 = 1 << 18;
const ID: u64 = 1 << 21;

/// Whether it is a string instruction.
pub(super) fn is_string(mnemonic: Mnemonic) -> bool {
    matches!(
        mnemonic,
        Mnemonic::Movsb
            | Mnemonic::Movsw
            | Mnemonic::Movsd
            | Mnemonic::Movsq
            | Mnemonic::Cmpsb
            | Mnemonic::Cmpsw
            | Mnemonic::Cmpsd
            | Mnemonic::Cmpsq
            | Mnemonic::Stosb
            | Mnemonic::Stosw
            | Mnemonic::Stosd
            | Mnemonic::Stosq
            | Mnemonic::Lodsb
            | Mnemonic::Lodsw
            | Mnemonic::Lodsd
            | Mnemonic::Lodsq
            | Mnemonic::Scasb
            | Mnemonic::Scasw
            | Mnemonic::Scasd
            | Mnemonic::Scasq
            | Mnemonic::Insb
            | Mnemonic::Insw
            | Mnemonic::Insd
            | Mnemonic::Outsb
            | Mnemonic::Outsw
            | Mnemonic::Outsd
    )
}

/// What the registers and memory of such an instruction should hold.
pub(super) fn content(code: Code) -> Content {
    match code.op_code().memory_size() {
        MemorySize::Float32 | MemorySize::Packed64_Float32 | MemorySize::Packed128_Float32 => {
            Content::Single
        }
        MemorySize::Float64 | MemorySize::Packed128_Float64 => Content::Double,
        MemorySize::Float80 => Content::Extended,
        MemorySize::Bcd => Content::Decimal,
        _ => match code.mnemonic() {
            Mnemonic::Pcmpestri
            | Mnemonic::Pcmpestrm
            | Mnemonic::Pcmpistri
            | Mnemonic::Pcmpistrm
            | Mnemonic::Pcmpestri64
            | Mnemonic::Pcmpestrm64 => Content::Text,
            _ if is_x87(code) => Content::Extended,
            _ => Content::Integer,
        },
    }
}

fn is_x87(code: Code) -> bool {
    code.cpuid_features().iter().any(|feature| {
        matches!(
            feature,
            iced_x86::CpuidFeature::FPU
                | iced_x86::CpuidFeature::FPU287
                | iced_x86::CpuidFeature::FPU387
        )
    })
}

impl Builder<'_> {
    /// Registers that an instruction uses without naming them.
    pub(super) fn prepare(&mut self, code: Code) {
        let mnemonic = code.mnemonic();
        if self.is_free(RSP) {
            let stack = self.stack();
            self.assign(RSP, stack);
        }
        if is_string(mnemonic) {
            self.prepare_string(code);
        }
        match mnemonic {
            Mnemonic::Leave | Mnemonic::Enter if self.is_free(RBP) => {
                let stack = self.stack();
                self.assign(RBP, stack);
            }
            Mnemonic::Xlatb if self.is_free(RBX) => {
                let target = self.target(1).wrapping_sub(self.random.below(256));
                self.assign(RBX, target);
            }
            Mnemonic::Maskmovq | Mnemonic::Maskmovdqu if self.is_free(RDI) => {
                let target = self.target(16);
                self.assign(RDI, target);
            }
            Mnemonic::Div | Mnemonic::Idiv => self.prepare_division(),
            Mnemonic::Pcmpestri
            | Mnemonic::Pcmpestrm
            | Mnemonic::Pcmpestri64
            | Mnemonic::Pcmpestrm64 => {
                for register in [RAX, RDX] {
                    if self.random.chance(3, 4) && self.is_free(register) {
                        let length = self
                            .random
                            .below(20)
                            .wrapping_sub(self.random.below(2) * 16);
                        self.assign(register, length);
                    }
                }
            }
            Mnemonic::Loop
            | Mnemonic::Loope
            | Mnemonic::Loopne
            | Mnemonic::Jrcxz
            | Mnemonic::Jecxz
                if self.is_free(RCX) =>
            {
                let count = self
                    .random
                    .pick(&[0, 1, 2, 1 << 32, u64::MAX, 0x1_0000_0001]);
                self.assign(RCX, count);
            }
            Mnemonic::Ret => {
                let target = self.landing();
                self.patch(self.general[RSP], &target.to_le_bytes());
            }
            Mnemonic::Iretq => self.prepare_return(),
            _ => {}
        }
    }

    fn prepare_string(&mut self, code: Code) {
        let bytes = code.op_code().memory_size().size() as u64;
        for register in [RSI, RDI] {
            if self.is_free(register) {
                let mut target = self.target(bytes * 4);
                if self.narrow_strings {
                    target |= self.random.pick(&[0, 1 << 32, 0xFFFF_FFFF << 32]);
                }
                self.assign(register, target);
            }
        }
        if self.is_free(RCX) {
            let count = if self.random.chance(7, 8) {
                self.random.below(20)
            } else {
                self.random.next()
            };
            self.assign(RCX, count);
        }
    }

    /// Dividends that often fit.
    fn prepare_division(&mut self) {
        if self.is_free(RDX) && self.random.chance(2, 3) {
            let low = values::integer(self.random);
            let high = match self.random.below(3) {
                0 => 0,
                1 => (low as i64 >> 63) as u64,
                _ => values::integer(self.random) >> self.random.below(64),
            };
            if self.is_free(RAX) {
                self.assign(RAX, low);
            }
            self.assign(RDX, high);
        }
    }

    /// IRETQ: a frame with the selectors that both processors have.
    fn prepare_return(&mut self) {
        let stack = DATA + 0x800 + (self.random.below(0x1000) & !7);
        let target = self.landing();
        let frame = [
            target,
            u64::from(USER_CODE),
            flags(self.random) | self.random.pick(&[0, 1 << 16, 3 << 12]),
            self.random.next(),
            u64::from(USER_DATA),
        ];
        let bytes: Vec<u8> = frame.iter().flat_map(|word| word.to_le_bytes()).collect();
        if self.patch(stack, &bytes) {
            self.assign(RSP, stack);
        }
    }

    /// What memory holds where the instruction reads.
    pub(super) fn memory_content(&mut self, code: Code) -> Vec<u8> {
        let random = &mut *self.random;
        match code.mnemonic() {
            Mnemonic::Jmp | Mnemonic::Call => return self.landing().to_le_bytes().to_vec(),
            Mnemonic::Ldmxcsr => return mxcsr(random).to_le_bytes().to_vec(),
            Mnemonic::Fxrstor | Mnemonic::Fxrstor64 => {
                let mut image = vec![0; 32];
                for byte in &mut image {
                    *byte = random.next() as u8;
                }
                image[24..28].copy_from_slice(&mxcsr(random).to_le_bytes());
                return image;
            }
            Mnemonic::Cmpxchg8b => {
                let pair = (self.general[RDX] << 32) | (self.general[RAX] & 0xFFFF_FFFF);
                return self.sometimes(pair.to_le_bytes().to_vec());
            }
            Mnemonic::Cmpxchg16b => {
                let mut pair = self.general[RAX].to_le_bytes().to_vec();
                pair.extend(self.general[RDX].to_le_bytes());
                return self.sometimes(pair);
            }
            Mnemonic::Cmpxchg => {
                let bytes = self.general[RAX].to_le_bytes().to_vec();
                return self.sometimes(bytes);
            }
            Mnemonic::Fild => return values::integer(random).to_le_bytes().to_vec(),
            _ => {}
        }
        let kind = match content(code) {
            Content::Integer if is_x87(code) => Content::Extended,
            kind => kind,
        };
        sixteen(random, kind).to_vec()
    }

    fn sometimes(&mut self, bytes: Vec<u8>) -> Vec<u8> {
        if self.random.chance(1, 2) {
            bytes
        } else {
            sixteen(self.random, Content::Integer).to_vec()
        }
    }

    /// After the operands are known.
    pub(super) fn adjust(&mut self, instruction: &Instruction) {
        let bit_test = matches!(
            instruction.mnemonic(),
            Mnemonic::Bt | Mnemonic::Bts | Mnemonic::Btr | Mnemonic::Btc
        );
        if bit_test
            && instruction.op0_kind() == OpKind::Memory
            && instruction.op1_kind() == OpKind::Register
        {
            let register = instruction.op1_register().full_register().number();
            if self.is_free(register) && self.random.chance(3, 4) {
                let offset = self.random.below(0x4000).wrapping_sub(0x2000);
                self.assign(register, offset);
            }
        }
        let indirect = matches!(instruction.mnemonic(), Mnemonic::Jmp | Mnemonic::Call)
            && instruction.op0_kind() == OpKind::Register;
        if indirect {
            let target = self.landing();
            self.assign(instruction.op0_register().full_register().number(), target);
        }
    }

    /// Gives everything that is still free a value.
    pub(super) fn finish(mut self, code: Vec<u8>, main: Code) -> Case {
        for register in 0..16 {
            if self.is_free(register) {
                self.general[register] = values::integer(self.random);
            }
        }
        let kind = content(main);
        if self.patches.is_empty() && self.random.chance(1, 2) {
            let at = DATA + 0x400 + (self.random.below(0x1800) & !15);
            let bytes: Vec<u8> = (0..PATCH_BYTES / 16)
                .flat_map(|_| sixteen(self.random, kind))
                .collect();
            self.patch(at, &bytes);
        }
        Case {
            code,
            code_at: self.code_at,
            general: self.general,
            rflags: flags(self.random),
            float: float(self.random, kind, main),
            patches: self.patches,
        }
    }
}

/// RFLAGS: the arithmetic ones at random; the others now and then.
fn flags(random: &mut Random) -> u64 {
    let mut flags = RFLAGS | random.next() & COMMON_FLAGS & random.pick(&[!0, !0, !0x400, !0x400]);
    for (flag, one_in) in [(AC, 24), (NT, 32), (ID, 8), (TF, 48)] {
        if random.chance(1, one_in) {
            flags |= flag;
        }
    }
    flags
}

/// MXCSR: mostly all masked, with any rounding, FTZ and DAZ.
fn mxcsr(random: &mut Random) -> u32 {
    let value = random.next() as u32;
    match random.below(8) {
        0 => 0x1F80,
        1..=4 => 0x1F80 | value & 0xE040,
        5 => 0x1F80 | value & 0xE07F,
        6 => value & 0xFFC0,
        _ => value & 0xFFFF,
    }
}

fn float(random: &mut Random, kind: Content, main: Code) -> Float {
    let mut float = Float {
        mxcsr: mxcsr(random),
        ..Float::default()
    };
    let usual = match kind {
        Content::Extended | Content::Decimal => random.pick(&[Content::Single, Content::Double]),
        kind => kind,
    };
    for register in &mut float.xmm {
        let content = if random.chance(7, 8) {
            usual
        } else {
            random.pick(&[Content::Integer, Content::Single, Content::Double])
        };
        *register = u128::from_le_bytes(sixteen(random, content));
    }
    for register in &mut float.st {
        *register = values::extended(random);
    }
    x87_words(random, &mut float, main);
    float
}

/// Control, status and tags.
fn x87_words(random: &mut Random, float: &mut Float, main: Code) {
    let any = random.next() as u16;
    float.control = match random.below(8) {
        0..=2 => 0x37F,
        3..=5 => 0x37F & !0xF00 | any & 0xF00,
        _ => any & 0x1F3F | 0x40,
    };
    // Control words that software writes have bit 6 set; bits 7 and 13 to 15 read as zero.
    let top = random.next() as u16 & 0x3800;
    let conditions = random.next() as u16 & 0x4700;
    let pending = if random.chance(1, 8) || !is_x87(main) && random.chance(1, 2) {
        random.next() as u16 & 0x7F
    } else {
        0
    };
    float.status = top | conditions | pending;
    if float.status & !float.control & 0x3F != 0 {
        float.status |= 0x8080;
    }
    float.in_use = match random.below(4) {
        0 => random.next() as u8,
        1 => 0,
        _ => 0xFF,
    };
}
