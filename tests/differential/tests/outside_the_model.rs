//! Instructions that the software CPU's model does not have. The host has many of them, so that there is nothing to compare with.

use iced_x86::{Code, EncodingKind};
use lockstep_differential::{
    case::Case, exclusions, generate::Generator, program::assemble, soft::SoftCpu, text,
};

/// #UD.
const INVALID_OPCODE: u8 = 6;

/// Encodings that mean something else to a processor without the feature: a no-operation, or the instruction without its prefix.
fn means_something_else(code: Code) -> bool {
    use iced_x86::CpuidFeature::{
        BMI1, CET_IBT, CET_SS, CLDEMOTE, LZCNT, MPX, PREFETCHITI, PREFETCHW, PREFETCHWT1, WBNOINVD,
    };
    let older = [
        BMI1,
        CET_IBT,
        CET_SS,
        CLDEMOTE,
        LZCNT,
        MPX,
        PREFETCHITI,
        PREFETCHW,
        PREFETCHWT1,
        WBNOINVD,
    ];
    code.cpuid_features()
        .iter()
        .any(|feature| older.contains(feature))
}

fn run(case: &Case) -> u8 {
    let mut soft = SoftCpu::new(assemble().expect("the test program is valid"));
    soft.run(case)
        .unwrap_or_else(|left| panic!("{left:?}: {:?}", text::disassembly(case)))
        .vector
}

#[test]
fn instructions_outside_the_model_are_undefined() {
    let outside: Vec<Code> = Code::values()
        .filter(|code| {
            let info = code.op_code();
            info.is_instruction()
                && info.mode64()
                && info.encoding() == EncodingKind::Legacy
                && info.intel_decoder64()
                && !exclusions::in_model(*code)
                && !means_something_else(*code)
        })
        .collect();
    assert!(outside.len() > 150, "{} encodings", outside.len());
    let mut wrong = Vec::new();
    for (number, code) in (0..).zip(outside) {
        let Some(case) = Generator::instruction(number, code) else {
            continue;
        };
        if run(&case) != INVALID_OPCODE {
            wrong.push(code);
        }
    }
    assert!(wrong.is_empty(), "not #UD: {wrong:?}");
}

#[test]
fn vector_extensions_are_undefined() {
    for code in [
        "c5 f8 77",                   // vzeroupper
        "c5 fc 58 c1",                // vaddps ymm0,ymm0,ymm1
        "c4 e2 7d 18 05 00 00 00 00", // vbroadcastss ymm0,[rip]
        "c4 e2 f8 f3 c8",             // blsr rax,rax
        "c4 e2 f9 f7 c0",             // shlx rax,rax,rax
        "62 f1 7c 48 58 c1",          // vaddps zmm0,zmm0,zmm1
        "62 f1 7c 08 10 00",          // vmovups xmm0,[rax]
        "8f e9 78 01 c8",             // blcfill eax,eax (XOP)
        "0f 0f c1 9e",                // pfadd mm0,mm1
    ] {
        let case = text::read(&format!("code = {code}")).expect("a case");
        assert_eq!(run(&case), INVALID_OPCODE, "{code}");
    }
}

#[test]
fn hints_of_later_processors_do_nothing() {
    for code in [
        "f3 0f 1e fa",    // endbr64
        "f3 48 0f 1e c8", // rdsspq rax: leaves RAX
        "0f 1c 00",       // cldemote [rax]: no access
        "0f 18 38",       // prefetchit0 [rax]
        "0f 0d 08",       // prefetchw [rax]
        "f3 0f 1a c1",    // bndcl
    ] {
        let case = text::read(&format!("code = {code}\nrax = 0x1234")).expect("a case");
        let mut soft = SoftCpu::new(assemble().expect("the test program is valid"));
        let outcome = soft.run(&case).expect("it ends");
        assert_eq!(outcome.vector, 13, "{code}: the HLT behind it");
        assert_eq!(outcome.rip, case.code_at + case.code.len() as u64, "{code}");
        assert_eq!(outcome.general[0], 0x1234, "{code}");
    }
}

/// TZCNT and LZCNT are BSF and BSR with a prefix that older processors ignore: Linux relies on it.
#[test]
fn counts_of_zeros_are_bit_scans() {
    for (code, expected) in [("f3 0f bc c3", 4), ("f3 0f bd c3", 8)] {
        let text = format!("code = {code}\nrbx = 0x110\nrax = 0xffff");
        let mut soft = SoftCpu::new(assemble().expect("the test program is valid"));
        let outcome = soft
            .run(&text::read(&text).expect("a case"))
            .expect("it ends");
        assert_eq!(outcome.general[0], expected, "{code}");
    }
}
