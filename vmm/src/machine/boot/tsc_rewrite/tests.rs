use super::super::test_elf::TestElf;
use super::*;

const BASE: u64 = 0x10_0000;

/// The code of the first section after rewriting, and the number of sites.
fn rewritten(elf: &TestElf, length: usize) -> (Vec<u8>, usize) {
    let file = elf.build();
    let result = rewrite(&file).unwrap();
    assert_eq!(result.image.len(), file.len());
    (
        result.image[elf.content_offset(0)..][..length].to_vec(),
        result.sites,
    )
}

fn code_after(code: &[u8]) -> (Vec<u8>, usize) {
    rewritten(
        &TestElf::code(BASE, code).function("start", BASE),
        code.len(),
    )
}

fn why_ambiguous(elf: &TestElf) -> (u64, String, String) {
    match rewrite(&elf.build()) {
        Err(BootError::AmbiguousSite {
            address,
            symbol,
            why,
        }) => (address, symbol, why),
        other => panic!("expected an ambiguous site, got {other:?}"),
    }
}

#[test]
fn time_stamp_reads_become_port_reads_of_the_same_length() {
    // rdtsc; rdtscp; ret
    let (code, sites) = code_after(&[0x0F, 0x31, 0x0F, 0x01, 0xF9, 0xC3]);
    assert_eq!(code, [0xE5, 0xEE, 0xE5, 0xEF, 0x90, 0xC3]);
    assert_eq!(sites, 2);
}

#[test]
fn a_kernel_without_time_stamp_reads_is_left_as_it_is() {
    let file = TestElf::code(BASE, &[0xF4, 0xC3]).build();
    let result = rewrite(&file).unwrap();
    assert!(matches!(result.image, Cow::Borrowed(_)));
    assert_eq!(
        (result.sites, result.untrapped),
        (0, UntrappedSites::default())
    );
}

#[test]
fn the_same_bytes_inside_another_instruction_stay() {
    // mov eax, 0x0000310F; mov eax, [rip + 0x00F9010F]; call rel32 = 0x0000310F; rdtsc
    let code = [
        &[0xB8, 0x0F, 0x31, 0x00, 0x00][..],
        &[0x8B, 0x05, 0x0F, 0x01, 0xF9, 0x00],
        &[0xE8, 0x0F, 0x31, 0x00, 0x00],
        &[0x0F, 0x31],
    ]
    .concat();
    let (after, sites) = code_after(&code);
    assert_eq!(after[..16], code[..16]);
    assert_eq!(after[16..], [0xE5, 0xEE]);
    assert_eq!(sites, 1);
}

#[test]
fn data_sections_stay() {
    let elf = TestElf::code(BASE, &[0x90, 0xC3]).data(BASE + 0x1000, &[0x0F, 0x31], 0);
    assert!(matches!(
        rewrite(&elf.build()).unwrap().image,
        Cow::Borrowed(_)
    ));
}

#[test]
fn all_executable_sections_are_searched_without_symbols_too() {
    // As in .altinstr_replacement: lfence; rdtsc; then rdtscp.
    let elf = TestElf::code(BASE, &[0x0F, 0x31, 0x90, 0x90, 0x90]).more_code(
        BASE + 0x1000,
        &[0x0F, 0xAE, 0xE8, 0x0F, 0x31, 0x0F, 0x01, 0xF9],
    );
    let file = elf.build();
    let result = rewrite(&file).unwrap();
    assert_eq!(result.sites, 3);
    assert_eq!(
        result.image[elf.content_offset(1)..][..8],
        [0x0F, 0xAE, 0xE8, 0xE5, 0xEE, 0xE5, 0xEF, 0x90]
    );
}

#[test]
fn prefixes_that_mean_nothing_become_nops() {
    // data16 rdtsc; rex.w rdtscp; repz rdtsc
    let (code, sites) = code_after(&[0x66, 0x0F, 0x31, 0x48, 0x0F, 0x01, 0xF9, 0xF3, 0x0F, 0x31]);
    assert_eq!(
        code,
        [0x90, 0xE5, 0xEE, 0x90, 0xE5, 0xEF, 0x90, 0x90, 0xE5, 0xEE]
    );
    assert_eq!(sites, 3);
}

#[test]
fn a_locked_read_is_no_instruction_and_is_refused() {
    let (address, symbol, why) =
        why_ambiguous(&TestElf::code(BASE, &[0x90, 0xF0, 0x0F, 0x31]).function("start", BASE));
    assert_eq!((address, symbol.as_str()), (BASE + 2, "start+0x2"));
    assert!(why.contains("no valid instruction at 0x100001"), "{why}");
}

#[test]
fn bytes_after_data_inside_a_function_are_refused() {
    // push es does not exist in 64-bit mode.
    let (.., why) = why_ambiguous(&TestElf::code(BASE, &[0x06, 0x90, 0x0F, 0x31]));
    assert!(why.contains("no valid instruction at 0x100000"), "{why}");
}

#[test]
fn sweeps_that_disagree_are_refused() {
    // From the section's start: mov eax, 0x0000310F. From the symbol: rdtsc.
    let elf = TestElf::code(BASE, &[0xB8, 0x0F, 0x31, 0x00, 0x00, 0xC3])
        .function("start", BASE)
        .function("hidden", BASE + 1);
    let (address, symbol, why) = why_ambiguous(&elf);
    assert_eq!((address, symbol.as_str()), (BASE + 1, "hidden+0x0"));
    assert!(why.contains("section's start"), "{why}");
}

#[test]
fn a_symbol_resynchronises_after_data() {
    // The lone B8 before the function would swallow its first four bytes.
    let elf = TestElf::code(BASE, &[0xB8, 0x90, 0x90, 0x90, 0x90, 0x0F, 0x31, 0xC3])
        .function("start", BASE + 1);
    assert_eq!(
        rewritten(&elf, 8),
        (vec![0xB8, 0x90, 0x90, 0x90, 0x90, 0xE5, 0xEE, 0xC3], 1)
    );
}

#[test]
fn variables_are_no_code_symbols() {
    let elf = TestElf::code(BASE, &[0xB8, 0x0F, 0x31, 0x00, 0x00, 0xC3])
        .function("start", BASE)
        .object("variable", BASE + 1);
    assert!(matches!(
        rewrite(&elf.build()).unwrap().image,
        Cow::Borrowed(_)
    ));
}

#[test]
fn a_jump_into_the_middle_is_refused() {
    // mov eax, 0x0000310F; jmp to the second byte of it
    let jump_back =
        TestElf::code(BASE, &[0xB8, 0x0F, 0x31, 0x00, 0x00, 0xEB, 0xFA]).function("start", BASE);
    let (address, _, why) = why_ambiguous(&jump_back);
    assert_eq!(address, BASE + 1);
    assert!(
        why.contains("jump at 0x100005") && why.contains("0x100001"),
        "{why}"
    );
    // The same from another section: call rel32.
    let far = TestElf::code(BASE, &[0xB8, 0x0F, 0x31, 0x00, 0x00])
        .more_code(BASE + 0x1000, &[0xE8, 0xFC, 0xEF, 0xFF, 0xFF]);
    assert!(why_ambiguous(&far).2.contains("jump at 0x101000"));
}

#[test]
fn a_jump_to_the_read_itself_is_fine() {
    assert_eq!(
        code_after(&[0x0F, 0x31, 0xEB, 0xFC]),
        (vec![0xE5, 0xEE, 0xEB, 0xFC], 1)
    );
}

#[test]
fn a_pattern_cut_off_by_the_sections_end_is_none() {
    assert_eq!(code_after(&[0x90, 0x0F]).1, 0);
    assert_eq!(code_after(&[0x90, 0x0F, 0x01]).1, 0);
}

#[test]
fn other_reads_of_the_host_are_counted() {
    // rdrand eax; rdseed rax; rdpmc; rdrand ax
    let code = [
        0x0F, 0xC7, 0xF0, 0x48, 0x0F, 0xC7, 0xF8, 0x0F, 0x33, 0x66, 0x0F, 0xC7, 0xF0,
    ];
    let file = TestElf::code(BASE, &code).build();
    assert_eq!(
        rewrite(&file).unwrap().untrapped,
        UntrappedSites {
            rdrand: 2,
            rdseed: 1,
            rdpmc: 1
        }
    );
}

#[test]
fn without_executable_sections_it_refuses() {
    let mut stripped = TestElf::code(BASE, &[0x0F, 0x31]).build();
    stripped[40..48].fill(0); // e_shoff
    stripped[60..64].fill(0); // e_shnum, e_shstrndx
    assert!(matches!(rewrite(&stripped), Err(BootError::NoSections)));
}

#[test]
fn sections_that_share_bytes_are_refused() {
    let mut file = TestElf::code(BASE, &[0x90; 16])
        .more_code(BASE + 0x1000, &[0x90; 16])
        .build();
    let headers = usize::try_from(u64::from_le_bytes(file[40..48].try_into().unwrap())).unwrap();
    let second_offset = headers + 2 * 64 + 24;
    let moved = u64::from_le_bytes(file[second_offset..][..8].try_into().unwrap()) - 1;
    file[second_offset..][..8].copy_from_slice(&moved.to_le_bytes());
    assert!(matches!(
        rewrite(&file),
        Err(BootError::SectionsOverlap { .. })
    ));
}

#[test]
fn a_file_full_of_patterns_does_not_take_forever() {
    // 400,000 reads in one function, and as many jumps to each other's neighbourhood.
    let code = [0x0F, 0x31, 0xEB, 0xFC].repeat(400_000);
    assert_eq!(code_after(&code).1, 400_000);
    let in_immediates = [0xB8, 0x0F, 0x31, 0x0F, 0x31].repeat(400_000);
    assert_eq!(code_after(&in_immediates).1, 0);
}

/// Names a `vmlinux` with symbols.
const VMLINUX: &str = "LOCKSTEP_TEST_VMLINUX";

#[test]
fn a_real_kernel_loses_every_time_stamp_read_that_objdump_finds() {
    let Some(path) = std::env::var_os(VMLINUX) else {
        eprintln!("SKIPPED: set {VMLINUX} to the path of a vmlinux to test on a real kernel");
        return;
    };
    let file = std::fs::read(&path)
        .unwrap_or_else(|error| panic!("cannot read {VMLINUX}={path:?}: {error}"));
    let result = rewrite(&file).unwrap();
    eprintln!(
        "{} sites of {path:?} rewritten; not rewritten: {:?}",
        result.sites, result.untrapped
    );

    let folder = tempfile::tempdir().unwrap();
    let after = folder.path().join("vmlinux");
    std::fs::write(&after, &result.image).unwrap();
    let [rdtsc, rdtscp, rdrand, rdseed, rdpmc] = objdump(path.as_ref());
    assert_eq!(result.sites, rdtsc + rdtscp);
    assert_eq!(
        result.untrapped,
        UntrappedSites {
            rdrand,
            rdseed,
            rdpmc
        }
    );
    assert_eq!(objdump(&after), [0, 0, rdrand, rdseed, rdpmc]);
    assert_eq!(rewrite(&result.image).unwrap().sites, 0);
}

/// How many `rdtsc`, `rdtscp`, `rdrand`, `rdseed` and `rdpmc` binutils find.
fn objdump(file: &std::path::Path) -> [usize; 5] {
    let output = std::process::Command::new("objdump")
        .args(["-d", "--no-show-raw-insn"])
        .arg(file)
        .output()
        .expect("objdump from binutils is installed");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8_lossy(&output.stdout);
    // Lines are "address: [prefixes] name [operands]", those of symbols "address <name>:".
    let names: Vec<&str> = text
        .lines()
        .filter_map(|line| line.split_once(":\t"))
        .flat_map(|(_, instruction)| instruction.split_whitespace().take(2))
        .collect();
    ["rdtsc", "rdtscp", "rdrand", "rdseed", "rdpmc"]
        .map(|wanted| names.iter().filter(|name| **name == wanted).count())
}
