//! A case: what a processor starts with; and its outcome: what it ends with.
//!
//! Both have one form in guest memory, which the harness program reads and writes. What always holds: a case is complete, nothing
//! of the one before is left in what it can see.

use crate::layout::{DATA, DATA_BYTES, HLT, USER_CODE, USER_DATA};

/// Bytes of code that a case may have, the HLT behind it included.
pub const CODE_LIMIT: usize = 128;
/// Bytes of a patch.
pub const PATCH_BYTES: usize = 64;
/// Patches of a case.
pub const PATCHES: usize = 2;

// Offsets in an input.
/// FXRSTOR's image.
pub const FLOAT: usize = 0;
/// Sixteen general registers.
pub const GENERAL: usize = 0x200;
/// What IRETQ takes: RIP, CS, RFLAGS, RSP, SS.
pub const FRAME: usize = 0x280;
/// Where the code goes, as the harness sees it.
pub const CODE_AT: usize = 0x2A8;
/// The code.
pub const CODE_BLOCK: usize = 0x2C0;
/// Patches: address and bytes each.
pub const PATCH: usize = CODE_BLOCK + CODE_LIMIT;
/// Bytes of one patch with its address.
pub const PATCH_STRIDE: usize = 8 + PATCH_BYTES;
/// Bytes of an input.
pub const INPUT_BYTES: usize = 0x400;

// Offsets in an outcome; FLOAT and GENERAL as above.
/// Error code, RIP, CS, RFLAGS, RSP, SS.
pub const FAULT: usize = 0x280;
/// Vector.
pub const VECTOR: usize = 0x2B0;
/// CR2.
pub const FAULT_ADDRESS: usize = 0x2B8;
/// Both writable data pages.
pub const MEMORY: usize = 0x400;
/// Bytes of an outcome.
pub const OUTPUT_BYTES: usize = MEMORY + DATA_BYTES as usize;

/// RSP's number.
pub const RSP: usize = 4;

/// x87, MMX and SSE registers, as FXSAVE orders them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Float {
    /// XMM0 to XMM15.
    pub xmm: [u128; 16],
    /// MXCSR.
    pub mxcsr: u32,
    /// x87 control word.
    pub control: u16,
    /// x87 status word.
    pub status: u16,
    /// Bit i: physical register i is in use.
    pub in_use: u8,
    /// ST(0) to ST(7), ten bytes each.
    pub st: [[u8; 10]; 8],
}

impl Default for Float {
    /// After FNINIT, with all SSE exceptions masked.
    fn default() -> Self {
        Self {
            xmm: [0; 16],
            mxcsr: 0x1F80,
            control: 0x37F,
            status: 0,
            in_use: 0,
            st: [[0; 10]; 8],
        }
    }
}

impl Float {
    /// As FXSAVE writes it, without the last instruction's addresses.
    fn image(&self) -> [u8; 512] {
        let mut image = [0; 512];
        image[0..2].copy_from_slice(&self.control.to_le_bytes());
        image[2..4].copy_from_slice(&self.status.to_le_bytes());
        image[4] = self.in_use;
        image[24..28].copy_from_slice(&self.mxcsr.to_le_bytes());
        for (index, register) in self.st.iter().enumerate() {
            image[32 + index * 16..][..10].copy_from_slice(register);
        }
        for (index, register) in self.xmm.iter().enumerate() {
            image[160 + index * 16..][..16].copy_from_slice(&register.to_le_bytes());
        }
        image
    }

    fn from_image(image: &[u8]) -> Self {
        let word = |at: usize| u16::from_le_bytes([image[at], image[at + 1]]);
        let mut float = Self {
            control: word(0),
            status: word(2),
            in_use: image[4],
            mxcsr: u32::from(word(24)) | u32::from(word(26)) << 16,
            ..Self::default()
        };
        for (index, register) in float.st.iter_mut().enumerate() {
            register.copy_from_slice(&image[32 + index * 16..][..10]);
        }
        for (index, register) in float.xmm.iter_mut().enumerate() {
            let bytes = &image[160 + index * 16..][..16];
            *register = u128::from_le_bytes(bytes.try_into().expect("sixteen bytes"));
        }
        float
    }
}

/// Bytes that differ from the pristine data pages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Patch {
    /// Linear address in the writable data pages.
    pub at: u64,
    /// What is there.
    pub bytes: [u8; PATCH_BYTES],
}

/// What both processors start with, at CPL 3.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// The instructions.
    pub code: Vec<u8>,
    /// The linear address of the first.
    pub code_at: u64,
    /// RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8 to R15.
    pub general: [u64; 16],
    /// RFLAGS.
    pub rflags: u64,
    /// The other registers.
    pub float: Float,
    /// Memory.
    pub patches: Vec<Patch>,
}

impl Case {
    /// The code, and HLT behind it to the end of the block.
    #[must_use]
    pub fn code_block(&self) -> [u8; CODE_LIMIT] {
        let mut block = [HLT; CODE_LIMIT];
        block[..self.code.len()].copy_from_slice(&self.code);
        block
    }

    /// The case as the harness reads it.
    ///
    /// # Panics
    /// If the code is too long or there are too many patches.
    #[must_use]
    pub fn input(&self) -> [u8; INPUT_BYTES] {
        assert!(self.code.len() < CODE_LIMIT && self.patches.len() <= PATCHES);
        let mut input = [0; INPUT_BYTES];
        input[FLOAT..FLOAT + 512].copy_from_slice(&self.float.image());
        let mut put = |at: usize, value: u64| {
            input[at..at + 8].copy_from_slice(&value.to_le_bytes());
        };
        for (index, value) in self.general.iter().enumerate() {
            put(GENERAL + index * 8, *value);
        }
        let frame = [
            self.code_at,
            u64::from(USER_CODE),
            self.rflags,
            self.general[RSP],
            u64::from(USER_DATA),
        ];
        for (index, value) in frame.into_iter().enumerate() {
            put(FRAME + index * 8, value);
        }
        put(CODE_AT, crate::program::code_alias(self.code_at));
        for index in 0..PATCHES {
            // A patch that is not there writes what is there already.
            let at = self.patches.get(index).map_or(DATA, |patch| patch.at);
            put(PATCH + index * PATCH_STRIDE, at);
        }
        input[CODE_BLOCK..CODE_BLOCK + CODE_LIMIT].copy_from_slice(&self.code_block());
        for index in 0..PATCHES {
            let to = &mut input[PATCH + index * PATCH_STRIDE + 8..][..PATCH_BYTES];
            match self.patches.get(index) {
                Some(patch) => to.copy_from_slice(&patch.bytes),
                None => to.copy_from_slice(&self.memory()[..PATCH_BYTES]),
            }
        }
        input
    }

    /// The writable data pages at the beginning.
    #[must_use]
    pub fn memory(&self) -> Vec<u8> {
        let mut memory = PRISTINE.with(Clone::clone);
        for patch in &self.patches {
            let at = (patch.at - DATA) as usize;
            memory[at..at + PATCH_BYTES].copy_from_slice(&patch.bytes);
        }
        memory
    }
}

thread_local! {
    static PRISTINE: Vec<u8> = crate::layout::pristine();
}

/// What a processor ends a case with: every case ends by an exception, at the latest by the HLT behind its code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The exception.
    pub vector: u8,
    /// Its error code; 0 if it has none.
    pub error_code: u64,
    /// The linear address that faulted; 0 unless it is a page fault.
    pub fault_address: u64,
    /// The instruction pointer that was pushed.
    pub rip: u64,
    /// CS that was pushed.
    pub cs: u64,
    /// RFLAGS that was pushed.
    pub rflags: u64,
    /// SS that was pushed.
    pub ss: u64,
    /// General registers, with the RSP that was pushed.
    pub general: [u64; 16],
    /// The other registers.
    pub float: Float,
    /// The writable data pages.
    pub memory: Vec<u8>,
}

impl Outcome {
    /// From the form in guest memory.
    ///
    /// # Panics
    /// If `bytes` is shorter than an outcome.
    #[must_use]
    pub fn from_output(bytes: &[u8]) -> Self {
        let word =
            |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
        let mut general = [0; 16];
        for (index, register) in general.iter_mut().enumerate() {
            *register = word(GENERAL + index * 8);
        }
        let frame: [u64; 6] = std::array::from_fn(|index| word(FAULT + index * 8));
        Self::new(
            word(VECTOR) as u8,
            word(FAULT_ADDRESS),
            frame,
            general,
            Float::from_image(&bytes[FLOAT..FLOAT + 512]),
            bytes[MEMORY..OUTPUT_BYTES].to_vec(),
        )
    }

    /// From its parts; what `vector` does not define is taken out.
    #[must_use]
    pub fn new(
        vector: u8,
        fault_address: u64,
        frame: [u64; 6],
        mut general: [u64; 16],
        float: Float,
        memory: Vec<u8>,
    ) -> Self {
        const PAGE_FAULT: u8 = 14;
        let [error_code, rip, cs, rflags, rsp, ss] = frame;
        general[RSP] = rsp;
        Self {
            vector,
            error_code: if has_error_code(vector) {
                error_code
            } else {
                0
            },
            fault_address: if vector == PAGE_FAULT {
                fault_address
            } else {
                0
            },
            rip,
            cs,
            rflags,
            ss,
            general,
            float,
            memory,
        }
    }
}

/// SDM 3A table 6-1.
fn has_error_code(vector: u8) -> bool {
    matches!(vector, 8 | 10..=14 | 17 | 21)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_image_of_the_registers_can_be_read_back() {
        let mut float = Float {
            mxcsr: 0x1F80,
            control: 0x27F,
            status: 0x3800,
            in_use: 0x81,
            ..Float::default()
        };
        float.xmm[15] = 0x0123_4567_89AB_CDEF_0011_2233_4455_6677;
        float.st[7] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10];
        assert_eq!(Float::from_image(&float.image()), float);
    }
}
