//! Why a guest could not be loaded.

/// Why a guest could not be loaded, and what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BootError {
    /// Guest memory is not one region from address 0 on.
    #[error("Guest memory has {regions} regions; the loader needs exactly one, from address 0 on")]
    MemoryShape {
        /// How many there are.
        regions: usize,
    },
    /// More memory than the machine's address space has room for.
    #[error(
        "A guest with {bytes} bytes of memory does not fit below the devices: give it at most {limit} bytes (3 GiB)"
    )]
    MemoryTooLarge {
        /// Asked for.
        bytes: u64,
        /// Possible.
        limit: u64,
    },
    /// Not even the first MiB.
    #[error(
        "A guest cannot run in {bytes} bytes of memory: kernels are loaded at 1 MiB or above, give it more"
    )]
    MemoryTooSmall {
        /// Asked for.
        bytes: u64,
    },

    /// The kernel is neither a bzImage nor an ELF file.
    #[error(
        "The kernel is neither a bzImage nor an ELF file ({found}): give a distribution's `vmlinuz`, the uncompressed `vmlinux`, or a static ELF guest"
    )]
    UnknownFormat {
        /// What it looks like.
        found: &'static str,
    },
    /// An ELF file, of a kind that cannot be booted.
    #[error(
        "The kernel is {found}; lockstep boots static little-endian ELF executables for x86-64, and through PVH for x86"
    )]
    WrongKind {
        /// Which kind.
        found: String,
    },
    /// A malformed file.
    #[error("Cannot read the kernel's {part}: the file is damaged or cut short")]
    Malformed {
        /// Which part of it.
        part: &'static str,
        /// What the parser says.
        source: Option<object::read::Error>,
    },
    /// No `PT_LOAD` segment that occupies memory.
    #[error(
        "The kernel has no loadable segment, so there is nothing to run: is it an object file?"
    )]
    NoSegments,
    /// A segment with more bytes in the file than in memory.
    #[error(
        "The kernel's segment at {address:#x} has {in_file:#x} bytes in the file, but only {in_memory:#x} in memory: the file is damaged"
    )]
    SegmentSize {
        /// Physical address.
        address: u64,
        /// `p_filesz`.
        in_file: u64,
        /// `p_memsz`.
        in_memory: u64,
    },
    /// A segment below 1 MiB, where the loader keeps its own tables.
    #[error(
        "The kernel's segment at {address:#x} is below 1 MiB, where its boot parameters lie: link it at 0x100000 or above"
    )]
    SegmentTooLow {
        /// Physical address.
        address: u64,
    },
    /// A segment past the end of memory.
    #[error(
        "The kernel's segment at {address:#x}, {size:#x} bytes, does not fit into {memory:#x} bytes of guest memory: give the guest more"
    )]
    SegmentOutOfRange {
        /// Physical address.
        address: u64,
        /// Bytes in memory.
        size: u64,
        /// Bytes of guest memory.
        memory: u64,
    },
    /// Two segments claim the same memory.
    #[error(
        "The kernel's segments at {first:#x} and {second:#x} overlap: the file is damaged, or was linked wrongly"
    )]
    SegmentsOverlap {
        /// Physical address of the lower one.
        first: u64,
        /// Physical address of the other.
        second: u64,
    },
    /// The entry point is not inside a loaded segment.
    #[error(
        "The kernel's entry point {entry:#x} is in none of its segments; it must be a physical address"
    )]
    EntryOutside {
        /// `e_entry`.
        entry: u64,
    },
    /// A bzImage that does not fit.
    #[error(
        "The kernel unpacks itself between {start:#x} and {end:#x}, past the guest's {memory:#x} bytes of memory: give the guest more"
    )]
    KernelOutOfRange {
        /// Where it is loaded.
        start: u64,
        /// First address after what it needs.
        end: u64,
        /// Bytes of guest memory.
        memory: u64,
    },
    /// A bzImage from before there was a 64-bit entry point.
    #[error(
        "The kernel speaks boot protocol {major}.{minor:02}; lockstep needs 2.12 or later, which Linux has since 3.8"
    )]
    BootProtocolTooOld {
        /// Before the point.
        major: u16,
        /// After the point.
        minor: u16,
    },
    /// A 32-bit kernel.
    #[error(
        "The kernel has no 64-bit entry point: give an x86-64 kernel, or an ELF file with a PVH entry point and --boot pvh"
    )]
    No64BitEntry,
    /// No PVH note.
    #[error(
        "The kernel has no PVH entry point (an ELF note of Xen's, of type 18; a bzImage has none): use --boot linux64, or build Linux with CONFIG_PVH and give its `vmlinux`"
    )]
    NoPvhEntry,
    /// Nobody can find the time-stamp reads of this kernel.
    #[error(
        "The kernel is {what}, so its time-stamp reads cannot be found and made to trap, as this engine needs it: use --engine soft, or give an uncompressed 64-bit `vmlinux`"
    )]
    NotRewritable {
        /// What hides them.
        what: &'static str,
    },
    /// `linux-loader` could not load it.
    #[error("Cannot load the kernel into guest memory: is the file damaged?")]
    Loader(#[from] linux_loader::loader::Error),

    /// Without section headers nobody can tell code from data.
    #[error(
        "The kernel has no executable sections, so its time-stamp reads cannot be found and made to trap: give a `vmlinux` that was not stripped of its section headers"
    )]
    NoSections,
    /// Two executable sections share bytes of the file.
    #[error(
        "The kernel's executable sections at {first:#x} and {second:#x} overlap: the file is damaged"
    )]
    SectionsOverlap {
        /// Address of the one that begins first in the file.
        first: u64,
        /// Address of the other.
        second: u64,
    },
    /// A possible `rdtsc` or `rdtscp` that may be one, or may be part of another instruction.
    #[error(
        "Cannot tell whether the bytes at {address:#x} ({symbol}) are a time-stamp read: {why}. lockstep rewrites a kernel only where it is certain; build the kernel without that code"
    )]
    AmbiguousSite {
        /// Address at which the kernel was linked.
        address: u64,
        /// Nearest symbol before it, and the distance.
        symbol: String,
        /// Which views of it there are.
        why: String,
    },

    /// The initial RAM disk is empty.
    #[error("The initial RAM disk is empty: give a file with content, or none")]
    InitrdEmpty,
    /// No room for the initial RAM disk.
    #[error(
        "The initial RAM disk ({size} bytes) does not fit between the kernel's end ({kernel_end:#x}) and {limit:#x}: give the guest more memory"
    )]
    InitrdTooLarge {
        /// Bytes of the file.
        size: u64,
        /// First address after the kernel.
        kernel_end: u64,
        /// It must end here.
        limit: u64,
    },
    /// Too long a command line.
    #[error("The kernel command line has {length} bytes; Linux takes at most {limit}: shorten it")]
    CommandLineTooLong {
        /// Its length.
        length: usize,
        /// Linux's limit, without the final NUL.
        limit: usize,
    },
    /// A byte that may not stand in a command line.
    #[error(
        "The kernel command line has the byte {byte:#04x} at position {position}: only printable ASCII is allowed"
    )]
    CommandLineByte {
        /// The byte.
        byte: u8,
        /// Counted from 0.
        position: usize,
    },

    /// `linux-loader` could not write the zero page.
    #[error("Cannot write the boot parameters to guest memory")]
    ZeroPage(#[from] linux_loader::configurator::Error),
    /// Guest memory refused a write that was checked before.
    #[error("Cannot write {what} to guest memory")]
    Write {
        /// Of what.
        what: &'static str,
        /// What `vm-memory` says.
        source: vm_memory::GuestMemoryError,
    },
}
