//! A Linux kernel as distributions ship it: a `bzImage`, which unpacks itself (boot.rst, "The Real-Mode Kernel Header", "Loading The
//! Rest of The Kernel", "64-bit Boot Protocol").
//!
//! In: the bytes of the file. Out: its 64-bit part in guest memory, at the address that it prefers, and its setup header for the zero page. What
//! always holds: all that the kernel needs until it knows the memory map (`init_size`) lies above 1 MiB and inside
//! guest memory. Nothing in the file is changed.

use std::io::Cursor;

use crate::machine::GuestMemory;
use linux_loader::loader::bootparam::setup_header;
use linux_loader::loader::{self, KernelLoader};
use vm_memory::{ByteValued, GuestAddress};

use super::{BootError, HIGH_MEMORY_START};

/// `setup_sects`, the header's first field, and with it the header.
const HEADER: usize = 0x1F1;
/// The second byte of `jump`, the distance from [`JUMP_END`] to the header's end.
const JUMP_DISTANCE: usize = 0x201;
const JUMP_END: usize = 0x202;
/// `handover_offset` ends here: the last field of protocol 2.12.
const HEADER_END_MIN: usize = 0x268;
const MAGIC: &[u8] = b"HdrS";
/// The first version with `xloadflags`: Linux 3.8.
const VERSION_MIN: u16 = 0x020C;
/// `loadflags`: the protected-mode code is loaded at 1 MiB or above.
const LOADED_HIGH: u8 = 1 << 0;
/// `xloadflags`: there is a 64-bit entry point at [`ENTRY_OFFSET`].
const XLF_KERNEL_64: u16 = 1 << 0;
/// From the load address to the 64-bit entry point.
const ENTRY_OFFSET: u64 = 0x200;
const SECTOR: usize = 512;
/// `setup_sects` where the field says 0.
const SETUP_SECTORS_DEFAULT: u8 = 4;
/// `syssize` counts paragraphs.
const PARAGRAPH: u64 = 16;

/// The headers of a bzImage of the right kind.
pub struct BzImage {
    header: setup_header,
    load_address: u64,
    /// First address after all that the kernel needs.
    end: u64,
}

/// Whether the file claims to be a Linux kernel image.
pub fn has_magic(image: &[u8]) -> bool {
    image.get(JUMP_END..JUMP_END + MAGIC.len()) == Some(MAGIC)
}

impl BzImage {
    /// Reads the header and checks all that can be checked without knowing the guest's memory.
    pub fn parse(image: &[u8]) -> Result<Self, BootError> {
        let header = read_header(image)?;
        check_kind(&header)?;
        let protected_mode = check_length(&header, image)?;
        let (load_address, end) = layout(&header, protected_mode).ok_or(BootError::Malformed {
            part: "setup header",
            source: None,
        })?;
        Ok(Self {
            header,
            load_address,
            end,
        })
    }

    /// The setup header as it stands in the file, but for the load address.
    pub fn header(&self) -> setup_header {
        setup_header {
            code32_start: u32::try_from(self.load_address).expect("it fits into guest memory"),
            ..self.header
        }
    }

    /// Where execution begins.
    pub fn entry(&self) -> u64 {
        self.load_address + ENTRY_OFFSET
    }

    /// First address after all that the kernel needs, if that fits into memory that ends at `memory_end`.
    pub fn check_fits(&self, memory_end: u64) -> Result<u64, BootError> {
        if self.end > memory_end {
            return Err(BootError::KernelOutOfRange {
                start: self.load_address,
                end: self.end,
                memory: memory_end,
            });
        }
        Ok(self.end)
    }

    /// Copies the protected-mode part of `image`, which this was parsed from, to its place. It was found to fit.
    pub fn load(&self, memory: &GuestMemory, image: &[u8]) -> Result<(), BootError> {
        loader::BzImage::load(
            memory,
            Some(GuestAddress(self.load_address)),
            &mut Cursor::new(image),
            None,
        )?;
        Ok(())
    }
}

/// The setup header, as long as the file says it is; fields past its end are 0.
fn read_header(image: &[u8]) -> Result<setup_header, BootError> {
    let malformed = BootError::Malformed {
        part: "setup header",
        source: None,
    };
    let end = JUMP_END + usize::from(image.get(JUMP_DISTANCE).copied().unwrap_or_default());
    let Some(bytes) = image.get(HEADER..end) else {
        return Err(malformed);
    };
    let mut header = setup_header::default();
    let known = bytes.len().min(size_of::<setup_header>());
    header.as_mut_slice()[..known].copy_from_slice(&bytes[..known]);
    // An old kernel's header is short: its version says more than its length.
    if header.version >= VERSION_MIN && end < HEADER_END_MIN {
        return Err(malformed);
    }
    Ok(header)
}

fn check_kind(header: &setup_header) -> Result<(), BootError> {
    let version = header.version;
    if version < VERSION_MIN {
        return Err(BootError::BootProtocolTooOld {
            major: version >> 8,
            minor: version & 0xFF,
        });
    }
    if header.loadflags & LOADED_HIGH == 0 || header.xloadflags & XLF_KERNEL_64 == 0 {
        return Err(BootError::No64BitEntry);
    }
    Ok(())
}

/// Bytes after the real-mode part, which must be as many as the header says; a signature may follow.
fn check_length(header: &setup_header, image: &[u8]) -> Result<u64, BootError> {
    let sectors = match header.setup_sects {
        0 => SETUP_SECTORS_DEFAULT,
        sectors => sectors,
    };
    let real_mode = (usize::from(sectors) + 1) * SECTOR;
    let rest = image.len().saturating_sub(real_mode) as u64;
    let wanted = u64::from(header.syssize) * PARAGRAPH;
    // The file's last paragraph need not be whole.
    if rest <= ENTRY_OFFSET || rest + PARAGRAPH <= wanted {
        return Err(BootError::Malformed {
            part: "protected-mode code",
            source: None,
        });
    }
    Ok(rest)
}

/// Load address, and first address after what the kernel needs; `None` if the fields make no sense.
fn layout(header: &setup_header, protected_mode: u64) -> Option<(u64, u64)> {
    // boot.rst, `pref_address`: any kernel moves itself there, so nobody gains by another place.
    let load_address = match header.pref_address {
        0 => HIGH_MEMORY_START,
        address => address,
    };
    // boot.rst, `init_size`: a relocatable kernel runs at the next multiple of its alignment.
    let start = match (
        header.relocatable_kernel,
        u64::from(header.kernel_alignment),
    ) {
        (0, _) => load_address,
        (_, alignment) if alignment.is_power_of_two() => {
            load_address.checked_next_multiple_of(alignment)?
        }
        _ => return None,
    };
    let end = start.checked_add(header.init_size.into())?;
    let end = end.max(load_address.checked_add(protected_mode)?);
    (load_address >= HIGH_MEMORY_START).then_some((load_address, end))
}
