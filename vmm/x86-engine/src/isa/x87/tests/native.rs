//! Runs a piece of code on the real processor.

use std::{
    arch::asm,
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::test_support::{CODE, DATA};

/// Bytes of code and of data that a run has.
pub(super) const PAGE: usize = 4096;
const RET: u8 = 0xC3;

/// What a run begins and ends with, besides memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Registers {
    pub(super) rax: u64,
    pub(super) rdx: u64,
    pub(super) rsi: u64,
    pub(super) rdi: u64,
    /// The arithmetic flags alone.
    pub(super) flags: u64,
}

/// A page for code at [`CODE`] and one for data at [`DATA`], where the software processor has them too.
pub(super) struct Pages(());

static PAGES: Mutex<Option<Pages>> = Mutex::new(None);

/// The pages; one run at a time.
pub(super) fn pages() -> MutexGuard<'static, Option<Pages>> {
    let mut pages = PAGES.lock().unwrap_or_else(PoisonError::into_inner);
    pages.get_or_insert_with(|| {
        map(CODE);
        map(DATA);
        Pages(())
    });
    pages
}

/// Maps a page that can be read, written and executed.
fn map(address: u64) {
    const MMAP: u64 = 9;
    const READ_WRITE_EXECUTE: u64 = 7;
    const PRIVATE_ANONYMOUS_FIXED_NOREPLACE: u64 = 0x2 | 0x20 | 0x10_0000;
    let result: u64;
    // SAFETY: a new mapping that replaces no other; the registers that a system call changes are declared.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") MMAP => result,
            in("rdi") address,
            in("rsi") PAGE,
            in("rdx") READ_WRITE_EXECUTE,
            in("r10") PRIVATE_ANONYMOUS_FIXED_NOREPLACE,
            in("r8") -1_i64,
            in("r9") 0,
            lateout("rcx") _,
            lateout("r11") _,
        );
    }
    assert_eq!(result, address, "the page at {address:#x} cannot be mapped");
}

#[repr(C, align(64))]
struct SaveArea([u8; 512]);

impl Pages {
    /// Runs `code`, which must neither trap nor touch anything but x87, XMM, the data page and the [`Registers`].
    pub(super) fn run(
        &mut self,
        code: &[u8],
        data: &mut [u8; PAGE],
        mut registers: Registers,
    ) -> Registers {
        assert!(code.len() < PAGE);
        registers.flags |= 0x202;
        let mut saved = SaveArea([0; 512]);
        // SAFETY: both pages are mapped for ever and only used here, one run at a time (`&mut self`). The code ends in RET, and x87 and SSE
        // are saved before it and restored after it.
        unsafe {
            std::ptr::copy_nonoverlapping(code.as_ptr(), CODE as *mut u8, code.len());
            (CODE as *mut u8).add(code.len()).write(RET);
            std::ptr::copy_nonoverlapping(data.as_ptr(), DATA as *mut u8, PAGE);
            asm!(
                "fxsave64 [{saved}]",
                "push {flags}",
                "popfq",
                "call {code}",
                "pushfq",
                "pop {flags}",
                "fxrstor64 [{saved}]",
                saved = in(reg) &raw mut saved,
                flags = inout(reg) registers.flags,
                code = in(reg) CODE,
                inout("rax") registers.rax,
                inout("rdx") registers.rdx,
                inout("rsi") registers.rsi,
                inout("rdi") registers.rdi,
            );
            std::ptr::copy_nonoverlapping(DATA as *const u8, data.as_mut_ptr(), PAGE);
        }
        registers.flags &= crate::flags::ARITHMETIC;
        registers
    }
}
