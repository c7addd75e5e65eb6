//! Kernels that unpack themselves.

use linux_loader::loader::bootparam::setup_header;

use super::*;
use crate::machine::boot::test_bz_image::{self as bz, CODE, HEADER};

/// A protected-mode part of 0x1000 bytes, with `rdtsc` in it.
fn code() -> Vec<u8> {
    b"\x0F\x31code\x90\x90".repeat(0x200)
}

fn kernel() -> Vec<u8> {
    bz::build(&bz::header(), &code())
}

fn load_as_it_is(memory: &GuestMemory, kernel: Vec<u8>) -> Result<Loaded, BootError> {
    load(memory, &images(kernel), &SEED, TscRewrite::Leave)
}

fn refused(header: &setup_header) -> BootError {
    load_as_it_is(&memory(16 * MIB), bz::build(header, &code())).unwrap_err()
}

#[test]
fn the_64_bit_part_lies_where_the_kernel_prefers_and_is_entered_at_0x200() {
    let memory = memory(16 * MIB);
    let loaded = load_as_it_is(&memory, kernel()).unwrap();
    assert_eq!(bytes(&memory, 2 * MIB, 0x1000), code());
    assert_eq!(
        bytes(&memory, 2 * MIB - 1, 1),
        [0],
        "nothing of the real-mode part"
    );
    let state = loaded.state;
    assert_eq!(
        (state.rip, state.rsi, state.rbx),
        (2 * MIB + 0x200, 0x7000, 0)
    );
    assert!(state.code.long && state.efer == 0x500);
    assert_eq!((loaded.kernel_end, loaded.tsc_sites), (3 * MIB, 0));
}

#[test]
fn the_zero_page_has_the_kernels_header_with_the_loaders_fields_filled_in() {
    let memory = memory(16 * MIB);
    let loaded = load_as_it_is(&memory, kernel()).unwrap();
    let expected = setup_header {
        syssize: 0x100,
        type_of_loader: 0xFF,
        code32_start: 2 << 20,
        ramdisk_image: loaded.initrd_start.unwrap() as u32,
        ramdisk_size: 6000,
        cmd_line_ptr: 0x2_0000,
        setup_data: 0x2000,
        ..bz::header()
    };
    let page = zero_page(&memory);
    assert_eq!(page.hdr.as_slice(), expected.as_slice());
    assert_eq!(page.e820_entries, 2);
    assert_eq!(words(&memory, 0x2000, 2), [0, 32 << 32 | 9]);
    assert_eq!(bytes(&memory, 0x2010, 32), SEED);
}

#[test]
fn a_header_that_ends_early_is_not_read_past_its_end() {
    let header = setup_header {
        jump: 0x66EB, // to 0x268
        version: 0x020C,
        kernel_info_offset: 0x1234_5678,
        ..bz::header()
    };
    let memory = memory(16 * MIB);
    load_as_it_is(&memory, bz::build(&header, &code())).unwrap();
    assert_eq!({ zero_page(&memory).hdr.kernel_info_offset }, 0);
    let shorter = setup_header {
        jump: 0x65EB,
        ..header
    };
    assert!(matches!(
        refused(&shorter),
        BootError::Malformed {
            part: "setup header",
            ..
        }
    ));
}

#[test]
fn the_initrd_leaves_the_room_in_which_the_kernel_unpacks_itself() {
    let header = setup_header {
        init_size: 13 << 20,
        ..bz::header()
    };
    let mut images = images(bz::build(&header, &code()));
    let load = |images: &BootImages| load(&memory(16 * MIB), images, &SEED, TscRewrite::Leave);
    images.initrd = Some(vec![1; 1 << 20]);
    let loaded = load(&images).unwrap();
    assert_eq!(
        (loaded.kernel_end, loaded.initrd_start),
        (15 * MIB, Some(15 * MIB))
    );
    images.initrd = Some(vec![1; (1 << 20) + 1]);
    assert!(
        matches!(load(&images), Err(BootError::InitrdTooLarge { kernel_end, .. }) if kernel_end == 15 * MIB)
    );

    let low = setup_header {
        initrd_addr_max: 0x7F_FFFF,
        ..bz::header()
    };
    images.kernel = bz::build(&low, &code());
    images.initrd = Some(vec![1; 0x1000]);
    assert_eq!(load(&images).unwrap().initrd_start, Some(8 * MIB - 0x1000));
}

#[test]
fn a_relocatable_kernel_runs_at_a_multiple_of_its_alignment() {
    let header = setup_header {
        pref_address: 3 << 20,
        ..bz::header()
    };
    let end = |header: &setup_header| {
        let kernel = bz::build(header, &code());
        load_as_it_is(&memory(16 * MIB), kernel).unwrap().kernel_end
    };
    assert_eq!(end(&header), 5 * MIB);
    let fixed = setup_header {
        relocatable_kernel: 0,
        ..header
    };
    assert_eq!(end(&fixed), 4 * MIB);
    let anywhere = setup_header {
        pref_address: 0,
        init_size: 0,
        ..fixed
    };
    assert_eq!(end(&anywhere), MIB + 0x1000, "the file at least");
}

#[test]
fn kernels_of_other_kinds_are_refused() {
    let with = |change: fn(&mut setup_header)| {
        let mut header = bz::header();
        change(&mut header);
        refused(&header)
    };
    let text = with(|header| header.version = 0x020B).to_string();
    assert!(
        text.contains("2.11") && text.contains("needs 2.12"),
        "{text}"
    );
    assert!(matches!(
        with(|header| header.xloadflags = 0),
        BootError::No64BitEntry
    ));
    assert!(matches!(
        with(|header| header.loadflags = 0),
        BootError::No64BitEntry
    ));
    for change in [
        (|header| header.kernel_alignment = 3) as fn(&mut setup_header),
        |header| header.kernel_alignment = 0,
        |header| header.pref_address = u64::MAX - 5,
        |header| header.pref_address = MIB - 1,
    ] {
        let error = with(change);
        assert!(
            matches!(
                error,
                BootError::Malformed {
                    part: "setup header",
                    ..
                }
            ),
            "{error}"
        );
    }
    let error = with(|header| header.init_size = 15 << 20);
    assert!(
        error.to_string().contains("0x1100000") && error.to_string().contains("more"),
        "{error}"
    );
    assert!(matches!(
        with(|header| header.pref_address = 1 << 40),
        BootError::KernelOutOfRange { .. }
    ));
}

#[test]
fn a_file_that_is_cut_short_is_refused_and_one_with_a_signature_is_not() {
    let whole = kernel();
    for length in (0x206..whole.len() - 15).step_by(7) {
        let memory = memory(4 * MIB);
        let error = load_as_it_is(&memory, whole[..length].to_vec()).unwrap_err();
        assert!(
            matches!(error, BootError::Malformed { .. }),
            "{length:#x}: {error}"
        );
    }
    let signed = [whole, vec![0x77; 600]].concat();
    load_as_it_is(&memory(16 * MIB), signed).unwrap();
}

#[test]
fn a_command_line_is_as_long_as_the_kernel_takes() {
    let header = setup_header {
        cmdline_size: 10,
        ..bz::header()
    };
    assert!(matches!(
        refused(&header),
        BootError::CommandLineTooLong { limit: 10, .. }
    ));
}

#[test]
fn it_is_neither_rewritten_nor_entered_through_pvh() {
    let mut images = images(kernel());
    let error = load(&memory(16 * MIB), &images, &SEED, TscRewrite::Rewrite).unwrap_err();
    assert!(
        error.to_string().contains("compressed") && error.to_string().contains("--engine soft")
    );
    images.protocol = BootProtocol::Pvh;
    let error = load(&memory(16 * MIB), &images, &SEED, TscRewrite::Leave).unwrap_err();
    assert!(matches!(error, BootError::NoPvhEntry));
    images.protocol = BootProtocol::Linux64;
    load(&memory(16 * MIB), &images, &SEED, TscRewrite::Leave).unwrap();
}

const VMLINUZ: &str = "LOCKSTEP_TEST_VMLINUZ";

#[test]
fn a_distributions_kernel_lies_in_memory_as_in_its_file() {
    let Some(path) = std::env::var_os(VMLINUZ) else {
        eprintln!("SKIPPED: set {VMLINUZ} to the path of a bzImage to test on a real kernel");
        return;
    };
    let file = std::fs::read(&path)
        .unwrap_or_else(|error| panic!("cannot read {VMLINUZ}={path:?}: {error}"));
    let memory = memory(128 * MIB);
    let loaded = load_as_it_is(&memory, file.clone()).unwrap();
    let code = &file[(usize::from(file[HEADER]) + 1) * 512..];
    let start = loaded.state.rip - 0x200;
    assert!(bytes(&memory, start, code.len()) == code);
    // Linux, `arch/x86/boot/compressed/head_64.S`: startup_64 begins with cld and cli.
    assert_eq!(bytes(&memory, loaded.state.rip, 2), [0xFC, 0xFA]);
    let init_size = u64::from(u32::from_le_bytes(file[0x260..0x264].try_into().unwrap()));
    assert_eq!(loaded.kernel_end, start + init_size);
    let copied = bytes(&memory, 0x7000 + 0x236, 2);
    assert_eq!(copied, file[0x236..0x238], "xloadflags");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Any header: loaded inside of memory, or refused; never a panic.
    #[test]
    fn any_header_is_loaded_within_memory_or_refused(
        noise in proptest::collection::vec(any::<u8>(), 123),
        kept in any::<u128>(),
        length in 0..CODE + 0x1000,
    ) {
        let mut file = kernel();
        // Some bytes of a good header stay; its magic number does, since all else is no bzImage.
        for (index, byte) in noise.iter().enumerate() {
            let is_magic = (0x202..0x206).contains(&(HEADER + index));
            if kept >> index & 1 == 0 && !is_magic {
                file[HEADER + index] = *byte;
            }
        }
        file.truncate(length.max(0x206));
        match load_as_it_is(&memory(16 * MIB), file) {
            Ok(loaded) => {
                prop_assert!(loaded.kernel_end <= 16 * MIB && loaded.state.rip > BASE);
                prop_assert!(loaded.initrd_start.unwrap() >= loaded.kernel_end);
            }
            Err(error) => prop_assert!(!error.to_string().is_empty()),
        }
    }

    /// The same for fields that are nearly right.
    #[test]
    fn likely_headers_are_loaded_within_memory_or_refused(
        pref_address in prop_oneof![0..32 * MIB, any::<u64>()],
        init_size in prop_oneof![0..16_u32 << 20, any::<u32>()],
        kernel_alignment in prop_oneof![(0..32_u32).prop_map(|shift| 1 << shift), any::<u32>()],
        initrd_addr_max in any::<u32>(),
        relocatable_kernel in 0..2_u8,
        setup_sects in 0..8_u8,
    ) {
        let header = setup_header {
            pref_address, init_size, kernel_alignment, initrd_addr_max, relocatable_kernel, setup_sects, ..bz::header()
        };
        if let Ok(loaded) = load_as_it_is(&memory(16 * MIB), bz::build(&header, &code())) {
            prop_assert!(loaded.kernel_end <= 16 * MIB && loaded.state.rip > BASE);
            prop_assert!(loaded.initrd_start.unwrap() >= loaded.kernel_end);
        }
    }
}
