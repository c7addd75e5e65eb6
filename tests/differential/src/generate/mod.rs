//! Random cases: a case is a function of seed and number.
//!
//! | source | cases | |
//! |---|---|---|
//! | single instructions | 10 of 16 | every candidate encoding in turn, any operand form |
//! | sequences | 4 of 16 | two to eight instructions on the same registers and flags |
//! | mutated bytes | 2 of 16 | an instruction with prefixes added or bits changed, as long as iced-x86 knows what it became |

mod address;
mod operands;
mod state;
pub mod values;

use iced_x86::{Code, Decoder, DecoderOptions, Encoder, Instruction, Mnemonic, OpKind, Register};

use crate::{
    case::{CODE_LIMIT, Case, PATCHES, Patch},
    exclusions,
    layout::{CODE, CODE_BYTES, DATA, PAGE},
    random::Random,
};

/// Instructions of the longest sequence.
const LONGEST_SEQUENCE: u64 = 8;
/// Bytes of the longest instruction.
const LONGEST_INSTRUCTION: usize = 15;

/// Makes cases.
pub struct Generator {
    seed: u64,
    candidates: Vec<Code>,
    /// Those that may stand in a sequence.
    straight: Vec<Code>,
}

impl Generator {
    /// A generator for all candidates, or for those that `wanted` accepts.
    #[must_use]
    pub fn new(seed: u64, wanted: impl Fn(Code) -> bool) -> Self {
        let candidates: Vec<Code> = exclusions::candidates()
            .into_iter()
            .filter(|code| wanted(*code))
            .collect();
        let straight = candidates
            .iter()
            .copied()
            .filter(|code| runs_on(*code))
            .collect();
        Self {
            seed,
            candidates,
            straight,
        }
    }

    /// What is generated.
    #[must_use]
    pub fn candidates(&self) -> &[Code] {
        &self.candidates
    }

    /// Case `number`.
    #[must_use]
    pub fn case(&self, number: u64) -> Case {
        let mut random = Random::new(self.seed ^ number.wrapping_mul(0x9E6C_63D0_876A_7A7B));
        random.next();
        let code = self.candidates[(number % self.candidates.len() as u64) as usize];
        loop {
            let case = match random.below(16) {
                0..=9 => single(&mut random, code),
                10..=13 if !self.straight.is_empty() => self.sequence(&mut random),
                _ => mutated(&mut random, code),
            };
            if let Some(case) = case {
                return case;
            }
        }
    }

    /// One instruction of an encoding that need not be a candidate; `None` if its operands are of another kind than any candidate's.
    #[must_use]
    pub fn instruction(seed: u64, code: Code) -> Option<Case> {
        let mut random = Random::new(seed);
        let mut builder = Builder::new(&mut random);
        builder.code_at = CODE + PAGE / 2;
        let (_, bytes) = builder.encoded(code, builder.code_at)?;
        Some(builder.finish(bytes, code))
    }

    fn sequence(&self, random: &mut Random) -> Option<Case> {
        let mut builder = Builder::new(random);
        builder.code_at = code_at(builder.random);
        builder.set_pointers();
        let count = 2 + builder.random.below(LONGEST_SEQUENCE - 1);
        let mut code = Vec::new();
        let mut jumps = Vec::new();
        let mut boundaries = Vec::new();
        let mut main = builder.random.pick(&self.straight);
        for _ in 0..count {
            // Mostly one family, so that its instructions meet each other's results.
            let next = builder.random.pick(&self.straight);
            if builder.random.chance(1, 4) || related(next, main) {
                main = next;
            }
            boundaries.push(code.len());
            let at = builder.code_at + code.len() as u64;
            if let Some((_, bytes)) = builder.encoded(next, at) {
                if code.len() + bytes.len() + LONGEST_INSTRUCTION > CODE_LIMIT {
                    break;
                }
                code.extend(bytes);
            }
            if builder.random.chance(1, 6) {
                // A conditional branch over some of what follows.
                code.extend([0x70 | builder.random.below(16) as u8, 0]);
                jumps.push(code.len());
            }
        }
        boundaries.push(code.len());
        for end in jumps {
            let targets: Vec<usize> = boundaries.iter().copied().filter(|b| *b >= end).collect();
            code[end - 1] = (builder.random.pick(&targets) - end) as u8;
        }
        Some(builder.finish(code, main))
    }
}

/// Whether what follows the instruction is executed, so that it may stand in a sequence.
fn runs_on(code: Code) -> bool {
    use iced_x86::FlowControl;
    let ends_blocks = matches!(
        code.mnemonic(),
        // They store addresses of instructions, which is only allowed for at the end (see `compare`).
        Mnemonic::Fnstenv | Mnemonic::Fnsave | Mnemonic::Fxsave | Mnemonic::Fxsave64
    );
    let approximate = exclusions::APPROXIMATE.contains(&code.mnemonic());
    code.flow_control() == FlowControl::Next
        && !code.op_code().must_be_cpl0()
        && !ends_blocks
        && !approximate
}

/// Whether two encodings belong to one family: the same kind of registers.
fn related(one: Code, other: Code) -> bool {
    state::content(one) == state::content(other)
}

fn single(random: &mut Random, code: Code) -> Option<Case> {
    let mut builder = Builder::new(random);
    builder.code_at = code_at(builder.random);
    let (instruction, bytes) = builder.encoded(code, builder.code_at)?;
    exclusions::allowed(&instruction, builder.code_at).then(|| builder.finish(bytes, code))
}

fn mutated(random: &mut Random, code: Code) -> Option<Case> {
    let mut builder = Builder::new(random);
    builder.code_at = code_at(builder.random);
    let (_, mut bytes) = builder.encoded(code, builder.code_at)?;
    for _ in 0..=builder.random.below(3) {
        mutate(builder.random, &mut bytes);
    }
    let case_at = builder.code_at;
    let mut decoder = Decoder::with_ip(64, &bytes, case_at, DecoderOptions::NONE);
    let mut decoded = 0;
    while decoder.can_decode() {
        let instruction = decoder.decode();
        if !exclusions::allowed(&instruction, case_at) || has_useless_prefix(&bytes, &instruction) {
            return None;
        }
        decoded += 1;
    }
    (decoded > 0).then(|| builder.finish(bytes, code))
}

/// Prefixes that vendors treat differently: an operand size on a near branch (SDM 2A, Jcc and others, against AMD APM 3); a repeat prefix on LOOPE
/// or LOOPNE, which replaces the condition on AMD's processors.
fn has_useless_prefix(bytes: &[u8], instruction: &Instruction) -> bool {
    let branches = !matches!(
        instruction.flow_control(),
        iced_x86::FlowControl::Next | iced_x86::FlowControl::Exception
    );
    branches && bytes.iter().any(|byte| matches!(byte, 0x66 | 0xF2 | 0xF3))
}

fn mutate(random: &mut Random, bytes: &mut Vec<u8>) {
    const PREFIXES: [u8; 12] = [
        0x66, 0x67, 0xF2, 0xF3, 0xF0, 0x2E, 0x36, 0x3E, 0x26, 0x64, 0x65, 0x40,
    ];
    match random.below(4) {
        0 => bytes.insert(0, random.pick(&PREFIXES)),
        1 => bytes.insert(0, 0x40 | random.below(16) as u8),
        2 => {
            let at = random.below(bytes.len() as u64) as usize;
            bytes[at] ^= 1 << random.below(8);
        }
        _ => {
            let at = random.below(bytes.len().min(4) as u64) as usize;
            bytes[at] = random.next() as u8;
        }
    }
}

/// Where code lies: mostly within a page, sometimes across the border of two, or of the last.
fn code_at(random: &mut Random) -> u64 {
    match random.below(32) {
        0 | 1 => CODE + PAGE - 1 - random.below(16),
        2 => CODE + CODE_BYTES - 1 - random.below(16),
        _ => CODE + 0x400 + random.below(0x800),
    }
}

/// A case in the making.
struct Builder<'a> {
    random: &'a mut Random,
    code_at: u64,
    general: [u64; 16],
    /// Bit i: register i has the value that an operand needs.
    assigned: u16,
    /// Bit i: register i is an address that all instructions of a sequence share.
    pointers: u16,
    patches: Vec<Patch>,
    /// String instructions use ESI, EDI and ECX.
    narrow_strings: bool,
}

impl<'a> Builder<'a> {
    fn new(random: &'a mut Random) -> Self {
        let narrow_strings = random.chance(1, 8);
        Self {
            random,
            code_at: 0,
            general: [0; 16],
            assigned: 0,
            pointers: 0,
            patches: Vec::with_capacity(PATCHES),
            narrow_strings,
        }
    }

    fn is_free(&self, register: usize) -> bool {
        self.assigned >> register & 1 == 0
    }

    fn assign(&mut self, register: usize, value: u64) {
        self.general[register] = value;
        self.assigned |= 1 << register;
    }

    /// For a sequence: some registers are addresses in the data pages.
    fn set_pointers(&mut self) {
        const RSP: usize = 4;
        let stack = DATA + 0x800 + (self.random.below(0x1000) & !7);
        self.assign(RSP, stack);
        for register in [3, 6, 7, 12] {
            let value = DATA + 0x800 + (self.random.below(0x1000) & !15);
            self.assign(register, value);
            self.pointers |= 1 << register;
        }
        let count = self.random.below(20);
        self.assign(1, count);
    }

    /// A register for data.
    fn general_register(&mut self) -> usize {
        loop {
            let register = self.random.below(16) as usize;
            let precious =
                self.pointers >> register & 1 != 0 || self.pointers != 0 && register == 4;
            if !precious || self.random.chance(1, 16) {
                return register;
            }
        }
    }

    /// Code that HLTs fill, or that is none at all.
    fn landing(&mut self) -> u64 {
        let own = self.code_at..self.code_at + CODE_LIMIT as u64;
        loop {
            let target = match self.random.below(16) {
                0 => DATA + self.random.below(PAGE),
                1 => self.random.next() & 0x7FFF_FFFF,
                _ => CODE + self.random.below(CODE_BYTES),
            };
            if !own.contains(&target) {
                return target;
            }
        }
    }

    /// Such code within reach of a short branch.
    fn near_landing(&mut self) -> u64 {
        if self.random.chance(1, 2) {
            self.code_at + LONGEST_INSTRUCTION as u64 + self.random.below(100)
        } else {
            self.code_at - 1 - self.random.below(110)
        }
    }

    /// One instruction of this encoding, with what it needs in registers and memory.
    fn encoded(&mut self, code: Code, at: u64) -> Option<(Instruction, Vec<u8>)> {
        for _ in 0..20 {
            let before = (self.general, self.assigned, self.patches.len());
            self.prepare(code);
            let mut instruction = self.operands(code)?;
            self.add_prefixes(&mut instruction);
            self.adjust(&instruction);
            let mut encoder = Encoder::new(64);
            if let Ok(length) = encoder.encode(&instruction, at) {
                instruction.set_len(length);
                instruction.set_ip(at);
                return Some((instruction, encoder.take_buffer()));
            }
            // AH with a REX prefix, or a target out of reach.
            (self.general, self.assigned) = (before.0, before.1);
            self.patches.truncate(before.2);
        }
        None
    }

    fn add_prefixes(&mut self, instruction: &mut Instruction) {
        let info = instruction.op_code();
        let in_memory = instruction.op0_kind() == OpKind::Memory;
        if info.can_use_lock_prefix() && in_memory && self.random.chance(1, 4) {
            instruction.set_has_lock_prefix(true);
        }
        let repeats = info.can_use_rep_prefix() || info.can_use_repne_prefix();
        if repeats && self.random.chance(1, 2) {
            if info.can_use_repne_prefix() && self.random.chance(1, 2) {
                instruction.set_has_repne_prefix(true);
            } else if info.can_use_rep_prefix() {
                instruction.set_has_rep_prefix(true);
            }
        }
        if state::is_string(instruction.mnemonic()) && self.random.chance(1, 10) {
            let segment = self
                .random
                .pick(&[Register::FS, Register::GS, Register::CS]);
            instruction.set_segment_prefix(segment);
        }
    }
}
