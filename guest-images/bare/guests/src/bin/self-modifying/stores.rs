//! The same patch by every kind of store: what notices code being written must sit below all of them.

use core::arch::global_asm;

use bare::machine::checks::Checks;
use bare::machine::control;

use crate::{call, returning};

// Each stores the second argument's eight bytes of code where the first points, and goes on there.
global_asm!(
    ".macro store name",
    "store_\\name:",
    "mov rdx, [rdi + 8]",
    "mov rdi, [rdi]",
    ".endm",
    "store mov",
    "mov [rdi], rdx",
    "jmp rdi",
    "store bytes",
    "mov rax, rdi",
    ".rept 8",
    "mov [rdi], dl",
    "shr rdx, 8",
    "inc rdi",
    ".endr",
    "jmp rax",
    "store string",
    "mov rax, rdx",
    "mov rdx, rdi",
    "stosq",
    "jmp rdx",
    "store backwards",
    "mov rsi, rsp",
    "push rdx",
    "lea rsi, [rsp + 7]",
    "mov rdx, rdi",
    "add rdi, 7",
    "mov ecx, 8",
    "std",
    "rep movsb",
    "cld",
    "pop rcx",
    "jmp rdx",
    "store push",
    "mov rcx, rsp",
    "lea rsp, [rdi + 8]",
    "push rdx",
    "mov rsp, rcx",
    "jmp rdi",
    "store pop",
    "push rdx",
    "pop [rdi]",
    "jmp rdi",
    "store exchange",
    "xchg [rdi], rdx",
    "jmp rdi",
    "store compare",
    "mov rax, [rdi]",
    "lock cmpxchg [rdi], rdx",
    "jmp rdi",
    "store add",
    "sub rdx, [rdi]",
    "lock add [rdi], rdx",
    "jmp rdi",
    "store bits",
    "xor rdx, [rdi]",
    "mov ecx, 63",
    "2: bt rdx, rcx",
    "jnc 3f",
    "btc [rdi], rcx",
    "3: dec ecx",
    "jns 2b",
    "jmp rdi",
    "store x87",
    "push rdx",
    "fninit",
    "fild qword ptr [rsp]",
    "fistp qword ptr [rdi]",
    "pop rcx",
    "jmp rdi",
    "store sse",
    "movq xmm0, rdx",
    "movq [rdi], xmm0",
    "jmp rdi",
    "store unaligned_sse",
    "movq xmm0, rdx",
    "movq xmm1, [rdi + 8]",
    "punpcklqdq xmm0, xmm1",
    "movups [rdi], xmm0",
    "jmp rdi",
    "store past_the_cache",
    "movnti [rdi], rdx",
    "sfence",
    "jmp rdi",
    ".macro stored name",
    ".quad store_\\name, 2f, 3f - 2f",
    ".pushsection .rodata",
    "2: .ascii \"store_\\name\"",
    "3:",
    ".popsection",
    ".endm",
    ".pushsection .rodata.stores, \"a\"",
    ".balign 8",
    "stores:",
    "stored mov",
    "stored bytes",
    "stored string",
    "stored backwards",
    "stored push",
    "stored pop",
    "stored exchange",
    "stored compare",
    "stored add",
    "stored bits",
    "stored x87",
    "stored sse",
    "stored unaligned_sse",
    "stored past_the_cache",
    "stores_end:",
    ".popsection",
    ".pushsection .bss",
    ".balign 4096",
    "store_target: .zero 4096",
    ".popsection",
);

#[repr(C)]
struct Store {
    code: u64,
    name: *const u8,
    name_len: usize,
}

unsafe extern "C" {
    static stores: Store;
    static stores_end: Store;
    static store_target: u8;
}

/// Runs the checks.
pub fn check(checks: &mut Checks) {
    // SAFETY: every x86-64 processor has SSE.
    unsafe { control::set_cr4(control::cr4() | control::CR4_OSFXSR) };
    let (start, end) = (&raw const stores, &raw const stores_end);
    // SAFETY: the macro writes whole lines between the two labels.
    let all = unsafe { core::slice::from_raw_parts(start, end.offset_from_unsigned(start)) };
    for store in all {
        // SAFETY: the macro writes an address and a length of ASCII.
        let name = unsafe {
            str::from_utf8_unchecked(core::slice::from_raw_parts(store.name, store.name_len))
        };
        if !checks.wants(name) {
            continue;
        }
        let mut wrong = 0;
        for round in 0..16_u32 {
            // Aligned or not, always in one page.
            let target = &raw const store_target as u64 + 64 + u64::from(round % 3);
            let found = call(store.code, [target, returning(0x1000 + round)]);
            wrong += u64::from(found != u64::from(0x1000 + round));
        }
        checks.check(name, &[("wrong", wrong, 0)]);
    }
}
