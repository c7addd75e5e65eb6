//! Port I/O.

use core::arch::asm;

/// Reads a byte.
#[must_use]
pub fn read_u8(port: u16) -> u8 {
    let value;
    // SAFETY: a port read touches no memory; every port of this machine may be read at any time.
    unsafe {
        asm!("in al, dx", in("dx") port, out("al") value, options(nomem, nostack, preserves_flags));
    };
    value
}

/// Reads 32 bits.
#[must_use]
pub fn read_u32(port: u16) -> u32 {
    let value;
    // SAFETY: as in `read_u8`.
    unsafe {
        asm!("in eax, dx", in("dx") port, out("eax") value, options(nomem, nostack, preserves_flags));
    };
    value
}

/// Writes a byte.
pub fn write_u8(port: u16, value: u8) {
    // SAFETY: no device behind a port of this machine writes to memory.
    unsafe {
        asm!("out dx, al", in("dx") port, in("al") value, options(nomem, nostack, preserves_flags));
    };
}
