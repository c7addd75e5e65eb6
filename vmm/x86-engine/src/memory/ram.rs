//! Guest-physical memory, and the marks that make cached translations and code coherent with it.
//!
//! All `unsafe` access to guest memory is in this file. What always holds: no access leaves the mapping, whatever the guest does.

use std::ptr::NonNull;

/// Bytes in the smallest page.
pub(crate) const PAGE_BYTES: u64 = 4096;
/// Code is tracked in pieces of this many bytes, 64 to a page.
const CHUNK_BYTES: u64 = 64;

/// Cached code was decoded from this page.
pub(crate) const HAS_CODE: u8 = 1 << 0;
/// A cached translation was read from this page.
pub(crate) const HAS_TRANSLATIONS: u8 = 1 << 1;

/// Guest memory: one region from guest-physical address 0 on.
pub struct Ram {
    host: NonNull<u8>,
    bytes: u64,
    /// One a page.
    marks: Vec<u8>,
    /// One a page: which of its 64 chunks hold decoded instructions.
    code_chunks: Vec<u64>,
    /// The memory itself, if it is nobody else's.
    _owned: Option<Vec<u8>>,
}

// SAFETY: the mapping is not bound to a thread; whoever made the `Ram` promised to keep it alive and not to access it while the CPU runs.
unsafe impl Send for Ram {}

/// Something that is stored in guest memory as its little-endian bytes.
///
/// # Safety
/// Any bytes must be a valid value, and there must be no padding.
pub(crate) unsafe trait Plain: Copy {
    /// Width in bytes.
    const BYTES: u64 = size_of::<Self>() as u64;
    /// What its address must be a multiple of where alignment is checked: its width, or 1 for bytes without a type.
    const ALIGNMENT: u64 = Self::BYTES;
}

// SAFETY: integers and arrays of bytes have no invalid values and no padding. Hosts are little endian (checked in lib.rs).
unsafe impl Plain for u8 {}
// SAFETY: as above.
unsafe impl Plain for u16 {}
// SAFETY: as above.
unsafe impl Plain for u32 {}
// SAFETY: as above.
unsafe impl Plain for u64 {}
// SAFETY: as above.
unsafe impl Plain for u128 {}
// SAFETY: as above.
unsafe impl<const N: usize> Plain for [u8; N] {
    // Ten bytes are a number of the x87's (SDM 3A table 6-7); others are pieces of something that was checked as a whole.
    const ALIGNMENT: u64 = if N == 10 { 8 } else { 1 };
}

impl Ram {
    /// Memory of `bytes` bytes at `host`.
    ///
    /// # Safety
    /// The range must be mapped readable and writable for as long as the `Ram` lives, and while the CPU runs nobody else may access
    /// it.
    ///
    /// # Panics
    /// If `bytes` is not a multiple of 4,096.
    #[must_use]
    pub unsafe fn new(host: NonNull<u8>, bytes: u64) -> Self {
        assert!(
            bytes.is_multiple_of(PAGE_BYTES),
            "memory comes in whole pages"
        );
        let pages = (bytes / PAGE_BYTES) as usize;
        Self {
            host,
            bytes,
            marks: vec![0; pages],
            code_chunks: vec![0; pages],
            _owned: None,
        }
    }

    /// Zeroed memory of its own, for tests and measurements.
    ///
    /// # Panics
    /// If `bytes` is not a multiple of 4,096, or zero.
    #[must_use]
    pub fn owned(bytes: u64) -> Self {
        let mut memory = vec![0_u8; bytes as usize];
        let host = NonNull::new(memory.as_mut_ptr()).expect("a vector has an address");
        // SAFETY: the vector lives as long as the `Ram`, is never resized, and nobody else knows it.
        let mut ram = unsafe { Self::new(host, bytes) };
        ram._owned = Some(memory);
        ram
    }

    /// Size in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether the whole page at `address` is memory.
    #[inline(always)]
    pub(crate) fn has_page(&self, address: u64) -> bool {
        address < self.bytes
    }

    fn check(&self, address: u64, length: u64) {
        assert!(
            address
                .checked_add(length)
                .is_some_and(|end| end <= self.bytes),
            "{length} bytes at {address:#x} lie outside of guest memory"
        );
    }

    /// Reads memory.
    ///
    /// # Panics
    /// If the range is not all memory.
    pub fn read(&self, address: u64, buffer: &mut [u8]) {
        self.check(address, buffer.len() as u64);
        // SAFETY: the range was just checked, and a buffer of ours cannot overlap guest memory.
        unsafe {
            std::ptr::copy_nonoverlapping(
                self.host.as_ptr().add(address as usize),
                buffer.as_mut_ptr(),
                buffer.len(),
            );
        }
    }

    /// Writes memory behind the CPU's back: tell it with `memory_written`.
    ///
    /// # Panics
    /// If the range is not all memory.
    pub fn write(&mut self, address: u64, data: &[u8]) {
        self.check(address, data.len() as u64);
        // SAFETY: as in `read`.
        unsafe {
            std::ptr::copy_nonoverlapping(
                data.as_ptr(),
                self.host.as_ptr().add(address as usize),
                data.len(),
            );
        }
    }

    /// Reads a value; page tables, for example.
    pub(crate) fn load<T: Plain>(&self, address: u64) -> T {
        self.check(address, T::BYTES);
        // SAFETY: the range was just checked.
        unsafe {
            self.host
                .as_ptr()
                .add(address as usize)
                .cast::<T>()
                .read_unaligned()
        }
    }

    /// Writes a value; marks are the caller's business.
    pub(crate) fn store<T: Plain>(&mut self, address: u64, value: T) {
        self.check(address, T::BYTES);
        // SAFETY: the range was just checked.
        unsafe {
            self.host
                .as_ptr()
                .add(address as usize)
                .cast::<T>()
                .write_unaligned(value);
        }
    }

    /// Copies `length` bytes between two places that do not overlap: repeated string instructions.
    pub(crate) fn copy(&mut self, from: u64, to: u64, length: u64) {
        self.check(from, length);
        self.check(to, length);
        // SAFETY: both ranges were just checked; `copy` allows them to overlap.
        unsafe {
            std::ptr::copy(
                self.host.as_ptr().add(from as usize),
                self.host.as_ptr().add(to as usize),
                length as usize,
            );
        }
    }

    /// Stores `count` equal values one after the other.
    pub(crate) fn fill<T: Plain>(&mut self, address: u64, value: T, count: u64) {
        let length = T::BYTES.checked_mul(count).expect("less than all memory");
        self.check(address, length);
        // SAFETY: the range was just checked.
        unsafe {
            let to = self.host.as_ptr().add(address as usize).cast::<T>();
            for index in 0..count as usize {
                to.add(index).write_unaligned(value);
            }
        }
    }

    /// The translation cache's way to a page: see [`HostPage`].
    pub(crate) fn host_page(&self, page: u64) -> HostPage {
        self.check(page, PAGE_BYTES);
        HostPage(self.host.as_ptr() as usize + page as usize)
    }

    /// What is known of the page at `address`.
    #[inline(always)]
    pub(crate) fn marks(&self, address: u64) -> u8 {
        self.marks[(address / PAGE_BYTES) as usize]
    }

    /// Marks the page at `address`; returns whether it was unmarked in all respects before.
    pub(crate) fn mark(&mut self, address: u64, mark: u8) -> bool {
        let marks = &mut self.marks[(address / PAGE_BYTES) as usize];
        let was_plain = *marks == 0;
        *marks |= mark;
        was_plain
    }

    /// Takes a mark off the page at `address`.
    pub(crate) fn unmark(&mut self, address: u64, mark: u8) {
        self.marks[(address / PAGE_BYTES) as usize] &= !mark;
    }

    /// Notes that `length` bytes of code at `address`, within one page, were decoded.
    pub(crate) fn note_code(&mut self, address: u64, length: u64) {
        let page = (address / PAGE_BYTES) as usize;
        self.code_chunks[page] |= chunks(address % PAGE_BYTES, length);
    }

    /// Whether any of `length` bytes at `address`, within one page, lies in a chunk that was decoded.
    pub(crate) fn is_code(&self, address: u64, length: u64) -> bool {
        let page = (address / PAGE_BYTES) as usize;
        self.code_chunks[page] & chunks(address % PAGE_BYTES, length) != 0
    }

    /// Forgets which bytes of the page at `address` were decoded.
    pub(crate) fn forget_code(&mut self, address: u64) {
        self.code_chunks[(address / PAGE_BYTES) as usize] = 0;
        self.unmark(address, HAS_CODE);
    }
}

/// A value from its little-endian bytes, the first of `bytes`.
pub(crate) fn from_bytes<T: Plain>(bytes: &[u8; 16]) -> T {
    const { assert!(size_of::<T>() <= 16) };
    // SAFETY: the value is not wider than the array, and any bytes make one.
    unsafe { bytes.as_ptr().cast::<T>().read_unaligned() }
}

/// A value's little-endian bytes, then zeros.
pub(crate) fn to_bytes<T: Plain>(value: T) -> [u8; 16] {
    const { assert!(size_of::<T>() <= 16) };
    let mut bytes = [0; 16];
    // SAFETY: the value is not wider than the array and has no padding.
    unsafe { bytes.as_mut_ptr().cast::<T>().write_unaligned(value) };
    bytes
}

/// The chunks that `length` bytes from `offset` on touch.
fn chunks(offset: u64, length: u64) -> u64 {
    let first = offset / CHUNK_BYTES;
    let last = (offset + length.max(1) - 1).min(PAGE_BYTES - 1) / CHUNK_BYTES;
    (u64::MAX >> (63 - (last - first))) << first
}

/// Where a page of guest memory lies in the host. Made by [`Ram::host_page`] alone, and used by a CPU that owns that [`Ram`].
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct HostPage(usize);

impl HostPage {
    /// No page.
    pub(crate) const NOWHERE: Self = Self(0);

    /// Reads at `offset` of the page.
    #[inline(always)]
    pub(crate) fn load<T: Plain>(self, offset: u64) -> T {
        debug_assert!(offset + T::BYTES <= PAGE_BYTES);
        // SAFETY: `host_page` checked the page, the translation cache's fast path made sure that the access lies within it
        // (`Tlb` never hits for an access that crosses a page), and the mapping lives as long as the `Ram`.
        unsafe { (self.0.wrapping_add(offset as usize) as *const T).read_unaligned() }
    }

    /// Writes at `offset` of the page.
    #[inline(always)]
    pub(crate) fn store<T: Plain>(self, offset: u64, value: T) {
        debug_assert!(offset + T::BYTES <= PAGE_BYTES);
        // SAFETY: as in `load`.
        unsafe { (self.0.wrapping_add(offset as usize) as *mut T).write_unaligned(value) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_cover_what_is_touched() {
        assert_eq!(chunks(0, 1), 1);
        assert_eq!(chunks(63, 2), 0b11);
        assert_eq!(chunks(4095, 1), 1 << 63);
        assert_eq!(chunks(0, 4096), u64::MAX);
        assert_eq!(chunks(64, 64), 0b10);
    }
}
