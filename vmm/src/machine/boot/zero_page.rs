//! Boot parameters: the zero page (boot.rst, "64-bit Boot Protocol"; Linux, `Documentation/x86/zero-page.rst`), and what
//! it points at: memory map, command line, initial RAM disk, random seed.

use linux_loader::configurator::linux::LinuxBootConfigurator;
use linux_loader::configurator::{BootConfigurator, BootParams};
use linux_loader::loader::bootparam::{SETUP_RNG_SEED, boot_e820_entry, boot_params, setup_header};
use vm_memory::{Bytes, GuestAddress};

use super::{BootError, PAGE_SIZE, usable_memory};
use crate::machine::GuestMemory;

/// Where the zero page lies.
pub const ADDRESS: u64 = 0x7000;
const SETUP_DATA: u64 = 0x2000;
/// Where the command line lies, whatever the protocol.
pub const COMMAND_LINE: u64 = 0x2_0000;
/// `COMMAND_LINE_SIZE` of Linux on x86, without the final NUL.
pub const COMMAND_LINE_MAX: usize = 2047;
/// boot.rst, `initrd_addr_max`: an initial RAM disk ends below 2 GiB, unless the kernel's header says lower.
pub const INITRD_LIMIT: u64 = 0x8000_0000;

// boot.rst, "Details of Header Fields".
const BOOT_FLAG: u16 = 0xAA55;
const HEADER_MAGIC: u32 = u32::from_le_bytes(*b"HdrS");
const PROTOCOL_VERSION: u16 = 0x020F;
const LOADER_UNDEFINED: u8 = 0xFF;
const LOADED_HIGH: u8 = 1;
const E820_RAM: u32 = 1;

/// An initial RAM disk in guest memory.
#[derive(Clone, Copy)]
pub struct Initrd {
    /// Its address.
    pub start: u64,
    /// Bytes.
    pub size: u64,
}

/// Puts the initial RAM disk as high as it may lie between the kernel's end and `limit`, on a page boundary.
pub fn load_initrd(
    memory: &GuestMemory,
    content: Option<&[u8]>,
    kernel_end: u64,
    limit: u64,
) -> Result<Option<Initrd>, BootError> {
    let Some(content) = content else {
        return Ok(None);
    };
    if content.is_empty() {
        return Err(BootError::InitrdEmpty);
    }
    let size = content.len() as u64;
    let start = limit
        .checked_sub(size)
        .map(|start| start & !(PAGE_SIZE - 1))
        .filter(|start| *start >= kernel_end)
        .ok_or(BootError::InitrdTooLarge {
            size,
            kernel_end,
            limit,
        })?;
    write_bytes(memory, content, start, "the initial RAM disk")?;
    Ok(Some(Initrd { start, size }))
}

/// Writes the command line. It is not brought into a canonical form (as `linux_loader::cmdline` would), because both
/// replicas must see what their identities say, and Linux takes randomness from every byte.
pub fn write_command_line(memory: &GuestMemory, text: &str, limit: usize) -> Result<(), BootError> {
    if text.len() > limit {
        return Err(BootError::CommandLineTooLong {
            length: text.len(),
            limit,
        });
    }
    let forbidden = |byte: &u8| !matches!(byte, b' '..=b'~');
    if let Some(position) = text.as_bytes().iter().position(forbidden) {
        return Err(BootError::CommandLineByte {
            byte: text.as_bytes()[position],
            position,
        });
    }
    // The final NUL is there already: memory is zero.
    write_bytes(memory, text.as_bytes(), COMMAND_LINE, "the command line")
}

/// The setup header of a kernel whose file has none: an ELF file. It promises nothing.
pub fn plain_header() -> setup_header {
    setup_header {
        boot_flag: BOOT_FLAG,
        header: HEADER_MAGIC,
        version: PROTOCOL_VERSION,
        loadflags: LOADED_HIGH,
        initrd_addr_max: INITRD_LIMIT as u32 - 1,
        cmdline_size: COMMAND_LINE_MAX as u32,
        ..setup_header::default()
    }
}

/// Writes the random seed, and the zero page with `kernel`, the kernel's own setup header, filled in.
pub fn write(
    memory: &GuestMemory,
    memory_end: u64,
    kernel: &setup_header,
    initrd: Option<Initrd>,
    rng_seed: &[u8; 32],
) -> Result<(), BootError> {
    write_bytes(
        memory,
        &setup_data(SETUP_RNG_SEED, rng_seed),
        SETUP_DATA,
        "the random seed",
    )?;
    let mut page = boot_params {
        hdr: filled_in(kernel, initrd),
        ..boot_params::default()
    };
    let usable = usable_memory(memory_end);
    for (entry, (start, end)) in page.e820_table.iter_mut().zip(usable) {
        *entry = boot_e820_entry {
            addr: start,
            size: end - start,
            r#type: E820_RAM,
        };
    }
    page.e820_entries = usable.len() as u8;
    let page = BootParams::new(&page, GuestAddress(ADDRESS));
    LinuxBootConfigurator::write_bootparams(&page, memory).map_err(BootError::from)
}

/// What a loader has to write into the header (boot.rst, "Details of Header Fields").
fn filled_in(kernel: &setup_header, initrd: Option<Initrd>) -> setup_header {
    // They fit: guest memory ends below 3 GiB.
    let narrow = |value: u64| u32::try_from(value).expect("below 4 GiB");
    setup_header {
        type_of_loader: LOADER_UNDEFINED,
        ramdisk_image: initrd.map_or(0, |initrd| narrow(initrd.start)),
        ramdisk_size: initrd.map_or(0, |initrd| narrow(initrd.size)),
        cmd_line_ptr: narrow(COMMAND_LINE),
        setup_data: SETUP_DATA,
        ..*kernel
    }
}

/// `struct setup_data`, the last of its list (boot.rst, `setup_data`).
fn setup_data(kind: u32, data: &[u8]) -> Vec<u8> {
    let length = u32::try_from(data.len()).expect("a few bytes");
    let mut bytes = Vec::with_capacity(16 + data.len());
    bytes.extend_from_slice(&0u64.to_le_bytes());
    bytes.extend_from_slice(&kind.to_le_bytes());
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(data);
    bytes
}

fn write_bytes(
    memory: &GuestMemory,
    bytes: &[u8],
    at: u64,
    what: &'static str,
) -> Result<(), BootError> {
    memory
        .write_slice(bytes, GuestAddress(at))
        .map_err(|source| BootError::Write { what, source })
}
