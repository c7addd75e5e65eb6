//! What a machine wants done in the world.

use logging_channel::{Digest, OutputKind};

/// An output of the machine, as an owned value: whoever holds it decides whether it happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Send this Ethernet frame (no virtio header).
    SendFrame(Vec<u8>),
    /// Print these bytes on the console.
    Print(Vec<u8>),
}

impl Effect {
    /// Where the output goes.
    #[must_use]
    pub fn kind(&self) -> OutputKind {
        match self {
            Self::SendFrame(_) => OutputKind::Frame,
            Self::Print(_) => OutputKind::Console,
        }
    }

    /// The bytes that leave the machine.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::SendFrame(bytes) | Self::Print(bytes) => bytes,
        }
    }

    /// Digest of [`Self::bytes`].
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(self.bytes())
    }
}
