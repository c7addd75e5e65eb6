//! From the loader's jump to the guest's own code.
//!
//! What the loader promises (Linux x86 boot protocol, 64-bit entry): long mode, flat code segment,
//! low memory mapped one to one, interrupts off, RSI pointing at the zero page. Not a stack: the
//! image brings its own.

use core::arch::global_asm;
use core::ffi::CStr;

use super::{descriptors, interrupts, port, serial::Line};
use crate::options::Options;

/// The zero page's field that holds the command line's address (`setup_header.cmd_line_ptr`).
const COMMAND_LINE_POINTER: usize = 0x228;
/// i8042 command and status port.
const I8042_COMMAND_PORT: u16 = 0x64;
/// i8042 command: pulse the processor's reset line.
const I8042_RESET: u8 = 0xFE;

global_asm!(
    ".pushsection .text.start, \"ax\"",
    ".global _start",
    "_start:",
    "cli",
    "cld",
    "mov esp, offset stack_top",
    "xor ebp, ebp",
    "mov rdi, rsi",
    "call {start}",
    "ud2",
    ".popsection",
    start = sym start,
);

unsafe extern "Rust" {
    /// The guest itself; the `guest!` macro defines it.
    safe fn guest_main(options: Options<'static>);
}

/// Names the function that is this guest: it gets its options, and its return ends the machine.
#[macro_export]
macro_rules! guest {
    ($main:path) => {
        // SAFETY: the library declares this symbol with this signature, and no other image part defines it.
        #[unsafe(no_mangle)]
        fn guest_main(options: $crate::options::Options<'static>) {
            $main(options);
        }
    };
}

extern "C" fn start(zero_page: *const u8) -> ! {
    descriptors::load();
    interrupts::init();
    guest_main(Options::new(command_line(zero_page)));
    reset()
}

fn command_line(zero_page: *const u8) -> &'static [u8] {
    if zero_page.is_null() {
        return &[];
    }
    // SAFETY: the boot protocol has RSI point at the zero page, and its command line pointer, if
    // not null, at a string that ends with a zero; nothing here writes to either.
    unsafe {
        let pointer = zero_page
            .add(COMMAND_LINE_POINTER)
            .cast::<u32>()
            .read_unaligned();
        if pointer == 0 {
            return &[];
        }
        CStr::from_ptr(core::ptr::with_exposed_provenance(pointer as usize)).to_bytes()
    }
}

/// Ends the machine.
pub fn reset() -> ! {
    port::write_u8(I8042_COMMAND_PORT, I8042_RESET);
    loop {
        interrupts::halt();
    }
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo) -> ! {
    let (file, line) = info
        .location()
        .map_or(("?", 0), |at| (at.file(), at.line()));
    Line.text("panic at=")
        .text(file)
        .text(":")
        .decimal(line.into())
        .end();
    reset()
}
