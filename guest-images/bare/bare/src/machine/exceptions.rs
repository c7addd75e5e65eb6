//! What happens on a processor exception: the handler that the guest has set, or a last line.

use core::arch::asm;
use core::sync::atomic::{AtomicPtr, Ordering};

use super::{reset, serial::Line};

/// What `exception` (interrupts.rs) and the processor have pushed, lowest address first.
#[repr(C)]
pub struct Frame {
    rbx: u64,
    r11_to_rcx: [u64; 8],
    /// RAX at the exception.
    pub rax: u64,
    /// The exception's vector.
    pub vector: u64,
    /// The processor's error code; 0 where there is none.
    pub error_code: u64,
    /// Where the faulting instruction is, and where execution goes on.
    pub rip: u64,
    /// Code segment; its low two bits are the privilege level.
    pub cs: u64,
    /// Flags.
    pub rflags: u64,
    /// Stack pointer at the exception.
    pub rsp: u64,
    /// Stack segment.
    pub ss: u64,
}

/// A guest's own handler; what it leaves in the frame is what execution goes on with.
pub type Handler = fn(&mut Frame);

static HANDLER: AtomicPtr<()> = AtomicPtr::new(core::ptr::null_mut());

/// Gives every exception to `handler` from now on.
pub fn handle(handler: Handler) {
    HANDLER.store(handler as *mut (), Ordering::Relaxed);
}

/// The address whose access raised the last page fault.
#[must_use]
pub fn fault_address() -> u64 {
    let address;
    // SAFETY: reads a control register.
    unsafe { asm!("mov {}, cr2", out(reg) address, options(nomem, nostack, preserves_flags)) };
    address
}

pub(super) extern "C" fn dispatch(frame: &mut Frame) {
    let handler = HANDLER.load(Ordering::Relaxed);
    if handler.is_null() {
        report("exception", frame);
        reset();
    }
    // SAFETY: only `handle` stores here, and it stores a `Handler`.
    let handler: Handler = unsafe { core::mem::transmute(handler) };
    handler(frame);
}

/// Prints an exception.
pub fn report(what: &str, frame: &Frame) {
    let line = Line
        .text(what)
        .text(" vector=")
        .decimal(frame.vector)
        .text(" error=")
        .hex(frame.error_code);
    line.text(" rip=")
        .hex(frame.rip)
        .text(" cr2=")
        .hex(fault_address())
        .end();
}
