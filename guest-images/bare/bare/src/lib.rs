//! What the bare-metal guests share.
//!
//! The pure parts ([`net`], [`journal`], [`options`], [`text`], [`hash`]) build everywhere and are tested on the
//! host. `machine` is the hardware side and exists for the guests' own target only: boot,
//! descriptor tables, interrupts, ports and devices, in no more instructions than needed, for some
//! hosts emulate each one.

#![cfg_attr(not(test), no_std)]

pub mod hash;
pub mod journal;
pub mod net;
pub mod options;
pub mod text;

#[cfg(target_os = "none")]
pub mod machine;
