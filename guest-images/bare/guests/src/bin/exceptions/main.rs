//! Raises every exception that code can raise, and checks what the processor says of it: vector, error code, saved instruction pointer, code
//! segment and stack pointer, and CR2.
//!
//! Options: `skip=` names of checks that are left out, between commas.

#![no_std]
#![no_main]

mod debug;
mod delivery;
mod table;

use bare::machine::catch::{self, Outcome};
use bare::machine::checks::Checks;
use bare::machine::descriptors::{self, GATE_FOR_USER, KERNEL_CODE, SPARE, USER_CODE};
use bare::machine::{control, paging};
use bare::options::Options;

use self::table::{Check, RESUME, USER};

/// Flat 32-bit code, privilege level 0.
const CODE_32: u64 = 0x00CF_9B00_0000_FFFF;
/// A segment's present bit.
const PRESENT: u64 = 1 << 47;
/// Flat data, privilege level 0.
const DATA: u64 = 0x00CF_9300_0000_FFFF;
/// Flat 64-bit code, privilege level 0.
const CODE_64: u64 = 0x00AF_9B00_0000_FFFF;
/// The vector that INT3 raises.
const BREAKPOINT: u8 = 3;
/// The flags' AC.
const ALIGNMENT_CHECK: u64 = 1 << 18;
/// Large pages that privilege level 3 may use: this image.
const USER_PAGES: usize = 8;

bare::guest!(main);

fn main(options: Options<'static>) {
    let mut checks = Checks::new("exceptions", &options);
    descriptors::set_segment(SPARE, CODE_32);
    descriptors::set_segment(SPARE + 8, DATA & !PRESENT);
    descriptors::set_segment(SPARE + 16, CODE_64 & !PRESENT);
    descriptors::set_gate(BREAKPOINT, descriptors::gate(BREAKPOINT) | GATE_FOR_USER);
    paging::open_to_user(USER_PAGES);
    let state = State::prepare();
    for check in table::checks() {
        if checks.wants(check.name()) {
            let outcome = run(check);
            state.restore();
            compare(&mut checks, check, outcome);
        }
    }
    debug::check(&mut checks);
    delivery::check(&mut checks, &state);
    checks.end();
}

fn run(check: &Check) -> Outcome {
    // SAFETY: the table's code is what its kind says, and leaves nothing behind but what `State` restores.
    unsafe {
        match check.kind {
            USER => catch::run_user(check.code, ALIGNMENT_CHECK, 0),
            RESUME => catch::run_resuming(check.code, 0),
            _ => catch::run(check.code, 0),
        }
    }
}

fn compare(checks: &mut Checks, check: &Check, outcome: Outcome) {
    let Some(caught) = outcome.caught else {
        return checks.check(check.name(), &[("exceptions", 0, 1)]);
    };
    let is_32_bit = caught.cs == u64::from(SPARE);
    let (segment, stack) = match check.kind {
        USER => (u64::from(USER_CODE), catch::user_stack()),
        // Code of 32 bits says by what it does in which mode it was; below level 3 the stack is wherever it was.
        _ if is_32_bit => (u64::from(SPARE), caught.rsp),
        _ => (u64::from(KERNEL_CODE), caught.rsp),
    };
    checks.check(
        check.name(),
        &[
            ("vector", caught.vector, check.vector),
            ("error", caught.error_code, check.error_code),
            ("rip", caught.rip, check.rip),
            ("cs", caught.cs, segment),
            ("rsp", caught.rsp, stack),
            ("alignment", caught.frame_end % 16, 0),
            ("result", outcome.result, u64::from(check.kind == RESUME)),
            (
                "cr2",
                if check.address == 0 {
                    0
                } else {
                    caught.address
                },
                check.address,
            ),
        ],
    );
}

/// The control registers that the checks' code changes.
pub struct State {
    cr0: u64,
    cr4: u64,
}

impl State {
    /// Switches on what the checks need.
    fn prepare() -> Self {
        let state = Self {
            cr0: control::cr0() | control::CR0_AM | control::CR0_NE,
            cr4: control::cr4() | control::CR4_OSFXSR | control::CR4_OSXMMEXCPT,
        };
        state.restore();
        state
    }

    /// Undoes what a check's code did.
    pub fn restore(&self) {
        // SAFETY: paging and protection stay as they were; every x86-64 processor has SSE.
        unsafe {
            control::set_cr0(self.cr0);
            control::set_cr4(self.cr4);
            core::arch::asm!(
                "fninit",
                "push 0x1F80",
                "ldmxcsr [rsp]",
                "pop {scratch}",
                "mov dr7, {zero}",
                scratch = out(reg) _,
                zero = in(reg) 0_u64,
            );
        }
    }
}
