//! From bytes to blocks of ready-to-run operations.
//!
//! ```text
//!  physical address ──► BlockCache ── hit ──► ops[first..first + count]
//!                          └─ miss: translate.rs: iced-x86, then a handler and operand fields for each instruction
//! ```
//!
//! A block is a run of instructions that is entered at its first only. It ends at a branch, at an instruction that changes how
//! code or addresses are interpreted, and at the end of the page. An instruction that crosses a page has a block of its own.

mod blocks;
pub(crate) mod cache;
pub(crate) mod op;
pub(crate) mod translate;
