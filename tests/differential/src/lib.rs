//! The software CPU against the real processor.

pub mod case;
pub mod compare;
pub mod coverage;
pub mod exclusions;
pub mod generate;
pub mod kvm;
pub mod layout;
pub mod minimise;
pub mod program;
pub mod random;
pub mod rig;
pub mod soft;
pub mod text;
