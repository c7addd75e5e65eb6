//! Runs code that raises an exception, and comes back with what the processor said of it.
//!
//! Handlers do not return to where the exception was, unless they are told to: the code's caller goes on, with its own stack and
//! segments, whatever level and mode the code was in. Both may be wrong in the code under test.

use core::arch::global_asm;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use super::descriptors::{KERNEL_CODE, KERNEL_DATA, USER_CODE, USER_DATA};
use super::exceptions::{self, Frame};

/// Single steps.
const TRAP_FLAG: u64 = 1 << 8;
/// The next instruction meets no instruction breakpoint.
const RESUME_FLAG: u64 = 1 << 16;
/// Flags with nothing but the bit that is always 1.
const FLAGS: u64 = 2;
/// A processor that raises an exception for ever is wrong, and the guest must end.
const RESUMES_MAX: u64 = 4;
/// Bytes of the stack at privilege level 3.
const USER_STACK_SIZE: usize = 4096;

/// What the processor said of an exception.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caught {
    /// The exception's vector.
    pub vector: u64,
    /// Error code; 0 where there is none.
    pub error_code: u64,
    /// Saved instruction pointer.
    pub rip: u64,
    /// Saved code segment.
    pub cs: u64,
    /// Saved flags.
    pub rflags: u64,
    /// Saved stack pointer.
    pub rsp: u64,
    /// CR2.
    pub address: u64,
    /// RAX.
    pub rax: u64,
    /// Where the stack began on which the processor saved all this.
    pub frame_end: u64,
}

/// What became of the code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The last exception, if there was one.
    pub caught: Option<Caught>,
    /// What the code returned, if it did.
    pub result: u64,
}

static CAUGHT: [AtomicU64; 9] = [const { AtomicU64::new(0) }; 9];
static WAS_CAUGHT: AtomicBool = AtomicBool::new(false);
/// How many exceptions may still return to the code.
static RESUMES: AtomicU64 = AtomicU64::new(0);

// catch_run(code, argument): RAX is what the code returns; 0 after an exception.
global_asm!(
    "catch_run:",
    "push rbx", "push rbp", "push r12", "push r13", "push r14", "push r15",
    "mov [catch_stack], rsp",
    "mov rax, rdi",
    "mov rdi, rsi",
    "call rax",
    "jmp 2f",
    "catch_return:",
    "xor eax, eax",
    "2:",
    "mov rsp, [catch_stack]",
    "mov ecx, {kernel_data}",
    "mov ds, ecx",
    "mov es, ecx",
    "mov ss, ecx",
    "cld",
    "pop r15", "pop r14", "pop r13", "pop r12", "pop rbp", "pop rbx",
    "ret",
    // Code for `catch_run`: enters level 3. RDI points at instruction pointer, flags, and what RDI is to be.
    "catch_enter_user:",
    "push {user_data}",
    "lea rax, [catch_user_stack]",
    "push rax",
    "push [rdi + 8]",
    "push {user_code}",
    "push [rdi]",
    "mov rdi, [rdi + 16]",
    "iretq",
    ".pushsection .bss",
    ".balign 16",
    "catch_stack: .zero 8",
    ".balign 16",
    ".zero {user_stack_size}",
    "catch_user_stack: .zero 16",
    ".popsection",
    kernel_data = const KERNEL_DATA,
    user_data = const USER_DATA,
    user_code = const USER_CODE,
    user_stack_size = const USER_STACK_SIZE,
);

unsafe extern "C" {
    fn catch_run(code: u64, argument: u64) -> u64;
    fn catch_return();
    fn catch_enter_user();
    static catch_stack: u64;
    static catch_user_stack: u8;
}

/// Calls `code`, which gets `argument` in RDI, to its end or its first exception.
///
/// # Safety
/// There must be code there that keeps the convention of C up to its exception, and leaves the guest's memory and
/// the processor so that the guest can go on.
pub unsafe fn run(code: u64, argument: u64) -> Outcome {
    // SAFETY: the caller's.
    unsafe { start(code, argument, false) }
}

/// The same, but the first exceptions return to the code: a step's with single-stepping off, a breakpoint's past it.
///
/// # Safety
/// As for [`run`].
pub unsafe fn run_resuming(code: u64, argument: u64) -> Outcome {
    // SAFETY: the caller's.
    unsafe { start(code, argument, true) }
}

/// Runs code at privilege level 3, with these flags besides the one that is always 1 and `argument` in RDI, to its first exception. It
/// must raise one.
///
/// # Safety
/// There must be code there that level 3 may execute, that raises an exception, and does no harm.
pub unsafe fn run_user(code: u64, flags: u64, argument: u64) -> Outcome {
    let entry = [code, flags | FLAGS, argument];
    // SAFETY: `catch_enter_user` reads the three words; the rest is the caller's.
    unsafe {
        start(
            catch_enter_user as *const () as u64,
            &raw const entry as u64,
            false,
        )
    }
}

/// The stack pointer that code at level 3 begins with.
#[must_use]
pub fn user_stack() -> u64 {
    &raw const catch_user_stack as u64
}

unsafe fn start(code: u64, argument: u64, resume: bool) -> Outcome {
    RESUMES.store(if resume { RESUMES_MAX } else { 0 }, Relaxed);
    WAS_CAUGHT.store(false, Relaxed);
    exceptions::handle(on_exception);
    // SAFETY: the caller's; `catch_run` keeps the registers that C wants kept, even if the code does not come back by itself.
    let result = unsafe { catch_run(code, argument) };
    let caught = WAS_CAUGHT.load(Relaxed).then(|| {
        let word = |index: usize| CAUGHT[index].load(Relaxed);
        Caught {
            vector: word(0),
            error_code: word(1),
            rip: word(2),
            cs: word(3),
            rflags: word(4),
            rsp: word(5),
            address: word(6),
            rax: word(7),
            frame_end: word(8),
        }
    });
    Outcome { caught, result }
}

fn on_exception(frame: &mut Frame) {
    let found = [
        frame.vector,
        frame.error_code,
        frame.rip,
        frame.cs,
        frame.rflags,
        frame.rsp,
        exceptions::fault_address(),
        frame.rax,
        (&raw const *frame).wrapping_add(1) as u64,
    ];
    for (kept, value) in CAUGHT.iter().zip(found) {
        kept.store(value, Relaxed);
    }
    WAS_CAUGHT.store(true, Relaxed);
    let resumes = RESUMES.load(Relaxed);
    if resumes > 0 {
        RESUMES.store(resumes - 1, Relaxed);
        frame.rflags = frame.rflags & !TRAP_FLAG | RESUME_FLAG;
        return;
    }
    frame.rip = catch_return as *const () as u64;
    frame.cs = KERNEL_CODE.into();
    frame.rflags = FLAGS;
    // SAFETY: nothing but `catch_run` writes it, and that waits for us.
    frame.rsp = unsafe { (&raw const catch_stack).read_volatile() };
    frame.ss = KERNEL_DATA.into();
}
