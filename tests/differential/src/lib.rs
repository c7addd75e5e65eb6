//! The software CPU against the real processor: random instructions, operands, flags and memory on both, and everything compared.
//!
//! In: a seed and a number of cases. Out: what was tried, and every difference, made small and printed as a case that can be run again.
//! What always holds: case n of a seed is the same on every host; a case that a report prints is complete.
//!
//! ```text
//!  seed, number ─► generate ─► Case ──┬─► kvm: user mode of a KVM guest ─► Outcome ─┐
//!                                     └─► soft: x86-engine ──────────────► Outcome ─┴─► compare ─► minimise ─► report
//! ```
//!
//! | module | |
//! |---|---|
//! | [`layout`], [`program`] | the address space that both have; the guest program that runs a batch of cases without an exit |
//! | [`case`], [`text`] | a case and its outcome, in guest memory and as text |
//! | [`generate`] | random cases |
//! | [`kvm`], [`soft`] | the two processors |
//! | [`compare`], [`exclusions`], `allowances` | what is equal; what cannot be compared: the only such lists |
//! | [`rig`], [`hunt`] | both side by side; batches, counts and reports |
//! | [`minimise`], [`coverage`] | smaller cases; what was tried |
//!
//! A case runs at CPL 3, which is native on every KVM host (`docs/hosts.md`). It ends by an exception: one of its own, or the #GP of
//! the HLT behind it. Handlers of three instructions bring it back to user mode, where the program records everything. For undefined
//! flags and results the host is the reference; the cases were settled with an AMD Zen 4.

mod allowances;
pub mod case;
pub mod compare;
pub mod coverage;
pub mod exclusions;
pub mod generate;
pub mod hunt;
pub mod kvm;
pub mod layout;
pub mod minimise;
pub mod program;
pub mod random;
pub mod rig;
pub mod soft;
pub mod text;
