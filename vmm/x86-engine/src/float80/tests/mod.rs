//! The processor that runs the tests is the oracle: it executes the real instruction on the same
//! operands under the same control word, and values, exceptions and condition codes are compared.
//!
//! Exceptions are unmasked as well as masked. The oracle's FPU has them pending then, which is how
//! the response to them is seen; they never trap, see [`oracle`].
//!
//! Operands come from a fixed seed, so a failure repeats; it names operands and control word.

mod arithmetic;
mod memory;
mod operands;
mod oracle;
mod rounded;
mod transcendental;
