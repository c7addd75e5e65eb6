//! Copies and big-endian fields.

/// Copies the bytes of `from` to the start of `to`.
///
/// # Panics
/// If they do not fit.
#[inline(always)]
pub fn copy(from: &[u8], to: &mut [u8]) {
    let to = &mut to[..from.len()];
    #[cfg(target_arch = "x86_64")]
    // SAFETY: both slices are `from.len()` long and, one being exclusive, apart; the direction flag is clear (ABI).
    unsafe {
        core::arch::asm!(
            "rep movsb",
            inout("rcx") from.len() => _,
            inout("rsi") from.as_ptr() => _,
            inout("rdi") to.as_mut_ptr() => _,
            options(nostack, preserves_flags),
        );
    }
    #[cfg(not(target_arch = "x86_64"))]
    to.copy_from_slice(from);
}

/// The N bytes at `OFFSET`.
#[inline(always)]
pub fn at<const OFFSET: usize, const N: usize, const SIZE: usize>(bytes: &[u8; SIZE]) -> [u8; N] {
    const { assert!(OFFSET + N <= SIZE) };
    core::array::from_fn(|index| bytes[OFFSET + index])
}

/// Writes a field.
#[inline(always)]
pub fn put<const OFFSET: usize, const N: usize, const SIZE: usize>(
    bytes: &mut [u8; SIZE],
    field: [u8; N],
) {
    const { assert!(OFFSET + N <= SIZE) };
    bytes[OFFSET..OFFSET + N].copy_from_slice(&field);
}

/// The 16-bit field at `OFFSET`.
#[inline(always)]
pub fn u16_at<const OFFSET: usize, const SIZE: usize>(bytes: &[u8; SIZE]) -> u16 {
    u16::from_be_bytes(at::<OFFSET, 2, SIZE>(bytes))
}

/// The 32-bit field at `OFFSET`.
#[inline(always)]
pub fn u32_at<const OFFSET: usize, const SIZE: usize>(bytes: &[u8; SIZE]) -> u32 {
    u32::from_be_bytes(at::<OFFSET, 4, SIZE>(bytes))
}
