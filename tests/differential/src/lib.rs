//! The software CPU against the real processor.

pub mod case;
pub mod compare;
pub mod exclusions;
pub mod generate;
pub mod kvm;
pub mod layout;
pub mod program;
pub mod random;
pub mod soft;
