//! Privilege level 3 and back.
//!
//! [`call`] enters a function by IRETQ on a stack of its own. The function ends itself with HLT,
//! which privilege level 3 may not: the #GP brings its result home.

use core::arch::{asm, global_asm};

use super::exceptions::{self, Frame};
use super::{Global, descriptors, paging};

/// #GP.
const GENERAL_PROTECTION: u64 = 13;
/// Large pages opened to user code: the whole image and more.
const USER_PAGES: usize = 8;
const STACK_SIZE: usize = 16 * 1024;
/// RFLAGS: interrupts on, and the bit that is always 1.
const INTERRUPTS_ON: u64 = 0x202;

static STACK: Global<[u8; STACK_SIZE]> = Global::new([0; STACK_SIZE]);

// user_enter(function, argument, stack): the way back is `user_leave` with the result in RAX.
global_asm!(
    "user_enter:",
    "push rbx", "push rbp", "push r12", "push r13", "push r14", "push r15",
    "mov [user_return], rsp",
    "push {data}",
    "push rdx",
    "push {flags}",
    "push {code}",
    "push rdi",
    "mov rdi, rsi",
    "iretq",
    "user_leave:",
    "pop r15", "pop r14", "pop r13", "pop r12", "pop rbp", "pop rbx",
    "ret",
    ".pushsection .bss",
    ".balign 8",
    "user_return: .quad 0",
    ".popsection",
    data = const descriptors::USER_DATA,
    code = const descriptors::USER_CODE,
    flags = const INTERRUPTS_ON,
);

unsafe extern "C" {
    fn user_enter(function: extern "C" fn(u64) -> !, argument: u64, stack: *mut u8) -> u64;
    fn user_leave();
    static user_return: u64;
}

/// A way into privilege level 3.
pub struct User {
    stack: &'static mut [u8; STACK_SIZE],
}

impl User {
    /// Opens the image's memory to privilege level 3 and takes over the exceptions.
    #[must_use]
    pub fn new() -> Self {
        paging::open_to_user(USER_PAGES);
        exceptions::handle(on_exception);
        Self {
            stack: STACK.take(),
        }
    }

    /// Runs `function` at privilege level 3 with interrupts on, until it [`finish`]es.
    pub fn call(&mut self, function: extern "C" fn(u64) -> !, argument: u64) -> u64 {
        // As after a CALL: 8 short of a multiple of 16.
        let top = self.stack.as_mut_ptr_range().end.wrapping_sub(8);
        // SAFETY: the stack is ours and large; the function sees the same memory as we do and
        // comes back through `on_exception`, which restores stack and saved registers.
        unsafe { user_enter(function, argument, top) }
    }
}

impl Default for User {
    fn default() -> Self {
        Self::new()
    }
}

/// Ends a function that runs at privilege level 3, with its result.
pub fn finish(result: u64) -> ! {
    // SAFETY: HLT faults at privilege level 3; `on_exception` goes on elsewhere.
    unsafe { asm!("hlt", in("rax") result, options(noreturn, nostack)) };
}

fn on_exception(frame: &mut Frame) {
    if frame.vector != GENERAL_PROTECTION || frame.cs & 3 == 0 {
        exceptions::report("exception", frame);
        super::reset();
    }
    frame.rip = user_leave as *const () as u64;
    frame.cs = descriptors::KERNEL_CODE.into();
    frame.ss = descriptors::KERNEL_DATA.into();
    frame.rflags &= !0x200;
    // SAFETY: `user_enter` has stored it on the way in.
    frame.rsp = unsafe { (&raw const user_return).read_volatile() };
}
