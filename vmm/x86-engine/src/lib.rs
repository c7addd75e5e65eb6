//! A deterministic x86-64 processor in software.
//!
//! In: guest memory, a state, and answers to what the guest asks of the outside. Out: exits, as data, and a state. What always holds:
//!
//! - the state after n instructions is a function of the state before, of memory and of the answers: no clock, no thread, no randomness, no
//!   property of the host is consulted;
//! - the processor can stop before any instruction, and knows exactly how many have retired;
//! - its caches (translations, decoded code) cannot be seen: a processor that is saved and restored goes on as if nothing had been.
//!
//! ```text
//!   run(goal) ─► Stop::Exit(exit) ─► reply(…) ─► run(goal) ─► Stop::Reached ─► interrupt(vector) ─► …
//! ```
//!
//! | module | |
//! |---|---|
//! | [`run`] | the loop |
//! | `decode` | bytes to blocks of operations, and their cache |
//! | `isa` | what the operations do, by family |
//! | `float80` | the arithmetic of the x87 |
//! | `memory` | segmentation, paging, the translation cache |
//! | `cpu`, `flags`, [`state`] | registers |

#[cfg(not(all(target_arch = "x86_64", target_endian = "little")))]
compile_error!("x86-engine uses the host's SSE for the guest's SSE: build it for x86-64");

mod cpu;
mod decode;
pub mod exception;
pub mod exit;
mod flags;
mod float80;
mod integer;
mod isa;
mod memory;
pub mod model;
#[cfg(test)]
mod native_host;
pub mod run;
pub mod state;
#[cfg(test)]
mod test_support;

pub use cpu::{DescriptorTable, Msrs, Segment, Shadow, X87};
pub use exit::{Exit, Goal, Reply, Stop};
pub use memory::ram::Ram;
pub use run::Cpu;
pub use state::{STATE_VERSION, State, UnknownVersion};
