//! virtio 1.2 devices behind the MMIO transport.
//!
//! In: register accesses, and what the world sends. Out: effects, and the level of an interrupt
//! line. Guest memory is touched only inside a call, never later.

pub mod block;
pub mod buffers;
pub mod mmio;
pub mod net;
pub mod queue;
pub mod rng;

#[cfg(test)]
pub(super) mod test_ring;
