//! What is not compared, and why. This is the only such list.
//!
//! An instruction is a candidate if iced-x86 decodes it as legacy code in 64-bit mode, the software CPU's model announces it
//! ([`MODEL_FEATURES`]), and no row of [`EXCLUDED`] names it.

use iced_x86::{Code, CpuidFeature, EncodingKind, Instruction, Mnemonic, OpKind};

use crate::layout::{CODE, CODE_BYTES};

/// Instructions that are not compared.
pub const EXCLUDED: &[(&[Mnemonic], &str)] = &[
    (
        &[Mnemonic::Cpuid, Mnemonic::Xgetbv, Mnemonic::Xsetbv],
        "they show the processor and its XCR0, and the two are not the same",
    ),
    (
        &[Mnemonic::Rdtsc, Mnemonic::Rdtscp],
        "time: on the software CPU they are exits",
    ),
    (
        &[
            Mnemonic::Sgdt,
            Mnemonic::Sidt,
            Mnemonic::Sldt,
            Mnemonic::Str,
            Mnemonic::Smsw,
        ],
        "they show the host's tables where the host does not trap them (kvm-pvm), or #GP where it does (UMIP)",
    ),
    (
        &[Mnemonic::Lar, Mnemonic::Lsl, Mnemonic::Verr, Mnemonic::Verw],
        "they look into the host's GDT on kvm-pvm",
    ),
    (
        &[
            Mnemonic::Lss,
            Mnemonic::Lfs,
            Mnemonic::Lgs,
            Mnemonic::Retf,
            Mnemonic::Iret,
            Mnemonic::Iretd,
        ],
        "they load selectors from the host's GDT on kvm-pvm; IRETQ is compared with the selectors that both have",
    ),
    (
        &[
            Mnemonic::Syscall,
            Mnemonic::Sysenter,
            Mnemonic::Sysexit,
            Mnemonic::Sysexitq,
        ],
        "they leave user mode for good, and are the vendor's: SYSENTER is #UD in AMD's long mode",
    ),
    (
        &[Mnemonic::Int, Mnemonic::Int1],
        "kvm-pvm makes #UD of INT n, and reports the trap of INT1 before the instruction",
    ),
    (
        &[
            Mnemonic::Xsave,
            Mnemonic::Xsave64,
            Mnemonic::Xrstor,
            Mnemonic::Xrstor64,
        ],
        "they use the host's XCR0, which has AVX",
    ),
    (
        &[
            Mnemonic::Rcpps,
            Mnemonic::Rcpss,
            Mnemonic::Rsqrtps,
            Mnemonic::Rsqrtss,
        ],
        "approximations: each vendor's are others (SDM 2B)",
    ),
];

/// Single encodings that are not compared.
const EXCLUDED_CODES: &[(&[Code], &str)] = &[
    (
        &[Code::Movsxd_r16_rm16],
        "AMD's processors read four bytes, Intel's two (SDM 2B, MOVSX/MOVSXD)",
    ),
    (
        &[
            Code::Reservednop_rm16_r16_0F0D,
            Code::Reservednop_rm32_r32_0F0D,
            Code::Reservednop_rm64_r64_0F0D,
        ],
        "AMD raises #UD for the register form, which kvm-pvm then emulates as a no-operation that clears NT",
    ),
    (
        &[
            Code::Mov_Sreg_rm16,
            Code::Mov_Sreg_r32m16,
            Code::Mov_Sreg_r64m16,
            Code::Popw_FS,
            Code::Popq_FS,
            Code::Popw_GS,
            Code::Popq_GS,
        ],
        "they load selectors from the host's GDT on kvm-pvm",
    ),
    (
        &[
            Code::Call_m1616,
            Code::Call_m1632,
            Code::Call_m1664,
            Code::Jmp_m1616,
            Code::Jmp_m1632,
            Code::Jmp_m1664,
        ],
        "they load selectors from the host's GDT on kvm-pvm",
    ),
];

/// Results that processors round differently in the last bit, because they are computed by approximation: compared to within one unit in the
/// last place, without C1, and by themselves only.
pub const APPROXIMATE: &[Mnemonic] = &[
    Mnemonic::F2xm1,
    Mnemonic::Fcos,
    Mnemonic::Fpatan,
    Mnemonic::Fptan,
    Mnemonic::Fsin,
    Mnemonic::Fsincos,
    Mnemonic::Fyl2x,
    Mnemonic::Fyl2xp1,
];

/// What the model announces (`x86_engine::model`), in iced-x86's words. The last line are instructions that processors without them execute
/// as no-operations.
pub const MODEL_FEATURES: &[CpuidFeature] = &[
    CpuidFeature::INTEL8086,
    CpuidFeature::INTEL186,
    CpuidFeature::INTEL286,
    CpuidFeature::INTEL386,
    CpuidFeature::INTEL486,
    CpuidFeature::X64,
    CpuidFeature::FPU,
    CpuidFeature::FPU287,
    CpuidFeature::FPU387,
    CpuidFeature::CMOV,
    CpuidFeature::CX8,
    CpuidFeature::CMPXCHG16B,
    CpuidFeature::CLFSH,
    CpuidFeature::CPUID,
    CpuidFeature::FXSR,
    CpuidFeature::MMX,
    CpuidFeature::MSR,
    CpuidFeature::PAUSE,
    CpuidFeature::POPCNT,
    CpuidFeature::RDPMC,
    CpuidFeature::RDTSCP,
    CpuidFeature::SEP,
    CpuidFeature::SMAP,
    CpuidFeature::SSE,
    CpuidFeature::SSE2,
    CpuidFeature::SSE3,
    CpuidFeature::SSSE3,
    CpuidFeature::SSE4_1,
    CpuidFeature::SSE4_2,
    CpuidFeature::SYSCALL,
    CpuidFeature::TSC,
    CpuidFeature::XSAVE,
    CpuidFeature::MULTIBYTENOP,
    CpuidFeature::PREFETCHW,
    CpuidFeature::PREFETCHWT1,
];

/// Whether the model has the instruction.
#[must_use]
pub fn in_model(code: Code) -> bool {
    code.cpuid_features()
        .iter()
        .all(|feature| MODEL_FEATURES.contains(feature))
}

/// Whether an encoding exists in 64-bit mode on Intel's and AMD's processors alike.
#[must_use]
pub fn exists(code: Code) -> bool {
    let info = code.op_code();
    info.is_instruction()
        && info.mode64()
        && info.encoding() == EncodingKind::Legacy
        && info.intel_decoder64()
        && info.amd_decoder64()
        // FSTENV is FNSTENV after WAIT: two instructions.
        && !info.fwait()
}

/// Why an encoding of the model is not compared.
#[must_use]
pub fn excluded(code: Code) -> Option<&'static str> {
    let by_mnemonic = EXCLUDED
        .iter()
        .find(|(mnemonics, _)| mnemonics.contains(&code.mnemonic()))
        .map(|(_, reason)| *reason);
    by_mnemonic.or_else(|| {
        EXCLUDED_CODES
            .iter()
            .find(|(codes, _)| codes.contains(&code))
            .map(|(_, reason)| *reason)
    })
}

/// The encodings that are compared.
#[must_use]
pub fn candidates() -> Vec<Code> {
    Code::values()
        .filter(|code| exists(*code) && in_model(*code) && excluded(*code).is_none())
        .collect()
}

/// Whether a decoded instruction may be part of a case. In addition to the table: nothing that could run in a circle.
#[must_use]
pub fn allowed(instruction: &Instruction, case_at: u64) -> bool {
    if instruction.is_invalid() {
        return false;
    }
    let code = instruction.code();
    // AMD raises #UD without fetching the rest, which may lie in a page that is not there.
    let is_undefined = matches!(code.mnemonic(), Mnemonic::Ud0 | Mnemonic::Ud1);
    if is_undefined && instruction.next_ip() > CODE + CODE_BYTES {
        return false;
    }
    if !exists(code) || !in_model(code) || excluded(code).is_some() {
        return false;
    }
    let branches = matches!(
        instruction.op0_kind(),
        OpKind::NearBranch16 | OpKind::NearBranch32 | OpKind::NearBranch64
    );
    let target = instruction.near_branch_target();
    !branches || target < case_at || target >= instruction.next_ip()
}
