//! Control registers, model-specific registers and CPUID.

use core::arch::asm;
use core::arch::x86_64::__cpuid_count;

/// CR0: a waiting x87 instruction looks at TS.
pub const CR0_MP: u64 = 1 << 1;
/// CR0: x87 and SSE instructions raise #NM.
pub const CR0_TS: u64 = 1 << 3;
/// CR0: x87 errors raise #MF.
pub const CR0_NE: u64 = 1 << 5;
/// CR0: level 0 respects read-only pages.
pub const CR0_WP: u64 = 1 << 16;
/// CR0: alignment is checked at level 3 where the flag AC is set.
pub const CR0_AM: u64 = 1 << 18;
/// CR4: global pages.
pub const CR4_PGE: u64 = 1 << 7;
/// CR4: SSE.
pub const CR4_OSFXSR: u64 = 1 << 9;
/// CR4: SSE's exceptions come as #XM.
pub const CR4_OSXMMEXCPT: u64 = 1 << 10;
/// CR4: level 0 executes no user pages.
pub const CR4_SMEP: u64 = 1 << 20;
/// CR4: level 0 reads and writes no user pages, unless the flag AC is set.
pub const CR4_SMAP: u64 = 1 << 21;
/// The extended feature enable register.
pub const EFER: u32 = 0xC000_0080;
/// EFER: pages can be closed to instruction fetches.
pub const EFER_NXE: u64 = 1 << 11;

/// CR0.
#[must_use]
pub fn cr0() -> u64 {
    let value;
    // SAFETY: reads a control register.
    unsafe { asm!("mov {}, cr0", out(reg) value, options(nomem, nostack, preserves_flags)) };
    value
}

/// Sets CR0.
///
/// # Safety
/// Protected mode and paging must stay on.
pub unsafe fn set_cr0(value: u64) {
    // SAFETY: the caller's.
    unsafe { asm!("mov cr0, {}", in(reg) value, options(nostack, preserves_flags)) };
}

/// CR4.
#[must_use]
pub fn cr4() -> u64 {
    let value;
    // SAFETY: reads a control register.
    unsafe { asm!("mov {}, cr4", out(reg) value, options(nomem, nostack, preserves_flags)) };
    value
}

/// Sets CR4.
///
/// # Safety
/// PAE must stay on, and the processor must have what is switched on.
pub unsafe fn set_cr4(value: u64) {
    // SAFETY: the caller's.
    unsafe { asm!("mov cr4, {}", in(reg) value, options(nostack, preserves_flags)) };
}

/// A model-specific register.
///
/// # Safety
/// The processor must have it.
#[must_use]
pub unsafe fn msr(index: u32) -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: the caller's.
    unsafe {
        asm!("rdmsr", in("ecx") index, out("eax") low, out("edx") high, options(nomem, nostack, preserves_flags));
    };
    u64::from(high) << 32 | u64::from(low)
}

/// Sets a model-specific register.
///
/// # Safety
/// The processor must have it, and the guest be prepared for the value.
pub unsafe fn set_msr(index: u32, value: u64) {
    // SAFETY: the caller's.
    unsafe {
        asm!("wrmsr", in("ecx") index, in("eax") value as u32, in("edx") (value >> 32) as u32, options(nostack, preserves_flags));
    };
}

/// EAX, EBX, ECX and EDX of a CPUID leaf; zeros where the processor has no such leaf.
#[must_use]
pub fn cpuid(leaf: u32, subleaf: u32) -> [u32; 4] {
    let highest = __cpuid_count(leaf & 0x8000_0000, 0).eax;
    if leaf > highest {
        return [0; 4];
    }
    let found = __cpuid_count(leaf, subleaf);
    [found.eax, found.ebx, found.ecx, found.edx]
}
