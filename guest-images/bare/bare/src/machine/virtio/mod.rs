//! virtio 1.2 over MMIO (§4.2): network, entropy and block devices.

pub mod block;
mod mmio;
pub mod net;
mod queue;
pub mod rng;
