//! The real processor, as the oracle of this family's tests: any instruction's bytes in, registers and all flags out.
//!
//! What always holds: the code that is executed is a few instructions of a test's own, which end by running off their end into a `ret`.

use std::{arch::asm, ptr::NonNull};

const PAGE_BYTES: usize = 4096;

/// What an instruction sees and leaves. Index 4, RSP, is neither loaded nor stored.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Registers {
    pub(crate) general: [u64; 16],
    pub(crate) flags: u64,
}

/// Bytes of data that the code can work on.
pub(crate) const DATA_BYTES: usize = 512;
/// Where they lie after the code.
const DATA_OFFSET: usize = PAGE_BYTES + 1024;

/// A page that code can be put into and executed in, and one for its data.
pub(crate) struct Native(NonNull<u8>);

impl Native {
    /// Empty pages below 4 GB, for 32-bit addresses; they are never given back.
    pub(crate) fn new() -> Self {
        let mut result: isize = 9; // mmap
        // SAFETY: a new private mapping disturbs nobody. PROT_READ|WRITE|EXEC, MAP_PRIVATE|ANONYMOUS|32BIT.
        unsafe {
            asm!("syscall", inout("rax") result, in("rdi") 0, in("rsi") 2 * PAGE_BYTES, in("rdx") 7, in("r10") 0x62,
                 in("r8") -1_isize, in("r9") 0, out("rcx") _, out("r11") _);
        }
        assert!(
            result > 0,
            "mmap of a page to execute code in failed: {result}"
        );
        Self(NonNull::new(result as *mut u8).expect("not null"))
    }

    /// Puts `code` at the beginning of the page.
    pub(crate) fn assemble(&mut self, code: &[u8]) {
        assert!(code.len() < PAGE_BYTES);
        // SAFETY: the page is ours and long enough.
        unsafe {
            let to = self.0.as_ptr();
            to.copy_from_nonoverlapping(code.as_ptr(), code.len());
            to.add(code.len()).write(0xC3);
        }
    }

    /// Whether the host lets programs execute 32-bit code: whether Linux' descriptor for it (selector 0x23) is present.
    pub(crate) fn has_32_bit_code() -> bool {
        let rights: u32;
        let found: u8;
        // SAFETY: LAR only looks at a descriptor.
        unsafe {
            asm!("xor {rights:e}, {rights:e}", "lar {rights:e}, {selector:e}", "setz {found}",
                 rights = out(reg) rights, selector = in(reg) 0x23, found = out(reg_byte) found);
        }
        const PRESENT_CODE: u32 = 1 << 15 | 3 << 11;
        found == 1 && rights & PRESENT_CODE == PRESENT_CODE
    }

    /// Puts 32-bit `code`, which touches no memory, into the page, between far jumps there and back.
    pub(crate) fn assemble_32(&mut self, code: &[u8]) {
        const BACK: u32 = 0x80;
        const STACK_POINTER: u32 = 0xC0;
        const CODE: u32 = 0x100;
        let page = self.0.as_ptr() as u32;
        let address = |offset: u32| (page + offset).to_le_bytes();
        let parts: [&[u8]; 5] = [
            // mov [STACK_POINTER], rsp; push 0x23; push CODE; retfq
            &[0x48, 0x89, 0x24, 0x25],
            &address(STACK_POINTER),
            &[0x6A, 0x23, 0x68],
            &address(CODE),
            &[0x48, 0xCB],
        ];
        let there = parts.concat();
        // mov rsp, [STACK_POINTER]
        let back = [&[0x48, 0x8B, 0x24, 0x25][..], &address(STACK_POINTER)].concat();
        // jmp 0x33:BACK
        let code = [code, &[0xEA], &address(BACK), &[0x33, 0]].concat();
        self.assemble(&[0x90; 512]);
        for (offset, bytes) in [(0, there), (BACK, back), (CODE, code)] {
            // SAFETY: the page is ours, and everything lies in its first 512 bytes.
            unsafe {
                self.0
                    .as_ptr()
                    .add(offset as usize)
                    .copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
            }
        }
        // SAFETY: as above. The way back ends with a `ret`.
        unsafe { self.0.as_ptr().add(BACK as usize + 8).write(0xC3) };
    }

    /// Address of the data.
    pub(crate) fn data_address(&self) -> u64 {
        self.0.as_ptr() as u64 + DATA_OFFSET as u64
    }

    /// Puts the data there.
    pub(crate) fn write_data(&mut self, data: &[u8; DATA_BYTES]) {
        // SAFETY: the pages are ours, and the data lies within them.
        unsafe {
            self.0
                .as_ptr()
                .add(DATA_OFFSET)
                .copy_from_nonoverlapping(data.as_ptr(), DATA_BYTES);
        }
    }

    /// What the code made of the data.
    pub(crate) fn read_data(&self) -> [u8; DATA_BYTES] {
        // SAFETY: as above.
        unsafe {
            self.0
                .as_ptr()
                .add(DATA_OFFSET)
                .cast::<[u8; DATA_BYTES]>()
                .read()
        }
    }

    /// Executes what was put into the page.
    pub(crate) fn execute(&self, registers: &mut Registers) {
        // SAFETY: the code is a test's, works on registers and on memory that the test gave it, and leaves RSP alone. RBX and RBP,
        // which cannot be named as clobbered, are saved here; DF is clear afterwards.
        unsafe {
            asm!(
                "push rbx", "push rbp", "push r15", "push r14",
                "push qword ptr [r15+128]", "popfq",
                "mov rax, [r15]", "mov rcx, [r15+8]", "mov rdx, [r15+16]", "mov rbx, [r15+24]",
                "mov rbp, [r15+40]", "mov rsi, [r15+48]", "mov rdi, [r15+56]",
                "mov r8, [r15+64]", "mov r9, [r15+72]", "mov r10, [r15+80]", "mov r11, [r15+88]",
                "mov r12, [r15+96]", "mov r13, [r15+104]", "mov r14, [r15+112]", "mov r15, [r15+120]",
                "call [rsp]",
                "mov [rsp], r15", "mov r15, [rsp+8]",
                "mov [r15], rax", "mov [r15+8], rcx", "mov [r15+16], rdx", "mov [r15+24], rbx",
                "mov [r15+40], rbp", "mov [r15+48], rsi", "mov [r15+56], rdi",
                "mov [r15+64], r8", "mov [r15+72], r9", "mov [r15+80], r10", "mov [r15+88], r11",
                "mov [r15+96], r12", "mov [r15+104], r13", "mov [r15+112], r14",
                "pop qword ptr [r15+120]",
                "pushfq", "pop qword ptr [r15+128]", "cld",
                "pop r15", "pop rbp", "pop rbx",
                inout("r14") self.0.as_ptr() => _,
                inout("r15") std::ptr::from_mut(registers) => _,
                out("rax") _, out("rcx") _, out("rdx") _, out("rsi") _, out("rdi") _,
                out("r8") _, out("r9") _, out("r10") _, out("r11") _, out("r12") _, out("r13") _,
            );
        }
    }
}
