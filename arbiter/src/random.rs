//! Fresh identities, from the host's random numbers: the only randomness of this crate.

use rustix::io::{Errno, retry_on_intr};
use rustix::rand::{GetRandomFlags, getrandom};

use crate::core::Identity;
use crate::error::ArbiterError;

impl Identity {
    /// A new identity, unlike any other. Blocks only while a booting host has no entropy yet.
    ///
    /// # Errors
    ///
    /// [`ArbiterError::Random`] when the host refuses `getrandom`.
    pub fn random() -> Result<Self, ArbiterError> {
        let mut bytes = [0; 16];
        let mut filled = 0;
        while filled < bytes.len() {
            let rest = &mut bytes[filled..];
            // Up to 256 bytes come whole, says getrandom(2); a short answer is not trusted to stay impossible.
            filled += match retry_on_intr(|| getrandom(&mut *rest, GetRandomFlags::empty())) {
                Ok(0) => return Err(ArbiterError::Random(Errno::IO.into())),
                Ok(length) => length,
                Err(errno) => return Err(ArbiterError::Random(errno.into())),
            };
        }
        Ok(Self::from_bytes(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::Identity;

    #[test]
    fn two_identities_differ() {
        assert_ne!(Identity::random().unwrap(), Identity::random().unwrap());
    }
}
