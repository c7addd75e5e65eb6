//! virtio 1.2 over MMIO (§4.2): network and entropy devices.

mod mmio;
pub mod net;
mod queue;
pub mod rng;
