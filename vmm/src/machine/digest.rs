//! Digests of a machine's state: what two replicas compare.
//!
//! A periodic digest covers registers, devices, the guest's clock and one stripe of memory, in turn, so that its cost is small and
//! bounded and every page is seen again and again. Whoever feeds the machine says when it is time for one
//! ([`crate::inputs::Next::Digest`]). The digest at the end covers all of memory.

use logging_channel::{Digest, codec::canonical_bytes};
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend};

use super::Machine;
use crate::engine::{Engine, EngineError};

/// Memory that one periodic digest covers, bytes.
pub const STRIPE_BYTES: u64 = 256 << 10;

impl<E: Engine> Machine<E> {
    /// Digest of registers, devices, clock and the memory stripe whose turn it is: stripe 0 first, then the next with each digest.
    ///
    /// # Errors
    /// If the engine cannot read its registers.
    pub fn periodic_digest(&mut self) -> Result<Digest, EngineError> {
        let stripes = self.memory_bytes().div_ceil(STRIPE_BYTES);
        let stripe = self.digests % stripes;
        self.digests += 1;
        self.digest(stripe * STRIPE_BYTES, STRIPE_BYTES)
    }

    /// Digest of registers, devices, clock and all of memory.
    ///
    /// # Errors
    /// If the engine cannot read its registers.
    pub fn full_digest(&mut self) -> Result<Digest, EngineError> {
        self.digest(0, self.memory_bytes())
    }

    fn memory_bytes(&self) -> u64 {
        self.memory.last_addr().0 + 1
    }

    fn digest(&mut self, from: u64, length: u64) -> Result<Digest, EngineError> {
        let mut hasher = blake3::Hasher::new();
        let registers = (self.engine.registers()?, self.engine.floating_point()?);
        hasher.update(&canonical_bytes(&registers));
        self.devices.digest_into(&mut hasher);
        // A clock that is wrong shows long before the guest looks at it.
        hasher.update(&canonical_bytes(&(self.clock, self.engine.retired())));
        let end = (from + length).min(self.memory_bytes());
        let mut buffer = vec![0; STRIPE_BYTES as usize];
        let mut address = from;
        while address < end {
            let chunk = STRIPE_BYTES.min(end - address) as usize;
            self.memory
                .read_slice(&mut buffer[..chunk], GuestAddress(address))
                .expect("the range lies in guest memory");
            hasher.update(&buffer[..chunk]);
            address += chunk as u64;
        }
        Ok(Digest::from_hash(&hasher.finalize()))
    }
}
