//! Small machines with random code.

use iced_x86::{Code, Decoder, DecoderOptions, Instruction, OpKind};
use x86_engine::{Segment, State};

/// Bytes of memory: what a case touches, and little enough to compare.
const MEMORY: usize = 256 * 1024;
const GDT: u64 = 0x1000;
const IDT: u64 = 0x2000;
const TSS: u64 = 0x3000;
const HANDLERS: u64 = 0x4000;
const PML4: u64 = 0x8000;
const PDPT: u64 = 0x9000;
const DIRECTORY: u64 = 0xA000;
const TABLE: u64 = 0xB000;
const STACK: u64 = 0x1_8000;
const KERNEL_STACK: u64 = 0x1_C000;
const CODE: u64 = 0x2_0000;
const CODE_BYTES: usize = 0x2000;
const DATA: u64 = 0x3_0000;

const PRESENT: u64 = 1;
const WRITABLE: u64 = 2;
const USER: u64 = 4;

/// What the code is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Bytes.
    Bytes,
    /// Valid instructions, most of them harmless.
    Instructions,
}

/// SplitMix64 (Steele, Lea and Flood 2014).
pub struct Random {
    state: u64,
}

impl Random {
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    pub fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}

/// Memory and a first state.
pub struct Machine {
    pub memory: Vec<u8>,
    pub state: State,
}

impl Machine {
    /// The machine of a seed: 64-bit, compatibility or 32-bit code, at CPL 0 or 3.
    pub fn random(kind: Kind, seed: u64) -> Self {
        let mut random = Random::new(seed);
        let long = random.below(4) != 0;
        let code_64 = long && random.below(4) != 0;
        let user = random.below(2) == 0;
        let mut machine = Self {
            memory: vec![0; MEMORY],
            state: State::default(),
        };
        machine.write_tables(long, &mut random);
        machine.write_descriptors(long);
        machine.write_code(kind, if code_64 { 64 } else { 32 }, &mut random);
        machine.set_state(long, code_64, user, &mut random);
        machine
    }

    fn put(&mut self, at: u64, bytes: &[u8]) {
        let at = at as usize;
        self.memory[at..at + bytes.len()].copy_from_slice(bytes);
    }

    fn put_words(&mut self, at: u64, words: &[u64]) {
        for (index, word) in words.iter().enumerate() {
            self.put(at + index as u64 * 8, &word.to_le_bytes());
        }
    }

    /// The first 256 KiB one to one, some pages read-only or for the supervisor alone; the tables themselves are within reach.
    fn write_tables(&mut self, long: bool, random: &mut Random) {
        let open = PRESENT | WRITABLE | USER;
        if long {
            self.put_words(PML4, &[PDPT | open]);
            self.put_words(PDPT, &[DIRECTORY | open]);
        } else {
            // PAE: the pointers are loaded with CR3.
            self.put_words(PDPT, &[DIRECTORY | PRESENT]);
        }
        self.put_words(DIRECTORY, &[TABLE | open]);
        for page in 0..(MEMORY as u64 / 4096) {
            let mut entry = page << 12 | open;
            if page << 12 >= DATA {
                match random.below(8) {
                    0 => entry &= !WRITABLE,
                    1 => entry &= !USER,
                    2 => entry &= !PRESENT,
                    _ => {}
                }
            }
            self.put_words(TABLE + page * 8, &[entry]);
        }
        // Beyond memory: devices.
        self.put_words(TABLE + 511 * 8, &[0xD000_0000 | open]);
    }

    fn write_descriptors(&mut self, long: bool) {
        let code = if long {
            0x00AF_9B00_0000_FFFF
        } else {
            0x00CF_9B00_0000_FFFF
        };
        let user_code = if long {
            0x00AF_FB00_0000_FFFF
        } else {
            0x00CF_FB00_0000_FFFF
        };
        self.put_words(
            GDT,
            &[
                0,
                code,
                0x00CF_9300_0000_FFFF,
                0x00CF_F300_0000_FFFF,
                user_code,
                0x67 | TSS << 16 | 0x8B << 40,
                0,
                0x00CF_FB00_0000_FFFF,
            ],
        );
        for vector in 0..32 {
            let handler = HANDLERS + vector * 16;
            // A user program may call 3 and 4.
            let kind = if vector == 3 || vector == 4 {
                0xEE00
            } else {
                0x8E00
            };
            let gate = handler & 0xFFFF | 8 << 16 | kind << 32 | (handler & 0xFFFF_0000) << 32;
            if long {
                self.put_words(IDT + vector * 16, &[gate, 0]);
            } else {
                self.put_words(IDT + vector * 8, &[gate]);
            }
            // Skip a byte of what faulted and go on: code becomes other code. With an error code there is one more word.
            let with_code = matches!(vector, 8 | 10..=14 | 17);
            let handler_code: &[u8] = match (long, with_code) {
                // add rsp, 8; inc qword [rsp]; iretq
                (true, true) => &[0x48, 0x83, 0xC4, 8, 0x48, 0xFF, 0x04, 0x24, 0x48, 0xCF],
                (true, false) => &[0x48, 0xFF, 0x04, 0x24, 0x48, 0xCF],
                (false, true) => &[0x83, 0xC4, 4, 0xFF, 0x04, 0x24, 0xCF],
                (false, false) => &[0xFF, 0x04, 0x24, 0xCF],
            };
            self.put(handler, handler_code);
        }
        if long {
            self.put_words(TSS + 4, &[KERNEL_STACK]);
        } else {
            self.put(TSS + 4, &(KERNEL_STACK as u32).to_le_bytes());
            self.put(TSS + 8, &0x10_u32.to_le_bytes());
        }
        self.put(TSS + 0x66, &0x68_u16.to_le_bytes());
    }

    fn write_code(&mut self, kind: Kind, bits: u32, random: &mut Random) {
        let mut code = Vec::with_capacity(CODE_BYTES + 16);
        while code.len() < CODE_BYTES {
            let bytes: Vec<u8> = random
                .next()
                .to_le_bytes()
                .into_iter()
                .chain(random.next().to_le_bytes())
                .collect();
            if kind == Kind::Bytes {
                code.extend_from_slice(&bytes);
                continue;
            }
            let instruction = Decoder::new(bits, &bytes, DecoderOptions::NONE).decode();
            if is_wanted(&instruction, random) {
                code.extend_from_slice(&bytes[..instruction.len()]);
            }
        }
        self.put(CODE, &code[..CODE_BYTES]);
    }

    fn set_state(&mut self, long: bool, code_64: bool, user: bool, random: &mut Random) {
        let state = &mut self.state;
        let level = if user { 3 } else { 0 };
        for general in &mut state.general {
            *general = match random.below(4) {
                0 => random.next(),
                1 => random.below(64),
                _ => DATA + random.below(0x1_0000),
            };
        }
        state.general[4] = STACK;
        state.rip = CODE + random.below(64);
        state.rflags = 2 | random.next() & 0x8D5;
        state.gdtr.base = GDT;
        state.gdtr.limit = 63;
        state.idtr.base = IDT;
        state.idtr.limit = if long { 511 } else { 255 };
        let (code, data) = if user { (0x23, 0x1B) } else { (0x08, 0x10) };
        let width = if code_64 { 0xA000 } else { 0xC000 };
        let code = if long && !code_64 { 0x38 | level } else { code };
        let segment = |selector, access: u16| Segment {
            selector,
            base: 0,
            limit: u32::MAX,
            access: access | level << 5,
        };
        for data_segment in &mut state.segments {
            *data_segment = segment(data, 0xC093);
        }
        state.segments[1] = segment(code, 0x9B | width);
        state.tr = Segment {
            selector: 0x28,
            base: TSS,
            limit: 0x67,
            access: 0x8B,
        };
        state.cr0 |= 1 << 31 | random.below(2) << 16;
        state.cr3 = if long { PML4 } else { PDPT };
        state.cr4 = 1 << 5 | 1 << 9 | 1 << 10;
        state.efer = if long { 0xD01 } else { 0 };
        state.pdpte = if long {
            [0; 4]
        } else {
            [DIRECTORY | PRESENT, 0, 0, 0]
        };
        for word in &mut state.xmm {
            *word = u128::from(random.next()) << 64 | u128::from(random.next());
        }
    }
}

/// Keeps most branches within reach and leaves out what ends a case at once, most of the time.
fn is_wanted(instruction: &Instruction, random: &mut Random) -> bool {
    if instruction.is_invalid() {
        return false;
    }
    let short = matches!(
        instruction.op0_kind(),
        OpKind::NearBranch16 | OpKind::NearBranch32 | OpKind::NearBranch64
    );
    if short {
        return instruction.near_branch_target().wrapping_add(0x40) < 0x100;
    }
    let ends = matches!(instruction.code(), Code::Hlt)
        || instruction.is_jmp_far()
        || instruction.is_call_far()
        || instruction.is_jmp_near_indirect()
        || instruction.is_call_near_indirect()
        || instruction.flow_control() == iced_x86::FlowControl::Return;
    !ends || random.below(50) == 0
}
