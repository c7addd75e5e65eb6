//! Code that changes what is just ahead of it, just behind it, around it, and itself.

use core::arch::global_asm;

use bare::machine::checks::Checks;

use crate::call;

// RDI points at the arguments. All of it lies in one page: `pages` does what crosses one.
global_asm!(
    ".pushsection .data.patches, \"aw\"",
    ".balign 4096",
    // The operand of the next instruction.
    "patch_next:",
    "mov edx, [rdi]",
    "mov [rip + 2f + 1], edx",
    "2: mov eax, 0x11111111",
    "ret",
    // The opcode of the next instruction: INC becomes DEC (FF C0, FF C8).
    "patch_opcode:",
    "mov eax, 100",
    "mov byte ptr [rip + 2f + 1], 0xC8",
    "2: inc eax",
    "mov byte ptr [rip + 2b + 1], 0xC0",
    "ret",
    // One that is some way ahead in the same run of instructions.
    "patch_ahead:",
    "mov edx, [rdi]",
    "mov [rip + 2f + 1], edx",
    ".rept 40",
    "inc edx",
    "dec edx",
    ".endr",
    "2: mov eax, 0x22222222",
    "ret",
    // Five NOPs become one instruction of five bytes, and NOPs again.
    "patch_length:",
    "mov rdx, [rdi]",
    "mov rcx, 0x9090909090909090",
    "xor eax, eax",
    "mov [rip + 2f], rdx",
    "2: .fill 8, 1, 0x90",
    "mov [rip + 2b], rcx",
    "ret",
    // The instruction itself: what it was is done, and the next time it is another.
    "patch_itself:",
    "xor eax, eax",
    "mov rdx, [rdi]",
    "2: mov [rip + 2b], rdx",
    "nop",
    "ret",
    // A loop whose body counts its own operand up.
    "patch_loop:",
    "xor eax, eax",
    "mov ecx, [rdi]",
    "mov dword ptr [rip + 2f + 1], 1",
    "2: add eax, 0x7FFFFFFF",
    "inc dword ptr [rip + 2b + 1]",
    "dec ecx",
    "jnz 2b",
    "ret",
    // A loop that takes turns between two operations on RAX: ADD (05) and SUB (2D).
    "patch_turns:",
    "xor eax, eax",
    "mov ecx, [rdi]",
    "2: .byte 0x05",
    ".long 3",
    "inc eax",
    "xor byte ptr [rip + 2b], 0x28",
    "dec ecx",
    "jnz 2b",
    "ret",
    // The place to which a call returns.
    "patch_return:",
    "call 3f",
    "2: mov eax, 0x33333333",
    "ret",
    "3: mov edx, [rdi]",
    "mov [rip + 2b + 1], edx",
    "ret",
    // The target of a jump that has been taken before, and the jump itself: short, its distance.
    "patch_jump:",
    "mov edx, [rdi]",
    "xor eax, eax",
    "mov [rip + 2f + 1], dl",
    "2: jmp 3f",
    "3: .rept 8",
    "inc eax",
    ".endr",
    "ret",
    // A counter between instructions: stores beside code, not into it.
    "patch_beside:",
    "mov ecx, [rdi]",
    "mov dword ptr [rip + 3f], 0",
    "jmp 2f",
    "3: .long 0",
    "2: inc dword ptr [rip + 3b]",
    "dec ecx",
    "jnz 2b",
    "mov eax, [rip + 3b]",
    "ret",
    // A repeated store over what follows it: 16 INCs become NOPs, all but the last RDI.
    "patch_string:",
    "mov ecx, 32",
    "sub ecx, [rdi]",
    "sub ecx, [rdi]",
    "lea rdi, [rip + 2f]",
    "mov al, 0x90",
    "rep stosb",
    "xor eax, eax",
    "2: .rept 16",
    "inc eax",
    ".endr",
    "lea rdi, [rip + 2b]",
    "mov ecx, 16",
    "mov edx, eax",
    "mov ax, 0xC0FF",
    "rep stosw",
    "mov eax, edx",
    "ret",
    ".popsection",
);

unsafe extern "C" {
    static patch_next: u8;
    static patch_opcode: u8;
    static patch_ahead: u8;
    static patch_length: u8;
    static patch_itself: u8;
    static patch_loop: u8;
    static patch_turns: u8;
    static patch_return: u8;
    static patch_jump: u8;
    static patch_beside: u8;
    static patch_string: u8;
}

/// How often each is called, with another argument.
const CALLS: u64 = 50;

/// Runs the checks.
pub fn check(checks: &mut Checks) {
    let argument = |round: u64| (0x0101_0101 * (round + 1)) & 0x7FFF_FFFF;
    each(
        checks,
        "next_operand",
        &raw const patch_next,
        argument,
        argument,
    );
    each(
        checks,
        "next_opcode",
        &raw const patch_opcode,
        |_| 0,
        |_| 99,
    );
    each(
        checks,
        "operand_ahead",
        &raw const patch_ahead,
        argument,
        argument,
    );
    // `mov eax, N`, and three NOPs.
    each(
        checks,
        "other_lengths",
        &raw const patch_length,
        |round| 0x9090_9000_0000_00B8 | round << 8,
        |round| round,
    );
    // The first call still stores, all later ones are `mov eax, 42`.
    each(
        checks,
        "itself",
        &raw const patch_itself,
        |_| 0x9090_9000_0000_2AB8,
        |round| if round == 0 { 0 } else { 42 },
    );
    each(
        checks,
        "loop",
        &raw const patch_loop,
        |round| round + 1,
        |round| (round + 1) * (round + 2) / 2,
    );
    // Two turns add 3 and subtract 3, and 1 each time. An even number of turns leaves the code as it was.
    each(
        checks,
        "turns",
        &raw const patch_turns,
        |round| 2 * round + 2,
        |round| 2 * round + 2,
    );
    each(
        checks,
        "return",
        &raw const patch_return,
        argument,
        argument,
    );
    each(
        checks,
        "jump",
        &raw const patch_jump,
        |round| round % 8 * 2,
        |round| 8 - round % 8,
    );
    each(
        checks,
        "data_beside",
        &raw const patch_beside,
        |round| 100 * round + 1,
        |round| 100 * round + 1,
    );
    each(
        checks,
        "string_store",
        &raw const patch_string,
        |round| round % 17,
        |round| round % 17,
    );
}

fn each(
    checks: &mut Checks,
    name: &str,
    code: *const u8,
    argument: impl Fn(u64) -> u64,
    expected: impl Fn(u64) -> u64,
) {
    for round in 0..CALLS {
        let found = call(code as u64, [argument(round), 0]);
        if found != expected(round) {
            return checks.check(
                name,
                &[
                    ("round", round, u64::MAX),
                    ("result", found, expected(round)),
                ],
            );
        }
    }
    checks.check(name, &[]);
}
