//! Entry points, the two 8259s, and waiting.
//!
//! An interrupt line's entry point counts one up for its line, ends the interrupt and returns: ten
//! instructions. The guest looks at the counters when it wakes. Where the interrupt ended a
//! [`wait`], it returns with interrupts off, so that the guest sees to the device before the line
//! can interrupt again: the same for edge- and level-triggered lines.

use core::arch::{asm, global_asm};

use super::port;

/// IRQ 0: PIT.
pub const TIMER: usize = 0;
/// IRQ 4: first serial port.
pub const SERIAL: usize = 4;
/// IRQ 10: virtio-net.
pub const NET: usize = 10;
/// IRQ 11: virtio-rng.
pub const RNG: usize = 11;
/// IRQ 14: the first virtio-blk.
pub const DISK: usize = 14;

/// Interrupt lines of the two controllers.
const LINES: usize = 16;
/// The master's input on which the slave sits.
const CASCADE: usize = 2;
/// First vector of the master's lines; the slave's follow.
const FIRST_VECTOR: u8 = 0x20;
const MASTER_COMMAND: u16 = 0x20;
const MASTER_DATA: u16 = 0x21;
const SLAVE_COMMAND: u16 = 0xA0;
const SLAVE_DATA: u16 = 0xA1;

// Exceptions: an error code where the processor gives none, the vector, then `exception`.
// Vectors with an error code: 8, 10 to 14, 17, 21, 29, 30 (Intel SDM 3A table 6-1).
global_asm!(
    ".macro exception_entry vector",
    "exception_\\vector:",
    // #GP by an HLT (0xF4) at privilege level 3 is how user code ends: see user.rs. On the stack
    // are error code, RIP and CS. RCX is lost, but nobody resumes after another #GP there.
    ".if \\vector == 13",
    "test byte ptr [rsp + 16], 3",
    "jz 2f",
    "mov rcx, [rsp + 8]",
    "cmp byte ptr [rcx], 0xF4",
    "je user_leave",
    "2:",
    ".endif",
    ".if \\vector != 8 && (\\vector < 10 || \\vector > 14) && \\vector != 17 && \\vector != 21 && \\vector != 29 && \\vector != 30",
    "push 0",
    ".endif",
    "push \\vector",
    "jmp exception",
    ".endm",
    ".altmacro",
    ".set vector, 0",
    ".rept 32",
    "exception_entry %vector",
    ".set vector, vector + 1",
    ".endr",
    "exception:",
    "push rax", "push rcx", "push rdx", "push rsi", "push rdi",
    "push r8", "push r9", "push r10", "push r11", "push rbx",
    "mov rdi, rsp",
    "mov rbx, rsp",
    "and rsp, -16",
    "call {exception}",
    "mov rsp, rbx",
    "pop rbx", "pop r11", "pop r10", "pop r9", "pop r8",
    "pop rdi", "pop rsi", "pop rdx", "pop rcx", "pop rax",
    "add rsp, 16",
    "iretq",
    exception = sym super::exceptions::dispatch,
);

// Interrupt lines. Bit 9 of RFLAGS is IF.
global_asm!(
    ".macro line_entry line",
    "line_\\line:",
    "inc dword ptr [line_counts + 4 * \\line]",
    "cmp qword ptr [rsp], offset wait_end",
    "jne 2f",
    "and dword ptr [rsp + 16], 0xfffffdff",
    "2:",
    "push rax",
    "mov al, 0x20",
    ".if \\line >= 8",
    "out 0xA0, al",
    ".endif",
    "out 0x20, al",
    "pop rax",
    "iretq",
    ".endm",
    ".set line, 0",
    ".rept 16",
    "line_entry %line",
    ".set line, line + 1",
    ".endr",
    "wait_for_interrupt:",
    "sti",
    "hlt",
    "wait_end:",
    "ret",
);

global_asm!(
    ".pushsection .rodata",
    ".balign 8",
    ".global entry_points",
    "entry_points:",
    ".macro entry_address kind number",
    ".quad \\kind\\()_\\number",
    ".endm",
    ".set number, 0",
    ".rept 32",
    "entry_address exception %number",
    ".set number, number + 1",
    ".endr",
    ".set number, 0",
    ".rept 16",
    "entry_address line %number",
    ".set number, number + 1",
    ".endr",
    ".noaltmacro",
    ".popsection",
    ".pushsection .bss",
    ".balign 8",
    ".global line_counts",
    "line_counts: .zero 64",
    ".popsection",
);

unsafe extern "C" {
    static line_counts: [u32; LINES];
}

/// Programs both controllers (8259A data sheet, ICW1 to ICW4): edge triggered, vectors from 0x20,
/// every line masked but the cascade.
pub fn init() {
    for (command, data, vector, cascade) in [
        (MASTER_COMMAND, MASTER_DATA, FIRST_VECTOR, 1 << CASCADE),
        (SLAVE_COMMAND, SLAVE_DATA, FIRST_VECTOR + 8, CASCADE as u8),
    ] {
        port::write_u8(command, 0x11);
        port::write_u8(data, vector);
        port::write_u8(data, cascade);
        port::write_u8(data, 0x01);
    }
    port::write_u8(MASTER_DATA, !(1 << CASCADE));
    port::write_u8(SLAVE_DATA, !0);
}

/// Lets `line` interrupt.
pub fn unmask(line: usize) {
    let port = if line < 8 { MASTER_DATA } else { SLAVE_DATA };
    port::write_u8(port, port::read_u8(port) & !(1 << (line % 8)));
}

/// How often `line` has interrupted; wraps.
#[must_use]
pub fn count(line: usize) -> u32 {
    assert!(line < LINES);
    // SAFETY: in range; volatile, for the entry points change it behind the compiler's back.
    unsafe {
        (&raw const line_counts)
            .cast::<u32>()
            .add(line)
            .read_volatile()
    }
}

/// Sleeps until an interrupt has been counted. Returns with interrupts off; only while they are on
/// in here can one be lost to sight, and then it is what ends the wait.
pub fn wait() {
    // SAFETY: the routine uses no register; the interrupt entry points restore what they use.
    unsafe { asm!("call wait_for_interrupt") };
}

/// Turns interrupts on: entry points run between any two instructions from here on.
pub fn enable() {
    // SAFETY: the entry points leave no trace but in their counters.
    unsafe { asm!("sti", options(nostack)) };
}

/// Turns interrupts off.
pub fn disable() {
    // SAFETY: what waits for an interrupt turns them on by itself.
    unsafe { asm!("cli", options(nostack)) };
}

/// Halts with interrupts off: for good.
pub fn halt() {
    // SAFETY: stops this processor, which is all that is asked.
    unsafe { asm!("cli", "hlt", options(nomem, nostack)) };
}
