//! The deterministic machine: engine, memory and devices.

pub mod boot;
pub mod layout;
