//! Privilege level 3 and back.
//!
//! [`User::call`] enters a function by IRETQ on a stack of its own. The function ends itself with
//! HLT, which privilege level 3 may not: the #GP brings its result home. Where privilege level 0 is
//! emulated, what runs here runs at the processor's own speed; it may not touch ports or devices.

use core::arch::{asm, global_asm};

use super::{Global, descriptors, paging};

/// Large pages opened to user code: the whole image and more.
const USER_PAGES: usize = 8;
const STACK_SIZE: usize = 16 * 1024;

/// Whether interrupts may come while a function runs at privilege level 3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Interrupts {
    /// RFLAGS with nothing but the bit that is always 1.
    Off = 0x002,
    /// RFLAGS with IF as well.
    On = 0x202,
}

static STACK: Global<[u8; STACK_SIZE]> = Global::new([0; STACK_SIZE]);

// user_enter(function, argument, stack, flags): comes back through `user_leave` (which the entry
// point of #GP jumps to for an HLT at privilege level 3) with the result in RAX.
global_asm!(
    "user_enter:",
    "push rbx", "push rbp", "push r12", "push r13", "push r14", "push r15",
    "mov [user_return], rsp",
    "push {user_data}",
    "push rdx",
    "push rcx",
    "push {user_code}",
    "push rdi",
    "mov rdi, rsi",
    "iretq",
    "user_leave:",
    "mov ecx, {kernel_data}",
    "mov ss, ecx",
    "mov rsp, [user_return]",
    "pop r15", "pop r14", "pop r13", "pop r12", "pop rbp", "pop rbx",
    "ret",
    ".pushsection .bss",
    ".balign 8",
    "user_return: .zero 8",
    ".popsection",
    user_data = const descriptors::USER_DATA,
    user_code = const descriptors::USER_CODE,
    kernel_data = const descriptors::KERNEL_DATA,
);

unsafe extern "C" {
    fn user_enter(function: *const (), argument: *mut (), stack: *mut u8, flags: u64) -> u64;
}

/// A way into privilege level 3.
pub struct User {
    stack: &'static mut [u8; STACK_SIZE],
    interrupts: Interrupts,
}

impl User {
    /// Opens the image's memory to privilege level 3.
    #[must_use]
    pub fn new(interrupts: Interrupts) -> Self {
        paging::open_to_user(USER_PAGES);
        Self {
            stack: STACK.take(),
            interrupts,
        }
    }

    /// Runs `function` at privilege level 3 until it [`finish`]es.
    pub fn call<T>(&mut self, function: extern "C" fn(&mut T) -> !, argument: &mut T) -> u64 {
        // As after a CALL: 8 short of a multiple of 16.
        let top = self.stack.as_mut_ptr_range().end.wrapping_sub(8);
        let argument = (&raw mut *argument).cast();
        // SAFETY: the stack is ours and large; the function gets the argument it is written for,
        // sees the same memory as we do and comes back through `user_leave`, which restores stack
        // and saved registers.
        unsafe { user_enter(function as *const (), argument, top, self.interrupts as u64) }
    }
}

/// Ends a function that runs at privilege level 3, with its result.
pub fn finish(result: u64) -> ! {
    // SAFETY: HLT faults at privilege level 3; `user_leave` goes on elsewhere.
    unsafe { asm!("hlt", in("rax") result, options(noreturn, nostack)) };
}
