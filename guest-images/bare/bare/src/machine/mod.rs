//! The machine under a guest: boot, interrupts, ports and devices.
//!
//! One processor, and no code runs beside a guest's own but interrupt entry points in assembly,
//! which touch nothing but their counters. So each device is owned by whoever took it.

mod boot;
pub mod catch;
pub mod checks;
pub mod clock;
pub mod control;
pub mod descriptors;
pub mod exceptions;
mod global;
pub mod interrupts;
pub mod paging;
pub mod pit;
pub mod port;
mod pvh;
pub mod serial;
pub mod space;
pub mod user;
pub mod virtio;

pub use boot::reset;
pub use global::Global;
