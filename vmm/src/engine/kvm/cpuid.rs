//! The CPU model that KVM guests see.
//!
//! A fixed list of leaves, the same on every host: whatever is not named here reads as zero. The highest basic leaf is 1, so
//! that features described by higher leaves (XSAVE and AVX, SMEP, SMAP, FSGSBASE and so on) do not exist for the guest.

use kvm_bindings::{CpuId, kvm_cpuid_entry2};

/// Name of the model, part of a pair's identity. Any change of the leaves changes it.
pub const MODEL: &str = "lockstep-x86-64-v2.1";

/// Twelve characters in EBX, EDX, ECX of leaf 0. With a vendor that it does not know, Linux takes slower copy
/// loops; this family and model have no quirks that it would look for.
const VENDOR: [u8; 12] = *b"GenuineIntel";

/// Leaf 1 EAX: family 6, model 15, stepping 1.
const SIGNATURE: u32 = 0x0000_06F1;

/// Leaf 1 EDX (SDM 2A, CPUID, table 3-11).
const FEATURES_EDX: u32 = bits(&[
    0,  // FPU
    3,  // PSE
    4,  // TSC
    5,  // MSR
    6,  // PAE
    8,  // CX8
    11, // SEP
    13, // PGE
    15, // CMOV
    16, // PAT
    19, // CLFSH
    23, // MMX
    24, // FXSR
    25, // SSE
    26, // SSE2
]);

/// Leaf 1 ECX (SDM 2A, CPUID, table 3-10).
const FEATURES_ECX: u32 = bits(&[
    0,  // SSE3
    9,  // SSSE3
    13, // CMPXCHG16B
    19, // SSE4.1
    20, // SSE4.2
    23, // POPCNT
    31, // a hypervisor is present
]);

/// Leaf 8000_0001 EDX (AMD APM 3, E.4.2).
const EXTENDED_EDX: u32 = bits(&[
    11, // SYSCALL
    20, // NX
    29, // long mode
]);

/// Leaf 8000_0001 ECX.
const EXTENDED_ECX: u32 = bits(&[
    0, // LAHF in long mode
]);

const fn bits(list: &[u32]) -> u32 {
    let mut value = 0;
    let mut index = 0;
    while index < list.len() {
        value |= 1 << list[index];
        index += 1;
    }
    value
}

fn word(bytes: &[u8]) -> u32 {
    u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

fn leaf(function: u32, eax: u32, ebx: u32, ecx: u32, edx: u32) -> kvm_cpuid_entry2 {
    kvm_cpuid_entry2 {
        function,
        eax,
        ebx,
        ecx,
        edx,
        ..Default::default()
    }
}

/// The model as KVM takes it.
#[must_use]
pub fn model() -> CpuId {
    let (vendor_b, vendor_d, vendor_c) = (
        word(&VENDOR[0..4]),
        word(&VENDOR[4..8]),
        word(&VENDOR[8..12]),
    );
    let leaves = [
        leaf(0, 1, vendor_b, vendor_c, vendor_d),
        // EBX: cache line of 8 times 8 bytes for CLFLUSH, one logical processor.
        leaf(1, SIGNATURE, 0x0001_0800, FEATURES_ECX, FEATURES_EDX),
        leaf(0x8000_0000, 0x8000_0008, vendor_b, vendor_c, vendor_d),
        leaf(0x8000_0001, 0, 0, EXTENDED_ECX, EXTENDED_EDX),
        // 40 physical and 48 linear address bits.
        leaf(0x8000_0008, 0x3028, 0, 0, 0),
    ];
    CpuId::from_entries(&leaves).expect("five leaves are fewer than KVM's limit")
}
