//! Sources of time: time-stamp counter, ACPI PM timer and real-time clock.

use core::arch::asm;

use super::port;

/// ACPI PM timer, 32 bits, 3.579545 MHz.
const PM_TIMER_PORT: u16 = 0x608;
/// Real-time clock: register index.
const RTC_INDEX: u16 = 0x70;
/// Real-time clock: register contents.
const RTC_DATA: u16 = 0x71;
/// RTC status register A; bit 7: the clock is being updated.
const RTC_STATUS_A: u8 = 0x0A;
const UPDATE_IN_PROGRESS: u8 = 0x80;

/// The PM timer's count.
#[must_use]
pub fn pm_timer() -> u32 {
    port::read_u32(PM_TIMER_PORT)
}

/// The time-stamp counter, by a real `rdtsc`: where that does not trap by itself, the loader
/// rewrites it into `in eax, 0xEE`.
#[must_use]
pub fn tsc() -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: reads a counter and touches no memory.
    unsafe {
        asm!("rdtsc", out("eax") low, out("edx") high, options(nomem, nostack, preserves_flags));
    };
    u64::from(high) << 32 | u64::from(low)
}

/// The time-stamp counter by the port read that the loader makes of `rdtsc`: for images that
/// nobody rewrites.
#[must_use]
pub fn trapped_tsc() -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: a port read touches no memory; it changes EDX too, which the VMM fills in.
    unsafe {
        asm!("in eax, 0xEE", out("eax") low, out("edx") high, options(nomem, nostack, preserves_flags));
    };
    u64::from(high) << 32 | u64::from(low)
}

/// Second, minute, hour, day, month and year as the clock has them, read outside an update.
#[must_use]
pub fn rtc() -> [u8; 6] {
    while rtc_register(RTC_STATUS_A) & UPDATE_IN_PROGRESS != 0 {}
    [0, 2, 4, 7, 8, 9].map(rtc_register)
}

fn rtc_register(index: u8) -> u8 {
    port::write_u8(RTC_INDEX, index);
    port::read_u8(RTC_DATA)
}
