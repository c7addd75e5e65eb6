//! What CPUID says: one fixed, named model.
//!
//! `x86-64-v2` (CMPXCHG16B, LAHF, POPCNT, SSE to SSE4.2) and the system features of [`crate`]'s documentation: long mode, NX, 1 GB pages, SMEP, SMAP, SYSCALL,
//! SYSENTER, global pages, PAT, FXSAVE, and XSAVE for x87 and SSE. What is not announced raises #UD. The vendor is Intel's, because guests know its
//! model-specific registers best; IA32_ARCH_CAPABILITIES tells them that this processor, which does not speculate, has none of the known
//! leaks, so that they need no countermeasures against them.

/// Name of the model, part of a pair's identity. Any change of the leaves changes it.
pub const MODEL: &str = "lockstep-soft-x86-64-v2.2";

/// Twelve characters in EBX, EDX, ECX of leaf 0.
const VENDOR: [u8; 12] = *b"GenuineIntel";

/// Leaf 1 EAX: family 6, model 15, stepping 1.
const SIGNATURE: u32 = 0x0000_06F1;

/// Leaf 1 EDX (SDM 2A, CPUID, table 3-11).
const FEATURES_EDX: u32 = bits(&[
    0,  // FPU
    2,  // DE
    3,  // PSE
    4,  // TSC
    5,  // MSR
    6,  // PAE
    8,  // CX8
    11, // SEP
    13, // PGE
    15, // CMOV
    16, // PAT
    17, // PSE-36
    19, // CLFSH
    23, // MMX
    24, // FXSR
    25, // SSE
    26, // SSE2
]);

/// Leaf 1 ECX (SDM 2A, CPUID, table 3-10), but OSXSAVE.
const FEATURES_ECX: u32 = bits(&[
    0,  // SSE3
    9,  // SSSE3
    13, // CMPXCHG16B
    19, // SSE4.1
    20, // SSE4.2
    23, // POPCNT
    26, // XSAVE
    31, // a hypervisor is present
]);

/// Leaf 1 ECX bit 27 shows CR4.OSXSAVE.
pub(crate) const OSXSAVE: u32 = 1 << 27;

/// Leaf 7 EBX.
const STRUCTURED_EBX: u32 = bits(&[
    7,  // SMEP
    13, // the x87's FCS and FDS are always 0
    20, // SMAP
]);

/// Leaf 7 EDX.
const STRUCTURED_EDX: u32 = bits(&[
    26, // IBRS, IBPB
    29, // IA32_ARCH_CAPABILITIES
]);

/// Leaf 7 subleaf 2 EDX. Without it, kernels with IBRS_ALL run a loop at every system call to clear the branch history.
const STRUCTURED_2_EDX: u32 = bits(&[
    4, // BHI_CTRL
]);

/// Leaf 8000_0001 EDX (AMD APM 3, E.4.2).
const EXTENDED_EDX: u32 = bits(&[
    11, // SYSCALL
    20, // NX
    26, // 1 GB pages
    27, // RDTSCP
    29, // long mode
]);

/// Leaf 8000_0001 ECX.
const EXTENDED_ECX: u32 = bits(&[
    0, // LAHF in long mode
]);

/// IA32_ARCH_CAPABILITIES (SDM 4, table 2-2): RDCL_NO, IBRS_ALL, SKIP_L1DFL_VMENTRY, SSB_NO, MDS_NO, IF_PSCHANGE_MC_NO, TAA_NO, SBDR_SSDP_NO,
/// FBSDP_NO, PSDP_NO, BHI_NO, PBRSB_NO, GDS_NO, RFDS_NO; and ITS_NO, which hypervisors tell guests.
///
/// IBRS_ALL is for the sake of speed: with it, kernels call through pointers rather than through retpolines.
pub(crate) const ARCH_CAPABILITIES: u64 = 1 << 0
    | 1 << 1
    | 1 << 3
    | 1 << 4
    | 1 << 5
    | 1 << 6
    | 1 << 8
    | 1 << 13
    | 1 << 14
    | 1 << 15
    | 1 << 20
    | 1 << 24
    | 1 << 26
    | 1 << 27
    | 1 << 62;

/// The XSAVE area for x87 and SSE: legacy region and header, bytes.
pub(crate) const XSAVE_BYTES: u32 = 576;

const fn bits(list: &[u32]) -> u32 {
    let mut value = 0;
    let mut index = 0;
    while index < list.len() {
        value |= 1 << list[index];
        index += 1;
    }
    value
}

const fn word(index: usize) -> u32 {
    u32::from_le_bytes([
        VENDOR[index],
        VENDOR[index + 1],
        VENDOR[index + 2],
        VENDOR[index + 3],
    ])
}

/// EAX, EBX, ECX, EDX for a leaf and subleaf. Leaves that are not there read as zero. OSXSAVE is the caller's to add.
#[must_use]
pub fn cpuid(leaf: u32, subleaf: u32) -> [u32; 4] {
    match (leaf, subleaf) {
        (0, _) => [0xD, word(0), word(8), word(4)],
        // EBX: cache line of 8 times 8 bytes for CLFLUSH, one logical processor.
        (1, _) => [SIGNATURE, 0x0001_0800, FEATURES_ECX, FEATURES_EDX],
        // EAX: the last subleaf.
        (7, 0) => [2, STRUCTURED_EBX, 0, STRUCTURED_EDX],
        (7, 2) => [0, 0, 0, STRUCTURED_2_EDX],
        (0xD, 0) => [0b11, XSAVE_BYTES, XSAVE_BYTES, 0],
        (0x8000_0000, _) => [0x8000_0008, word(0), word(8), word(4)],
        (0x8000_0001, _) => [0, 0, EXTENDED_ECX, EXTENDED_EDX],
        // 40 physical and 48 linear address bits.
        (0x8000_0008, _) => [0x3028, 0, 0, 0],
        _ => [0; 4],
    }
}
