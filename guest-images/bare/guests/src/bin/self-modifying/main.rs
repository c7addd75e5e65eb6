//! Changes its own code, in every way that a processor must notice, and checks what the code does afterwards.
//!
//! Intel SDM 3A §8.1.3 and §11.6: a processor sees its own store in its next instruction, if it is at the address where it was
//! stored; through another address, after a serialising instruction.
//!
//! Options: `skip=` names of checks that are left out, between commas.

#![no_std]
#![no_main]

mod generated;
mod pages;
mod patches;
mod stores;

use bare::machine::catch;
use bare::machine::checks::Checks;
use bare::machine::space::Space;
use bare::options::Options;

bare::guest!(main);

fn main(options: Options<'static>) {
    let mut checks = Checks::new("self-modifying", &options);
    let space = Space::take();
    patches::check(&mut checks);
    stores::check(&mut checks);
    pages::check(&mut checks, &space);
    generated::check(&mut checks);
    checks.end();
}

/// Instead of a result: the code raised an exception.
const EXCEPTION: u64 = 0xE000_0000_0000_0000;

/// Calls code that gets `arguments` by their address in RDI, and returns its result.
fn call(code: u64, arguments: [u64; 2]) -> u64 {
    // SAFETY: callers pass code of theirs that changes nothing but itself, RAX, RCX, RDX, RSI, RDI and flags.
    let outcome = unsafe { catch::run(code, (&raw const arguments) as u64) };
    match outcome.caught {
        Some(caught) => EXCEPTION | caught.vector,
        None => outcome.result,
    }
}

/// `mov eax, value; ret` and two NOPs.
const fn returning(value: u32) -> u64 {
    0x9090_C300_0000_00B8 | (value as u64) << 8
}
