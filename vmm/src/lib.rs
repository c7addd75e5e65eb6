//! lockstep's hypervisor. See `docs/architecture.md` for the figure that the modules follow.

pub mod demo;
pub mod devices;
pub mod doctor;
pub mod effect;
pub mod engine;
pub mod gdb;
pub mod host;
pub mod inputs;
pub mod log_report;
pub mod machine;
pub mod session;
pub mod symbols;
