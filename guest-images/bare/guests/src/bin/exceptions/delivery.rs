//! What goes wrong while an exception is delivered, and the stacks that gates name (Intel SDM 3A §6.14.5, §6.15 "#DF").

use core::arch::global_asm;

use bare::machine::Global;
use bare::machine::catch::{self, Caught};
use bare::machine::checks::Checks;
use bare::machine::descriptors::{self, GATE_PRESENT, GATE_STACK_SHIFT, SPARE, TASK};

use crate::State;

const BREAKPOINT: u8 = 3;
const DOUBLE_FAULT: u8 = 8;
const PAGE_FAULT: u8 = 14;
/// A vector without an error code that nothing else uses.
const FREE: u8 = 18;
/// A 64-bit TSS that is available, privilege level 0, its limit and low base filled in below.
const AVAILABLE_TASK: u64 = 0x89 << 40;
/// The limit of a task state segment that ends within its fourth interrupt stack.
const SHORT_TASK: u64 = 0x24 + 3 * 8 + 3;
/// The interrupt stacks that gates name here: one that is there, and one past a short segment's end.
const STACK: usize = 1;
const STACK_FAR: usize = 7;

static INTERRUPT_STACK: Global<[u8; 4096]> = Global::new([0; 4096]);

global_asm!(
    "delivery_page_fault:",
    "movabs rax, 0x400000001238",
    "mov eax, [rax]",
    "ret",
    "delivery_breakpoint:",
    "int3",
    "delivery_breakpoint_after:",
    "ret",
    "delivery_free:",
    "int 18",
    "delivery_free_after:",
    "ret",
    "delivery_load_task:",
    "ltr di",
    "ret",
    "delivery_divide:",
    "xor edx, edx",
    "mov eax, 1",
    "xor ecx, ecx",
    "stc",
    "div ecx",
    "ret",
);

unsafe extern "C" {
    fn delivery_page_fault();
    fn delivery_breakpoint();
    static delivery_breakpoint_after: u8;
    fn delivery_free();
    fn delivery_load_task();
    fn delivery_divide();
}

/// Runs all checks of delivery.
pub fn check(checks: &mut Checks, state: &State) {
    let stack = INTERRUPT_STACK.take().as_ptr_range().end as u64;
    descriptors::set_interrupt_stack(STACK, stack);
    gate_not_present(checks);
    stack_of_a_gate(checks, stack);
    double_fault(checks, stack);
    short_task_state(checks);
    resume_flag(checks);
    state.restore();
}

fn caught(code: unsafe extern "C" fn()) -> Option<Caught> {
    // SAFETY: code from above, which raises an exception and changes nothing.
    unsafe { catch::run(code as *const () as u64, 0) }.caught
}

fn compare(checks: &mut Checks, name: &str, caught: Option<Caught>, vector: u64, error: u64) {
    let found = caught.map_or((u64::MAX, 0), |caught| (caught.vector, caught.error_code));
    checks.check(
        name,
        &[("vector", found.0, vector), ("error", found.1, error)],
    );
}

/// Puts another gate in a vector's place while `run` runs.
fn with_gate<T>(vector: u8, change: impl FnOnce(u64) -> u64, run: impl FnOnce() -> T) -> T {
    let gate = descriptors::gate(vector);
    descriptors::set_gate(vector, change(gate));
    let result = run();
    descriptors::set_gate(vector, gate);
    result
}

/// #NP, with the vector in the error code; the instruction is not done.
fn gate_not_present(checks: &mut Checks) {
    if checks.wants("gate_not_present") {
        let caught = with_gate(
            BREAKPOINT,
            |gate| gate & !GATE_PRESENT,
            || caught(delivery_breakpoint),
        );
        compare(
            checks,
            "gate_not_present",
            caught,
            11,
            u64::from(BREAKPOINT) * 8 + 2,
        );
    }
}

/// The handler runs on the stack that its gate names, and the frame holds the old one.
fn stack_of_a_gate(checks: &mut Checks, stack: u64) {
    if !checks.wants("stack_of_a_gate") {
        return;
    }
    let caught = with_gate(
        BREAKPOINT,
        |gate| gate | (STACK as u64) << GATE_STACK_SHIFT,
        || caught(delivery_breakpoint),
    );
    let after = &raw const delivery_breakpoint_after as u64;
    let Some(caught) = caught else {
        return checks.check("stack_of_a_gate", &[("exceptions", 0, 1)]);
    };
    checks.check(
        "stack_of_a_gate",
        &[
            ("vector", caught.vector, 3),
            ("rip", caught.rip, after),
            ("stack", caught.frame_end, stack),
        ],
    );
}

/// A page fault that cannot be delivered for a contributory exception becomes a double fault.
fn double_fault(checks: &mut Checks, stack: u64) {
    if !checks.wants("double_fault") {
        return;
    }
    let on_own_stack = |gate| gate | (STACK as u64) << GATE_STACK_SHIFT;
    let caught = with_gate(
        PAGE_FAULT,
        |gate| gate & !GATE_PRESENT,
        || with_gate(DOUBLE_FAULT, on_own_stack, || caught(delivery_page_fault)),
    );
    let Some(caught) = caught else {
        return checks.check("double_fault", &[("exceptions", 0, 1)]);
    };
    checks.check(
        "double_fault",
        &[
            ("vector", caught.vector, 8),
            ("error", caught.error_code, 0),
            ("cr2", caught.address, 0x4000_0000_1238),
            ("stack", caught.frame_end, stack),
        ],
    );
}

/// #TS: the gate's stack is past the end of the task state segment.
fn short_task_state(checks: &mut Checks) {
    if !checks.wants("short_task_state") {
        return;
    }
    let short = SPARE + 32;
    load_task(short, SHORT_TASK);
    let on_far_stack = |gate| gate | (STACK_FAR as u64) << GATE_STACK_SHIFT;
    let caught = with_gate(FREE, on_far_stack, || caught(delivery_free));
    load_task(TASK, 0x67);
    compare(checks, "short_task_state", caught, 10, short.into());
}

/// Makes a descriptor of the one task state segment, with this limit, and loads it.
fn load_task(selector: u16, limit: u64) {
    let base = descriptors::task_state() as u64;
    let low = limit | (base & 0xFF_FFFF) << 16 | AVAILABLE_TASK | (base >> 24 & 0xFF) << 56;
    descriptors::set_segment(selector, low);
    descriptors::set_segment(selector + 8, base >> 32);
    // SAFETY: the segment is the one in use.
    unsafe { catch::run(delivery_load_task as *const () as u64, selector.into()) };
}

/// A fault saves the flags as they were, and RF set.
fn resume_flag(checks: &mut Checks) {
    if checks.wants("resume_flag") {
        let rflags = caught(delivery_divide).map_or(0, |caught| caught.rflags);
        checks.check(
            "resume_flag",
            &[("rf", rflags >> 16 & 1, 1), ("cf", rflags & 1, 1)],
        );
    }
}
