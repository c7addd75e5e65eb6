//! The software CPU against the real processor.

pub mod case;
pub mod kvm;
pub mod layout;
pub mod program;
pub mod random;
