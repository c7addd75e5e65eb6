//! Loading a guest: from the bytes of a kernel to a vCPU that can run its first instruction.
//!
//! In: zeroed guest memory, the images, the seed of the guest's random number generator. Out: guest memory with
//! everything that the boot protocol asks for, and the vCPU's first registers. What always holds: memory and registers are a function of the
//! arguments, and whatever is not listed here stays zero, since the guest's course depends on both.
//!
//! | kernel | protocol | begins |
//! |---|---|---|
//! | bzImage, as distributions ship it | Linux's 64-bit (Linux, `Documentation/x86/boot.rst`, "64-bit Boot Protocol") | in 64-bit mode, 0x200 after its load address |
//! | ELF64: `vmlinux`, a bare-metal guest | Linux's 64-bit; PVH if asked for, or if that is its only usable entry | in 64-bit mode at its entry point; or as ELF32 |
//! | ELF32 | PVH (Xen, `docs/misc/pvh.pandoc`) | in 32-bit protected mode without paging, where its note says |
//!
//! ```text
//!     0x0000_1000  GDT, then a task state segment of zeros
//!     0x0000_2000  setup_data: the seed                          Linux's 64-bit protocol
//!     0x0000_3000  start info, list of modules, memory map       PVH
//!     0x0000_7000  zero page (struct boot_params) with the e820 map      Linux's
//!     0x0000_8FF0  stack, downwards
//!     0x0000_9000  page tables, six pages: 4 GiB mapped one to one       Linux's
//!     0x0002_0000  command line
//!     0x0010_0000  and above: the ELF file's segments, where its program headers want them;
//!                  the bzImage's 64-bit part, at the address it prefers
//!     at the top   initial RAM disk, on a page boundary
//! ```
//!
//! The same loader serves our own bare-metal guests: static ELF64 files linked at 1 MiB or above.
//! They find the zero page in RSI like Linux does, and are free to ignore it.

mod bz_image;
mod elf;
mod error;
mod kernel;
mod long_mode;
mod pvh;
mod state;
mod tsc_rewrite;
mod zero_page;

#[cfg(test)]
mod test_bz_image;
#[cfg(test)]
mod test_elf;
#[cfg(test)]
mod tests;

use crate::machine::GuestMemory;
use vm_memory::{GuestAddress, GuestMemoryBackend};

pub use error::BootError;
pub use state::{BootState, Segment};
pub use tsc_rewrite::UntrappedSites;

use self::kernel::{Entry, Kernel};
use super::MAX_MEMORY_BYTES;

/// Where the BIOS's extended data area begins on a PC, and conventional memory ends.
const LOW_MEMORY_END: u64 = 0x9_FC00;
/// Guests are loaded here or above: 1 MiB, past the PC's video memory and ROMs.
const HIGH_MEMORY_START: u64 = 0x10_0000;
const PAGE_SIZE: u64 = 0x1000;

/// How the loader hands over to the kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BootProtocol {
    /// Linux's 64-bit protocol where the kernel has such an entry point, else PVH.
    #[default]
    Auto,
    /// Linux's 64-bit boot protocol.
    Linux64,
    /// PVH: the 32-bit entry point that an ELF note names.
    Pvh,
}

impl std::fmt::Display for BootProtocol {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Linux64 => "linux64",
            Self::Pvh => "pvh",
        })
    }
}

/// What is loaded, as the bytes of the files, and how.
#[derive(Clone, Debug, Default)]
pub struct BootImages {
    /// A bzImage, or a static ELF executable: Linux's `vmlinux`, or a bare-metal guest.
    pub kernel: Vec<u8>,
    /// How it is entered.
    pub protocol: BootProtocol,
    /// Initial RAM disk (or initramfs).
    pub initrd: Option<Vec<u8>>,
    /// Kernel command line, printable ASCII, at most 2,047 bytes. The guest sees it byte for byte:
    /// a single blank more changes the course of Linux.
    pub command_line: String,
}

/// What becomes of `rdtsc` and `rdtscp` in the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TscRewrite {
    /// For engines that cannot trap them (KVM): they become port reads, see [`super::layout::RDTSC_PORT`].
    Rewrite,
    /// For engines that trap them: the kernel stays as it is.
    Leave,
}

/// A guest that is ready to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// The vCPU's first registers.
    pub state: BootState,
    /// How many `rdtsc` and `rdtscp` were rewritten.
    pub tsc_sites: usize,
    /// Instructions that depend on the host and were left as they are; all zero if nothing was to be rewritten.
    pub untrapped: UntrappedSites,
    /// First address after all that the kernel needs: its segments, or the room in which it unpacks itself.
    pub kernel_end: u64,
    /// Where the initial RAM disk begins.
    pub initrd_start: Option<u64>,
}

/// Loads `images` into `memory`, which must be all zero, one region from address 0 on, and at most 3 GiB.
/// The guest's kernel gets `rng_seed` for its random number generator, if the protocol has a place for it.
///
/// # Errors
///
/// A [`BootError`] for whatever is wrong with the images or does not fit. Memory may then hold a part of the guest.
pub fn load(
    memory: &GuestMemory,
    images: &BootImages,
    rng_seed: &[u8; 32],
    tsc: TscRewrite,
) -> Result<Loaded, BootError> {
    let memory_end = memory_end(memory)?;
    let kernel = Kernel::parse(&images.kernel)?;
    let kernel_end = kernel.check_fits(memory_end)?;
    let entry = kernel.entry(images.protocol)?;
    let rewriting = kernel.load(memory, &images.kernel, tsc)?;

    let initrd_limit = entry.initrd_limit().min(memory_end);
    let initrd = images.initrd.as_deref();
    let initrd = zero_page::load_initrd(memory, initrd, kernel_end, initrd_limit)?;
    let command_line_limit = entry.command_line_limit();
    zero_page::write_command_line(memory, &images.command_line, command_line_limit)?;
    let state = match entry {
        Entry::Linux64 { address, header } => {
            zero_page::write(memory, memory_end, &header, initrd, rng_seed)?;
            long_mode::write(memory, address, zero_page::ADDRESS)?
        }
        Entry::Pvh { address } => pvh::write(memory, memory_end, initrd, address)?,
    };
    Ok(Loaded {
        state,
        tsc_sites: rewriting.sites,
        untrapped: rewriting.untrapped,
        kernel_end,
        initrd_start: initrd.map(|initrd| initrd.start),
    })
}

/// The state that begins at `entry`, code that is in memory already, in 64-bit mode with memory mapped one to one. Writes the tables
/// for that below 64 KiB.
///
/// # Errors
///
/// If they do not fit.
pub fn begin_at(memory: &GuestMemory, entry: u64) -> Result<BootState, BootError> {
    long_mode::write(memory, entry, 0)
}

/// What the memory map says is usable: start and end of each part, lowest first.
fn usable_memory(memory_end: u64) -> [(u64, u64); 2] {
    [(0, LOW_MEMORY_END), (HIGH_MEMORY_START, memory_end)]
}

/// First address after guest memory, once it is known to have the shape that this loader writes to.
fn memory_end(memory: &GuestMemory) -> Result<u64, BootError> {
    let bytes = memory.last_addr().0.saturating_add(1);
    if memory.num_regions() != 1 || !memory.address_in_range(GuestAddress(0)) {
        return Err(BootError::MemoryShape {
            regions: memory.num_regions(),
        });
    }
    if bytes > MAX_MEMORY_BYTES {
        return Err(BootError::MemoryTooLarge {
            bytes,
            limit: MAX_MEMORY_BYTES,
        });
    }
    if bytes <= HIGH_MEMORY_START {
        return Err(BootError::MemoryTooSmall { bytes });
    }
    Ok(bytes)
}
