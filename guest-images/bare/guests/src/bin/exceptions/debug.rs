//! Vector 1: steps, breakpoints, watchpoints, and what DR6 says of them (Intel SDM 3B §17.3).

use core::arch::{asm, global_asm};

use bare::machine::catch;
use bare::machine::checks::Checks;

/// DR6's bits that are always 1 (on processors without transactional memory and bus-lock detection).
const DR6_ONES: u64 = 0xFFFF_0FF0;
/// DR6: breakpoint 0, 1.
const HIT_0: u64 = 1 << 0;
const HIT_1: u64 = 1 << 1;
/// DR6: an access to a debug register.
const ACCESS: u64 = 1 << 13;
/// DR6: a single step.
const STEP: u64 = 1 << 14;
/// DR7: its bit that is always 1.
const DR7_ONE: u64 = 1 << 10;
/// DR7: breakpoint 0 on, for execution.
const EXECUTION_0: u64 = 1 << 1;
/// DR7: breakpoint 1 on, for stores to four bytes; for loads and stores.
const STORE_1: u64 = 1 << 3 | 0b01 << 20 | 0b11 << 22;
const ACCESS_1: u64 = 1 << 3 | 0b11 << 20 | 0b11 << 22;
/// DR7: general detect.
const DETECT: u64 = 1 << 13;

global_asm!(
    "debug_step:",
    "xor eax, eax",
    "pushfq",
    "or qword ptr [rsp], 0x100",
    "popfq",
    "inc eax",
    "debug_step_after:",
    "ret",
    "debug_step_over_string:",
    "lea rdi, [rip + debug_word]",
    "xor eax, eax",
    "mov ecx, 4",
    "pushfq",
    "or qword ptr [rsp], 0x100",
    "popfq",
    "debug_step_over_string_after:",
    "rep stosb",
    "mov eax, 1",
    "ret",
    "debug_execution:",
    "xor eax, eax",
    "debug_execution_at:",
    "inc eax",
    "ret",
    "debug_store:",
    "mov eax, 1",
    "mov ecx, [rip + debug_word]",
    "mov [rip + debug_word], eax",
    "debug_store_after:",
    "ret",
    "debug_load:",
    "mov eax, 1",
    "mov ecx, [rip + debug_word]",
    "debug_load_after:",
    "ret",
    "debug_store_beside:",
    "mov byte ptr [rip + debug_word + 3], 1",
    "debug_store_beside_after:",
    "mov eax, 1",
    "ret",
    "debug_instruction:",
    "xor eax, eax",
    ".byte 0xF1",
    "debug_instruction_after:",
    "inc eax",
    "ret",
    "debug_detect:",
    "xor eax, eax",
    "debug_detect_at:",
    "mov rcx, dr0",
    "inc eax",
    "ret",
    ".pushsection .data",
    ".balign 4",
    "debug_word: .long 0",
    ".popsection",
);

macro_rules! labels {
    ($($name:ident)*) => {
        unsafe extern "C" { $(static $name: u8;)* }
    };
}

labels! {
    debug_step debug_step_after debug_step_over_string debug_step_over_string_after debug_execution debug_execution_at debug_store
    debug_store_after debug_load debug_load_after debug_store_beside debug_store_beside_after debug_instruction
    debug_instruction_after debug_detect debug_detect_at debug_word
}

/// One check: code, where the saved instruction pointer must point, DR7 meanwhile, and what DR6 must say.
struct Debug {
    name: &'static str,
    code: *const u8,
    rip: *const u8,
    dr7: u64,
    dr6: u64,
}

/// Runs all checks of vector 1.
pub fn check(checks: &mut Checks) {
    let debug = |name, code, rip, dr7, dr6| Debug {
        name,
        code,
        rip,
        dr7,
        dr6,
    };
    let all = [
        debug(
            "single_step",
            &raw const debug_step,
            &raw const debug_step_after,
            0,
            STEP,
        ),
        // Between two rounds of a repeated instruction, the saved instruction pointer is its own.
        debug(
            "single_step_of_a_string",
            &raw const debug_step_over_string,
            &raw const debug_step_over_string_after,
            0,
            STEP,
        ),
        debug(
            "execution_breakpoint",
            &raw const debug_execution,
            &raw const debug_execution_at,
            EXECUTION_0,
            HIT_0,
        ),
        debug(
            "store_watchpoint",
            &raw const debug_store,
            &raw const debug_store_after,
            STORE_1,
            HIT_1,
        ),
        debug(
            "load_watchpoint",
            &raw const debug_load,
            &raw const debug_load_after,
            ACCESS_1,
            HIT_1,
        ),
        debug(
            "watchpoint_of_a_part",
            &raw const debug_store_beside,
            &raw const debug_store_beside_after,
            STORE_1,
            HIT_1,
        ),
        debug(
            "interrupt_1",
            &raw const debug_instruction,
            &raw const debug_instruction_after,
            0,
            0,
        ),
        debug(
            "debug_register_access",
            &raw const debug_detect,
            &raw const debug_detect_at,
            DETECT,
            ACCESS,
        ),
    ];
    for debug in &all {
        if checks.wants(debug.name) {
            run(checks, debug);
        }
    }
}

fn run(checks: &mut Checks, debug: &Debug) {
    set_registers(
        &raw const debug_execution_at as u64,
        &raw const debug_word as u64,
        debug.dr7,
    );
    // SAFETY: code from above, which returns 1 and changes nothing but its own word.
    let outcome = unsafe { catch::run_resuming(debug.code as u64, 0) };
    let dr6 = dr6();
    set_registers(0, 0, 0);
    let Some(caught) = outcome.caught else {
        return checks.check(debug.name, &[("exceptions", 0, 1)]);
    };
    checks.check(
        debug.name,
        &[
            ("vector", caught.vector, 1),
            ("error", caught.error_code, 0),
            ("rip", caught.rip, debug.rip as u64),
            ("dr6", dr6, DR6_ONES | debug.dr6),
            ("result", outcome.result, 1),
        ],
    );
}

fn set_registers(breakpoint: u64, watchpoint: u64, dr7: u64) {
    // SAFETY: the addresses are canonical, and a #DB is caught.
    unsafe {
        asm!(
            "mov dr0, {breakpoint}",
            "mov dr1, {watchpoint}",
            "mov dr6, {dr6}",
            "mov dr7, {dr7}",
            breakpoint = in(reg) breakpoint,
            watchpoint = in(reg) watchpoint,
            dr6 = in(reg) DR6_ONES,
            dr7 = in(reg) dr7 | DR7_ONE,
            options(nostack, preserves_flags),
        );
    }
}

fn dr6() -> u64 {
    let value;
    // SAFETY: reads a debug register; general detect is off, for its own #DB switched it off.
    unsafe { asm!("mov {}, dr6", out(reg) value, options(nomem, nostack, preserves_flags)) };
    value
}
