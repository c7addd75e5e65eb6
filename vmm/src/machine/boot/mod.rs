//! Loading a guest.

/// A segment register (SDM 3A 3.4.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, clippy::struct_excessive_bools)]
pub struct Segment {
    pub selector: u16,
    pub base: u64,
    pub limit: u32,
    pub kind: u8,
    pub present: bool,
    pub privilege: u8,
    pub default_32: bool,
    pub code_or_data: bool,
    pub long: bool,
    pub granularity_4k: bool,
}

/// Initial state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct BootState {
    pub rip: u64,
    pub rsi: u64,
    pub rsp: u64,
    pub rflags: u64,
    pub cr0: u64,
    pub cr3: u64,
    pub cr4: u64,
    pub efer: u64,
    pub gdt_base: u64,
    pub gdt_limit: u16,
    pub idt_base: u64,
    pub idt_limit: u16,
    pub code: Segment,
    pub data: Segment,
    pub tss: Segment,
}
