//! What the end-to-end tests share.

pub mod agreement;
pub mod debugger;
pub mod disk;
pub mod engines;
pub mod exactness;
pub mod images;
pub mod in_process;
pub mod journal;
pub mod rig;
pub mod small_disk;
pub mod snippet;
pub mod told;
pub mod twins;
