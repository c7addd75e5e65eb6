//! Where an export's bytes are.

use std::{fmt::Debug, io};

/// Bytes that can be read and written at any place, by several threads at once. All calls block.
pub trait Storage: Debug + Send + Sync + 'static {
    /// How many bytes. Constant.
    fn size_bytes(&self) -> u64;

    /// Fills `data` from `offset` on.
    ///
    /// # Errors
    /// The host's; `UnexpectedEof` if the storage has become shorter.
    fn read_at(&self, offset: u64, data: &mut [u8]) -> io::Result<()>;

    /// Writes `data` from `offset` on.
    ///
    /// # Errors
    /// The host's.
    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()>;

    /// Makes `length` bytes zero; with `keep_space` such that a later write to them cannot find the storage full, where the storage knows how.
    ///
    /// # Errors
    /// The host's.
    fn zero(&self, offset: u64, length: u64, keep_space: bool) -> io::Result<()>;

    /// Has all that was written before on stable storage.
    ///
    /// # Errors
    /// The host's. What was written since the last success may be lost then, and no later flush succeeds.
    fn flush(&self) -> io::Result<()>;
}
