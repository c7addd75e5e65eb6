//! Exceptions that a few instructions raise by themselves: code and what is expected of it, side by side.
//!
//! `check NAME, VECTOR, ERROR, RIP, KIND, ADDRESS` begins a check's code, which ends with `ret`, and writes a line of the table. RIP is `at`
//! for faults and `after` for traps: the label `NAME_at` or `NAME_after` is where the saved instruction pointer must point.
//! ADDRESS is what CR2 must be; 0 where CR2 means nothing.

use core::arch::global_asm;

// How a check's code is run. 0: after the exception, the guest goes on elsewhere.
/// Returning from the exception, the code goes on and returns 1.
pub const RESUME: u64 = 1;
/// At privilege level 3, with the flags' AC set.
pub const USER: u64 = 2;

/// A line of the table.
#[repr(C)]
pub struct Check {
    /// Where the code is.
    pub code: u64,
    /// Expected vector.
    pub vector: u64,
    /// Expected error code.
    pub error_code: u64,
    /// Expected saved instruction pointer.
    pub rip: u64,
    /// 0, [`RESUME`] or [`USER`].
    pub kind: u64,
    /// Expected CR2; 0: any.
    pub address: u64,
    /// The check's name, and its length.
    name: *const u8,
    name_len: usize,
}

impl Check {
    /// The check's name.
    pub fn name(&self) -> &'static str {
        // SAFETY: the macro writes the address of a text in read-only data, and its length; names are ASCII.
        unsafe { str::from_utf8_unchecked(core::slice::from_raw_parts(self.name, self.name_len)) }
    }
}

unsafe extern "C" {
    static exception_checks: Check;
    static exception_checks_end: Check;
}

/// All checks of the table.
pub fn checks() -> &'static [Check] {
    let (start, end) = (&raw const exception_checks, &raw const exception_checks_end);
    // SAFETY: the macro writes whole lines between the two labels, and nobody changes them.
    unsafe { core::slice::from_raw_parts(start, end.offset_from_unsigned(start)) }
}

global_asm!(
    ".macro check name, vector, error, rip, kind, address",
    ".pushsection .rodata.exception_names, \"a\"",
    "\\name\\()_name: .ascii \"\\name\"",
    "\\name\\()_name_end:",
    ".popsection",
    ".pushsection .rodata.exception_checks, \"a\"",
    ".quad \\name, \\vector, \\error, \\name\\()_\\rip, \\kind, \\address",
    ".quad \\name\\()_name, \\name\\()_name_end - \\name\\()_name",
    ".popsection",
    "\\name:",
    ".endm",
    ".pushsection .rodata.exception_checks, \"a\"",
    ".balign 8",
    "exception_checks:",
    ".popsection",
    include_str!("faults.s"),
    include_str!("compatibility.s"),
    include_str!("user.s"),
    ".pushsection .rodata.exception_checks, \"a\"",
    "exception_checks_end:",
    ".popsection",
);
