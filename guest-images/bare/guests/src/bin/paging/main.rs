//! Checks paging (Intel SDM 3A chapter 4): page sizes, accessed and dirty bits, protection, cached translations, and accesses that cross
//! from one page to the next.
//!
//! Options: `skip=` names of checks that are left out, between commas.

#![no_std]
#![no_main]

mod access;
mod bits;
mod caches;
mod crossing;
mod protection;
mod supervisor;
mod translation;

use bare::machine::checks::Checks;
use bare::machine::control;
use bare::options::Options;

use bare::machine::space::Space;

bare::guest!(main);

fn main(options: Options<'static>) {
    let mut checks = Checks::new("paging", &options);
    let space = Space::take();
    // SAFETY: no entry has the bit set that this gives a meaning to; every x86-64 processor has it.
    unsafe {
        control::set_msr(
            control::EFER,
            control::msr(control::EFER) | control::EFER_NXE,
        );
        control::set_cr0(control::cr0() | control::CR0_WP);
    }
    translation::check(&mut checks, &space);
    bits::check(&mut checks, &space);
    protection::check(&mut checks, &space);
    supervisor::check(&mut checks, &space);
    caches::check(&mut checks, &space);
    crossing::check(&mut checks, &space);
    checks.end();
}
