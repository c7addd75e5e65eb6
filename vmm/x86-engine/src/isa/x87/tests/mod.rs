//! The processor that runs the tests is the oracle: the same bytes of code run on it and on [`Cpu`](crate::run::Cpu), at the same addresses, from
//! the same state, and everything that they leave is compared.

mod coverage;
mod faults;
mod generator;
mod instructions;
mod native;
mod saving;
mod twin;
