//! Writes small bzImages for the tests of the loader.

use linux_loader::loader::bootparam::setup_header;
use vm_memory::ByteValued;

/// Where the setup header stands in the file.
pub const HEADER: usize = 0x1F1;
/// Where [`build`]'s protected-mode code begins in the file: after the boot sector and two more.
pub const CODE: usize = 3 * 512;

/// A header that asks for little: at 2 MiB, 1 MiB of room.
pub fn header() -> setup_header {
    setup_header {
        setup_sects: 2,
        boot_flag: 0xAA55,
        // jmp to the header's end, which is 0x26C.
        jump: 0x6AEB,
        header: u32::from_le_bytes(*b"HdrS"),
        version: 0x020F,
        loadflags: 1,
        vid_mode: 0xFFFF,
        initrd_addr_max: 0x7FFF_FFFF,
        kernel_alignment: 0x20_0000,
        relocatable_kernel: 1,
        xloadflags: 1,
        cmdline_size: 2047,
        pref_address: 2 << 20,
        init_size: 1 << 20,
        ..setup_header::default()
    }
}

/// A file with this header, but for its `syssize`, and this protected-mode code.
pub fn build(header: &setup_header, code: &[u8]) -> Vec<u8> {
    let sectors = match header.setup_sects {
        0 => 4,
        sectors => usize::from(sectors),
    };
    let code_start = (sectors + 1) * 512;
    let mut file = vec![0xCC; code_start];
    let header = setup_header {
        syssize: u32::try_from(code.len().div_ceil(16)).unwrap(),
        ..*header
    };
    file[HEADER..HEADER + size_of::<setup_header>()].copy_from_slice(header.as_slice());
    file.extend_from_slice(code);
    file
}
