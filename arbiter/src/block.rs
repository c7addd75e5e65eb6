//! The state file's format, pure: two blocks of 4096 bytes, each a whole copy of the state.
//!
//! ```text
//!   offset  bytes  field (integers little-endian)
//!        0      8  magic "LSTEPARB"
//!        8      4  version, 1
//!       12      4  1 when there is a holder, else 0
//!       16      8  term
//!       24     16  holder's identity, zeros when there is none
//!       40      4  CRC-32 (IEEE) of bytes 0..40
//!       44   4052  zeros
//! ```
//!
//! What matters lies in the first 512 bytes, the least that any disk writes as a whole; the block
//! is as large as O_DIRECT may ask for. A new state is written to block 0, flushed, then to block 1,
//! flushed, and only then answered. So, whenever the power fails,
//!
//! - at least one block is whole, and the newer whole one counts;
//! - every *answered* state is in both blocks, so the loss of either loses no answer. (Blocks
//!   written in turn would survive a torn write too, but not the later decay of the newer block:
//!   the older would then let a term be won twice.)

use crate::core::{Identity, State};

#[cfg(test)]
mod tests;

/// Bytes in a block: the largest logical block size in common use, and so the alignment of O_DIRECT.
pub(crate) const BLOCK_BYTES: usize = 4096;
/// Copies of the state in a file.
pub(crate) const COPIES: usize = 2;
/// Bytes in a state file.
pub(crate) const FILE_BYTES: usize = COPIES * BLOCK_BYTES;

const MAGIC: [u8; 8] = *b"LSTEPARB";
const VERSION: u32 = 1;
const CHECKSUM_OFFSET: usize = 40;
const HEADER_BYTES: usize = 44;

/// A file's two blocks, aligned as O_DIRECT requires.
#[derive(Debug, Clone, PartialEq, Eq)]
#[repr(C, align(4096))]
pub(crate) struct Blocks(pub(crate) [[u8; BLOCK_BYTES]; COPIES]);

/// Why a block is not a copy of the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BlockFault {
    #[error("is no arbiter state (wrong magic)")]
    Magic,
    #[error("has a wrong checksum")]
    Checksum,
    #[error("has data where there should be none")]
    Padding,
    #[error("has a valid checksum but an impossible state")]
    Impossible,
    #[error("is of version {0}, this program knows version {VERSION}")]
    Version(u32),
}

/// What a file's two blocks say together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Contents {
    /// The newest state that is whole.
    pub(crate) state: State,
    /// Which blocks hold something else, and must be rewritten before `state` is answered.
    pub(crate) stale: [bool; COPIES],
}

impl Blocks {
    /// Two blocks of zeros, to be read into.
    pub(crate) fn zeroed() -> Box<Self> {
        Box::new(Self([[0; BLOCK_BYTES]; COPIES]))
    }

    /// Two copies of `state`.
    pub(crate) fn holding(state: &State) -> Box<Self> {
        Box::new(Self([encode(state); COPIES]))
    }

    /// The whole file's bytes, to be read into.
    pub(crate) fn as_bytes_mut(&mut self) -> &mut [u8] {
        self.0.as_flattened_mut()
    }

    /// The newest whole state, or what is wrong with both blocks.
    pub(crate) fn contents(&self) -> Result<Contents, String> {
        let state = match self.0.each_ref().map(decode) {
            // Never overwritten as if it were torn: another version of lockstep may still count on it.
            [Err(fault @ BlockFault::Version(_)), _] | [_, Err(fault @ BlockFault::Version(_))] => {
                return Err(format!("a block {fault}"));
            }
            [Err(first), Err(second)] => {
                return Err(format!("its first block {first}, its second {second}"));
            }
            [Ok(first), Ok(second)] if first.term == second.term && first != second => {
                return Err(format!(
                    "its blocks name two winners of term {}",
                    first.term
                ));
            }
            [Ok(first), Ok(second)] if first.term > second.term => first,
            [Ok(first), Err(_)] => first,
            [_, Ok(second)] => second,
        };
        let whole = encode(&state);
        let stale = self.0.each_ref().map(|block| *block != whole);
        Ok(Contents { state, stale })
    }
}

/// The block that holds `state`.
fn encode(state: &State) -> [u8; BLOCK_BYTES] {
    assert!(state.is_possible(), "refusing to store {state:?}");
    let mut block = [0; BLOCK_BYTES];
    block[0..8].copy_from_slice(&MAGIC);
    block[8..12].copy_from_slice(&VERSION.to_le_bytes());
    block[12..16].copy_from_slice(&u32::from(state.holder.is_some()).to_le_bytes());
    block[16..24].copy_from_slice(&state.term.to_le_bytes());
    let holder = state.holder.map_or([0; 16], Identity::to_bytes);
    block[24..40].copy_from_slice(&holder);
    let checksum = crc32fast::hash(&block[..CHECKSUM_OFFSET]);
    block[CHECKSUM_OFFSET..HEADER_BYTES].copy_from_slice(&checksum.to_le_bytes());
    block
}

/// The state that `block` holds. The checksum comes before the version, so that a damaged version
/// is damage and not a stranger's format.
fn decode(block: &[u8; BLOCK_BYTES]) -> Result<State, BlockFault> {
    if block[0..8] != MAGIC {
        return Err(BlockFault::Magic);
    }
    if crc32fast::hash(&block[..CHECKSUM_OFFSET]) != u32_at(block, CHECKSUM_OFFSET) {
        return Err(BlockFault::Checksum);
    }
    let version = u32_at(block, 8);
    if version != VERSION {
        return Err(BlockFault::Version(version));
    }
    if block[HEADER_BYTES..].iter().any(|byte| *byte != 0) {
        return Err(BlockFault::Padding);
    }
    let mut term = [0; 8];
    term.copy_from_slice(&block[16..24]);
    let mut identity = [0; 16];
    identity.copy_from_slice(&block[24..40]);
    let holder = match u32_at(block, 12) {
        0 if identity == [0; 16] => None,
        1 => Some(Identity::from_bytes(identity)),
        _ => return Err(BlockFault::Impossible),
    };
    let term = u64::from_le_bytes(term);
    let state = State { term, holder };
    if !state.is_possible() {
        return Err(BlockFault::Impossible);
    }
    Ok(state)
}

fn u32_at(block: &[u8; BLOCK_BYTES], offset: usize) -> u32 {
    let mut bytes = [0; 4];
    bytes.copy_from_slice(&block[offset..offset + 4]);
    u32::from_le_bytes(bytes)
}
