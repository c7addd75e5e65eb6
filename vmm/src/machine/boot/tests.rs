//! Loading whole guests: what lies in memory afterwards, and what is refused.

mod bz_image;
mod pvh;

use linux_loader::loader::bootparam::boot_params;
use proptest::prelude::*;
use vm_memory::{ByteValued, Bytes};

use super::test_elf::{PROGRAM_HEADERS, TestElf};
use super::*;

const BASE: u64 = 0x10_0000;
const MIB: u64 = 1 << 20;
const SEED: [u8; 32] = [0x5E; 32];

fn memory(bytes: u64) -> GuestMemory {
    GuestMemory::from_ranges(&[(GuestAddress(0), usize::try_from(bytes).unwrap())]).unwrap()
}

fn bytes(memory: &GuestMemory, at: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    memory.read_slice(&mut bytes, GuestAddress(at)).unwrap();
    bytes
}

fn words(memory: &GuestMemory, at: u64, count: usize) -> Vec<u64> {
    bytes(memory, at, count * 8)
        .chunks(8)
        .map(|word| u64::from_le_bytes(word.try_into().unwrap()))
        .collect()
}

fn zero_page(memory: &GuestMemory) -> boot_params {
    *boot_params::from_slice(&bytes(memory, 0x7000, 4096)).unwrap_or(&boot_params::default())
}

/// nop; rdtsc; hlt at 1 MiB, data with some zeros at 2 MiB.
fn guest() -> TestElf {
    TestElf::code(BASE, &[0x90, 0x0F, 0x31, 0xF4])
        .function("start", BASE)
        .data(2 * MIB, b"data", 0x1000)
}

fn images(kernel: Vec<u8>) -> BootImages {
    BootImages {
        kernel,
        protocol: BootProtocol::Auto,
        initrd: Some(b"initrd".repeat(1000)),
        command_line: "console=ttyS0 quiet ".into(),
    }
}

fn load_into(bytes: u64, images: &BootImages) -> Result<Loaded, BootError> {
    load(&memory(bytes), images, &SEED, TscRewrite::Rewrite)
}

fn refusal(kernel: Vec<u8>) -> BootError {
    load_into(16 * MIB, &images(kernel)).unwrap_err()
}

#[test]
fn segments_lie_where_their_headers_say() {
    let memory = memory(16 * MIB);
    let loaded = load(
        &memory,
        &images(guest().build()),
        &SEED,
        TscRewrite::Rewrite,
    )
    .unwrap();
    assert_eq!(bytes(&memory, BASE, 4), [0x90, 0xE5, 0xEE, 0xF4]);
    assert_eq!(bytes(&memory, 2 * MIB, 6), *b"data\0\0");
    assert_eq!((loaded.tsc_sites, loaded.kernel_end), (1, 2 * MIB + 0x1004));
}

#[test]
fn engines_that_trap_get_the_kernel_as_it_is() {
    let memory = memory(16 * MIB);
    let loaded = load(&memory, &images(guest().build()), &SEED, TscRewrite::Leave).unwrap();
    assert_eq!(bytes(&memory, BASE, 4), [0x90, 0x0F, 0x31, 0xF4]);
    assert_eq!(loaded.tsc_sites, 0);
}

#[test]
fn the_zero_page_tells_memory_command_line_and_initrd() {
    let memory = memory(16 * MIB);
    let images = images(guest().build());
    let loaded = load(&memory, &images, &SEED, TscRewrite::Rewrite).unwrap();
    let page = zero_page(&memory);
    let header = page.hdr;
    assert_eq!({ header.boot_flag }, 0xAA55);
    assert_eq!({ header.header }.to_le_bytes(), *b"HdrS");
    assert_eq!(page.e820_entries, 2);
    let map = page.e820_table[..3]
        .iter()
        .map(|entry| (entry.addr, entry.size, entry.r#type))
        .collect::<Vec<_>>();
    assert_eq!(map, [(0, 0x9_FC00, 1), (MIB, 15 * MIB, 1), (0, 0, 0)]);

    let text = bytes(
        &memory,
        u64::from(header.cmd_line_ptr),
        images.command_line.len() + 1,
    );
    assert_eq!(text, [images.command_line.as_bytes(), b"\0"].concat());

    let start = u64::from(header.ramdisk_image);
    assert_eq!(loaded.initrd_start, Some(start));
    assert_eq!(start, 16 * MIB - 0x2000, "6,000 bytes in two pages");
    assert_eq!(bytes(&memory, start, 6000), b"initrd".repeat(1000));
    assert_eq!({ header.ramdisk_size }, 6000);
}

#[test]
fn the_seed_is_the_only_setup_data() {
    let memory = memory(16 * MIB);
    load(
        &memory,
        &images(guest().build()),
        &SEED,
        TscRewrite::Rewrite,
    )
    .unwrap();
    let at = zero_page(&memory).hdr.setup_data;
    assert_eq!(words(&memory, at, 2), [0, 32 << 32 | 9]);
    assert_eq!(bytes(&memory, at + 16, 32), SEED);
}

#[test]
fn the_vcpu_begins_in_64_bit_mode() {
    let memory = memory(16 * MIB);
    let state = load(
        &memory,
        &images(guest().build()),
        &SEED,
        TscRewrite::Rewrite,
    )
    .unwrap()
    .state;
    assert_eq!((state.rip, state.rsi, state.rflags), (BASE, 0x7000, 2));
    assert_eq!(
        (state.cr0 & 0x8000_0001, state.cr4 & 0x20, state.efer),
        (0x8000_0001, 0x20, 0x500)
    );
    assert_eq!((state.code.selector, state.data.selector), (0x10, 0x18));
    assert!(state.code.long && !state.code.default_32);
    let gdt = words(&memory, state.gdt_base, 6);
    assert_eq!(
        gdt,
        [
            0,
            0,
            0x00AF_9B00_0000_FFFF,
            0x00CF_9300_0000_FFFF,
            0x0000_8B00_1080_0067,
            0
        ]
    );
    assert_eq!(usize::from(state.gdt_limit) + 1, gdt.len() * 8);
}

#[test]
fn four_gib_are_mapped_one_to_one() {
    let memory = memory(16 * MIB);
    let state = load(
        &memory,
        &images(guest().build()),
        &SEED,
        TscRewrite::Rewrite,
    )
    .unwrap()
    .state;
    let entry = |table: u64, index: u64| words(&memory, (table & !0xFFF) + index * 8, 1)[0];
    for address in [
        0,
        BASE,
        0x7000,
        0x3FFF_FFFF,
        0x4000_0000,
        0xD000_0000,
        0xFFFF_FFFF,
    ] {
        let directory = entry(entry(state.cr3, 0), address >> 30);
        let page = entry(directory, address >> 21 & 0x1FF);
        assert_eq!(
            page,
            address & !0x1F_FFFF | 0xE3,
            "present, writable, accessed, dirty, 2 MiB: {address:#x}"
        );
    }
    assert_eq!(entry(state.cr3, 1), 0);
    assert_eq!(entry(entry(state.cr3, 0), 4), 0);
}

#[test]
fn memory_is_a_function_of_the_images_and_zero_elsewhere() {
    let load = || {
        let memory = memory(16 * MIB);
        load(
            &memory,
            &images(guest().build()),
            &SEED,
            TscRewrite::Rewrite,
        )
        .unwrap();
        bytes(&memory, 0, 16 << 20)
    };
    let content = load();
    assert!(content == load());
    // As the figure in the module's documentation has it.
    let used = [
        0x1000..0x1030,
        0x2000..0x2030,
        0x7000..0x8000,
        0x9000..0xF000,
        0x2_0000..0x2_0800,
    ];
    let low = content.iter().take(BASE as usize).enumerate();
    let stray = low
        .filter(|(at, byte)| **byte != 0 && !used.iter().any(|range| range.contains(at)))
        .map(|(at, _)| at);
    assert_eq!(stray.collect::<Vec<_>>(), Vec::<usize>::new());
    let high = content
        .iter()
        .skip(BASE as usize)
        .filter(|byte| **byte != 0)
        .count();
    assert_eq!(high, 4 + 4 + 6000);
}

#[test]
fn a_guest_without_initrd_and_command_line_boots_too() {
    let images = BootImages {
        kernel: guest().build(),
        ..BootImages::default()
    };
    let memory = memory(4 * MIB);
    assert_eq!(
        load(&memory, &images, &SEED, TscRewrite::Rewrite)
            .unwrap()
            .initrd_start,
        None
    );
    let header = zero_page(&memory).hdr;
    assert_eq!(
        ({ header.ramdisk_image }, { header.ramdisk_size }, {
            header.initrd_addr_max
        }),
        (0, 0, 0x7FFF_FFFF)
    );
}

#[test]
fn memory_of_another_shape_is_refused() {
    let kernel = images(guest().build());
    let two =
        GuestMemory::from_ranges(&[(GuestAddress(0), 4 << 20), (GuestAddress(8 << 20), 4 << 20)])
            .unwrap();
    let load = |memory| load(&memory, &kernel, &SEED, TscRewrite::Rewrite);
    assert!(matches!(
        load(two),
        Err(BootError::MemoryShape { regions: 2 })
    ));
    let high = GuestMemory::from_ranges(&[(GuestAddress(MIB), 4 << 20)]).unwrap();
    assert!(matches!(load(high), Err(BootError::MemoryShape { .. })));
    assert!(matches!(
        load(memory(MIB)),
        Err(BootError::MemoryTooSmall { .. })
    ));
    assert!(matches!(
        load(memory((3 << 30) + 0x1000)),
        Err(BootError::MemoryTooLarge { .. })
    ));
    assert!(load(memory(3 << 30)).is_ok());
}

#[test]
fn an_initrd_ends_below_two_gib_and_above_the_kernel() {
    let mut images = images(guest().build());
    assert_eq!(
        load_into(3 << 30, &images).unwrap().initrd_start,
        Some(0x8000_0000 - 0x2000)
    );
    images.initrd = Some(vec![1; 2 << 20]);
    assert!(matches!(
        load_into(4 * MIB, &images),
        Err(BootError::InitrdTooLarge { .. })
    ));
    images.initrd = Some(vec![1; 5 << 20]);
    assert!(matches!(
        load_into(4 * MIB, &images),
        Err(BootError::InitrdTooLarge { .. })
    ));
    images.initrd = Some(vec![]);
    assert!(matches!(
        load_into(4 * MIB, &images),
        Err(BootError::InitrdEmpty)
    ));
}

#[test]
fn command_lines_are_limited_to_what_linux_takes() {
    let mut images = images(guest().build());
    images.command_line = "x".repeat(2047);
    load_into(16 * MIB, &images).unwrap();
    images.command_line = "x".repeat(2048);
    assert!(matches!(
        load_into(16 * MIB, &images),
        Err(BootError::CommandLineTooLong {
            length: 2048,
            limit: 2047
        })
    ));
    for (text, position) in [("a\0b", 1), ("quiet ö", 6), ("a\n", 1), ("\x7F", 0)] {
        images.command_line = text.into();
        let error = load_into(16 * MIB, &images).unwrap_err();
        assert!(
            matches!(error, BootError::CommandLineByte { position: at, .. } if at == position),
            "{error}"
        );
    }
}

#[test]
fn files_of_another_kind_are_named() {
    assert!(refusal(vec![]).to_string().contains("empty"));
    assert!(refusal(vec![0x1F, 0x8B, 8]).to_string().contains("gzip"));
    assert!(
        refusal(b"#!/bin/sh".to_vec())
            .to_string()
            .contains("neither a bzImage nor an ELF file")
    );
    for (at, value, words) in [
        (4, 1, "another processor (class 1"),
        (5, 2, "little-endian"),
        (16, 3, "PIE"),
        (18, 0xB7, "another processor"),
    ] {
        let mut file = guest().build();
        file[at] = value;
        let text = refusal(file).to_string();
        assert!(text.contains(words), "{text}");
    }
}

#[test]
fn impossible_segments_are_refused() {
    let code: &[u8] = &[0x90; 16];
    let elf = TestElf::code;
    assert!(matches!(
        refusal(elf(0xF_F000, code).build()),
        BootError::SegmentTooLow { address: 0xF_F000 }
    ));
    assert!(matches!(
        refusal(elf(16 * MIB - 8, code).build()),
        BootError::SegmentOutOfRange { .. }
    ));
    assert!(matches!(
        refusal(elf(u64::MAX - 8, code).build()),
        BootError::SegmentOutOfRange { .. }
    ));
    let zeros = elf(BASE, code).data(2 * MIB, b"", 14 * MIB + 1);
    assert!(matches!(
        refusal(zeros.build()),
        BootError::SegmentOutOfRange { .. }
    ));
    let overlap = elf(BASE, code).data(BASE + 15, b"data", 0);
    assert!(matches!(
        refusal(overlap.build()),
        BootError::SegmentsOverlap { first: BASE, .. }
    ));
    let overlap = elf(3 * MIB, code).data(2 * MIB, b"data", 2 * MIB);
    assert!(matches!(
        refusal(overlap.build()),
        BootError::SegmentsOverlap { .. }
    ));
}

/// A file with one field of its first program header changed.
fn with_segment_field(offset: usize, value: u64) -> Vec<u8> {
    let mut file = guest().build();
    file[PROGRAM_HEADERS + offset..][..8].copy_from_slice(&value.to_le_bytes());
    file
}

#[test]
fn damaged_segments_are_refused() {
    let (p_offset, p_filesz, p_memsz) = (8, 32, 40);
    assert!(matches!(
        refusal(with_segment_field(p_offset, u64::MAX)),
        BootError::Malformed {
            part: "segments",
            ..
        }
    ));
    assert!(matches!(
        refusal(with_segment_field(p_offset, 1 << 40)),
        BootError::Malformed { .. }
    ));
    assert!(matches!(
        refusal(with_segment_field(p_filesz, 5)),
        BootError::SegmentSize { .. }
    ));
    assert!(matches!(
        refusal(with_segment_field(p_memsz, u64::MAX)),
        BootError::SegmentsOverlap { .. }
    ));
    let mut none = guest().build();
    none[56] = 0; // e_phnum
    assert!(matches!(refusal(none), BootError::NoSegments));
    let mut elsewhere = guest().build();
    elsewhere[24..32].copy_from_slice(&(BASE + 4).to_le_bytes()); // e_entry
    assert!(matches!(refusal(elsewhere), BootError::EntryOutside { .. }));
    let whole = guest().build();
    for length in 0..whole.len() {
        // Whatever is missing, and be it symbols: an error, no panic.
        let _ = load_into(4 * MIB, &images(whole[..length].to_vec()));
    }
}

#[test]
fn errors_tell_what_to_do() {
    let ambiguous = BootError::AmbiguousSite {
        address: 0xFFFF_FFFF_8100_0000,
        symbol: "f+0x1".into(),
        why: "why".into(),
    };
    for (error, advice) in [
        (
            BootError::NoSections,
            "give a `vmlinux` that was not stripped",
        ),
        (ambiguous, "build the kernel without that code"),
    ] {
        assert!(error.to_string().contains(advice), "{error}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Damaged files never panic, and what loads never writes outside the memory that it may.
    #[test]
    fn damaged_elf_files_never_panic(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        wide in proptest::option::of((any::<prop::sample::Index>(), any::<u64>())),
    ) {
        let mut file = guest().more_code(3 * MIB, &[0xB8, 0x0F, 0x31, 0, 0, 0xC3]).function("more", 3 * MIB).build();
        for (at, value) in &changes {
            let at = at.index(file.len());
            file[at] = *value;
        }
        if let Some((at, value)) = wide {
            let at = at.index(file.len() - 8);
            file[at..at + 8].copy_from_slice(&value.to_le_bytes());
        }
        match load_into(4 * MIB, &images(file)) {
            Ok(loaded) => prop_assert!(loaded.kernel_end <= 4 * MIB && loaded.state.rip >= BASE),
            Err(error) => prop_assert!(!error.to_string().is_empty()),
        }
    }

    /// Any code: sites are rewritten, or the file is refused; nothing else changes, and no read is left.
    #[test]
    fn any_code_is_rewritten_wholly_or_refused(pieces in proptest::collection::vec(piece(), 1..40)) {
        let code = pieces.concat();
        let elf = TestElf::code(BASE, &code).function("start", BASE);
        let file = elf.build();
        if let Ok(rewritten) = tsc_rewrite::rewrite(&file) {
            let again = tsc_rewrite::rewrite(&rewritten.image).expect("as certain as before");
            prop_assert_eq!(again.sites, 0);
            let start = elf.content_offset(0);
            let outside = |image: &[u8]| [&image[..start], &image[start + code.len()..]].concat();
            prop_assert_eq!(outside(&rewritten.image), outside(&file));
        }
    }
}

fn piece() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        Just(vec![0x0F, 0x31]),
        Just(vec![0x0F, 0x01, 0xF9]),
        Just(vec![0xB8, 0x0F, 0x31, 0x0F, 0x31]),
        Just(vec![0x66]),
        Just(vec![0xEB, 0xFD]),
        proptest::collection::vec(any::<u8>(), 1..4),
    ]
}
