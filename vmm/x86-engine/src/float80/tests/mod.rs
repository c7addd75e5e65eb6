//! The processor that runs the tests is the oracle: it executes the real instruction on the same
//! operands under the same control word, and value, exceptions and condition codes are compared.
//!
//! Operands come from a fixed seed, so a failure repeats; it names operands and control word.

#[cfg(target_arch = "x86_64")]
mod arithmetic;
#[cfg(target_arch = "x86_64")]
mod memory;
#[cfg(target_arch = "x86_64")]
mod operands;
#[cfg(target_arch = "x86_64")]
mod oracle;
mod transcendental;
