//! Kernels that are entered through PVH.

use linux_loader::loader::elf::start_info::{
    hvm_memmap_table_entry, hvm_modlist_entry, hvm_start_info,
};

use super::*;

/// The entry point is a few bytes past the ELF file's own.
fn guest_with_note() -> TestElf {
    guest().pvh_note(&(BASE as u32 + 3).to_le_bytes())
}

fn load_by(
    memory: &GuestMemory,
    kernel: Vec<u8>,
    protocol: BootProtocol,
) -> Result<Loaded, BootError> {
    let images = BootImages {
        protocol,
        ..images(kernel)
    };
    load(memory, &images, &SEED, TscRewrite::Leave)
}

fn read<T: ByteValued>(memory: &GuestMemory, at: u64) -> T {
    memory.read_obj(GuestAddress(at)).unwrap()
}

#[test]
fn the_vcpu_begins_in_32_bit_protected_mode_without_paging() {
    let memory = memory(16 * MIB);
    let state = load_by(&memory, guest_with_note().build(), BootProtocol::Pvh)
        .unwrap()
        .state;
    assert_eq!((state.rip, state.rbx, state.rsi), (BASE + 3, 0x3000, 0));
    assert_eq!(
        (state.cr0, state.cr3, state.cr4, state.efer, state.rflags),
        (0x11, 0, 0, 0, 2)
    );
    assert!(!state.code.long && state.code.default_32);
    assert_eq!(
        (
            state.code.base,
            state.code.limit,
            state.data.base,
            state.data.limit
        ),
        (0, u32::MAX, 0, u32::MAX)
    );
    assert_eq!(
        (state.tss.base, state.tss.limit, state.tss.type_),
        (0, 0x67, 0xB)
    );
    let gdt = words(&memory, state.gdt_base, 6);
    let [code, data, task] = [
        0x00CF_9B00_0000_FFFF,
        0x00CF_9300_0000_FFFF,
        0x8B00_0000_0067,
    ];
    assert_eq!(gdt, [0, 0, code, data, task, 0]);
}

#[test]
fn the_start_info_tells_memory_command_line_and_initrd() {
    let memory = memory(16 * MIB);
    let loaded = load_by(&memory, guest_with_note().build(), BootProtocol::Pvh).unwrap();
    let info: hvm_start_info = read(&memory, loaded.state.rbx);
    let expected = hvm_start_info {
        magic: 0x336E_C578,
        version: 1,
        flags: 0,
        nr_modules: 1,
        modlist_paddr: 0x3040,
        cmdline_paddr: 0x2_0000,
        rsdp_paddr: 0,
        memmap_paddr: 0x3080,
        memmap_entries: 2,
        reserved: 0,
    };
    assert_eq!(info, expected);
    let part = |index: u64| {
        let entry: hvm_memmap_table_entry = read(&memory, 0x3080 + index * 24);
        (entry.addr, entry.size, entry.type_, entry.reserved)
    };
    assert_eq!(
        [part(0), part(1)],
        [(0, 0x9_FC00, 1, 0), (MIB, 15 * MIB, 1, 0)]
    );
    let module: hvm_modlist_entry = read(&memory, info.modlist_paddr);
    assert_eq!(
        (Some(module.paddr), module.size),
        (loaded.initrd_start, 6000)
    );
    assert_eq!((module.cmdline_paddr, module.reserved), (0, 0));
    assert_eq!(bytes(&memory, 0x2_0000, 21), b"console=ttyS0 quiet \0");
}

#[test]
fn without_an_initrd_there_is_no_module() {
    let images = BootImages {
        kernel: guest_with_note().build(),
        protocol: BootProtocol::Pvh,
        ..BootImages::default()
    };
    let memory = memory(16 * MIB);
    load(&memory, &images, &SEED, TscRewrite::Rewrite).unwrap();
    let info: hvm_start_info = read(&memory, 0x3000);
    assert_eq!((info.nr_modules, info.modlist_paddr), (0, 0));
    assert_eq!(bytes(&memory, 0x3040, 32), [0; 32]);
}

#[test]
fn memory_is_zero_elsewhere() {
    let memory = memory(16 * MIB);
    load_by(&memory, guest_with_note().build(), BootProtocol::Pvh).unwrap();
    let used = [0x1000..0x1030, 0x3000..0x30B0, 0x2_0000..0x2_0014];
    let low = bytes(&memory, 0, BASE as usize);
    let stray =
        |(at, byte): &(usize, u8)| *byte != 0 && !used.iter().any(|range| range.contains(at));
    assert_eq!(low.into_iter().enumerate().find(stray), None);
}

#[test]
fn a_kernel_with_both_entries_is_entered_as_asked() {
    let rip = |protocol| {
        let loaded = load_by(&memory(16 * MIB), guest_with_note().build(), protocol).unwrap();
        (loaded.state.rip, loaded.state.code.long)
    };
    assert_eq!(rip(BootProtocol::Auto), (BASE, true));
    assert_eq!(rip(BootProtocol::Linux64), (BASE, true));
    assert_eq!(rip(BootProtocol::Pvh), (BASE + 3, false));
}

#[test]
fn a_kernel_whose_only_physical_entry_is_pvh_is_entered_there() {
    let mut file = guest_with_note().build();
    file[24..32].copy_from_slice(&0xFFFF_FFFF_8000_0000_u64.to_le_bytes()); // e_entry
    let memory = memory(16 * MIB);
    let loaded = load_by(&memory, file.clone(), BootProtocol::Auto).unwrap();
    assert_eq!(loaded.state.rip, BASE + 3);
    let error = load_by(&memory, file, BootProtocol::Linux64).unwrap_err();
    assert!(matches!(error, BootError::EntryOutside { .. }));
}

#[test]
fn a_32_bit_kernel_is_entered_through_pvh_alone() {
    let file = guest_with_note().build_32();
    let memory = memory(16 * MIB);
    let loaded = load_by(&memory, file.clone(), BootProtocol::Auto).unwrap();
    assert_eq!(
        (loaded.state.rip, loaded.kernel_end),
        (BASE + 3, 2 * MIB + 0x1004)
    );
    assert_eq!(bytes(&memory, BASE, 4), [0x90, 0x0F, 0x31, 0xF4]);
    assert_eq!(bytes(&memory, 2 * MIB, 4), b"data");
    let error = load_by(&memory, file.clone(), BootProtocol::Linux64).unwrap_err();
    assert!(matches!(error, BootError::No64BitEntry));
    let error = load_into(16 * MIB, &images(file)).unwrap_err();
    assert!(error.to_string().contains("32-bit code"), "{error}");
}

#[test]
fn a_missing_or_impossible_entry_is_refused() {
    let by_pvh = |elf: TestElf| load_by(&memory(16 * MIB), elf.build(), BootProtocol::Pvh);
    assert!(matches!(by_pvh(guest()), Err(BootError::NoPvhEntry)));
    let outside = guest().pvh_note(&0x20_0004_u32.to_le_bytes());
    assert!(matches!(
        by_pvh(outside),
        Err(BootError::EntryOutside { entry: 0x20_0004 })
    ));
    for value in [&[0, 0, 0x10][..], &[0; 9], &[3, 0, 0x10, 0, 1, 0, 0, 0]] {
        assert!(matches!(
            by_pvh(guest().pvh_note(value)),
            Err(BootError::NoPvhEntry)
        ));
    }
    by_pvh(guest().pvh_note(&[3, 0, 0x10, 0, 0, 0, 0, 0])).unwrap();
    let neither = guest().build_32();
    let error = load_by(&memory(16 * MIB), neither, BootProtocol::Auto).unwrap_err();
    assert!(matches!(error, BootError::NoPvhEntry));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Damaged files of either class never panic, and begin inside of memory if at all.
    #[test]
    fn damaged_files_never_panic(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        length in any::<prop::sample::Index>(),
        is_64_bit in any::<bool>(),
        cut in any::<bool>(),
    ) {
        let elf = guest_with_note();
        let mut file = if is_64_bit { elf.build() } else { elf.build_32() };
        for (at, value) in &changes {
            let at = at.index(file.len());
            file[at] = *value;
        }
        if cut {
            file.truncate(length.index(file.len()));
        }
        match load_by(&memory(4 * MIB), file, BootProtocol::Pvh) {
            Ok(loaded) => prop_assert!((BASE..4 * MIB).contains(&loaded.state.rip)),
            Err(error) => prop_assert!(!error.to_string().is_empty()),
        }
    }
}
