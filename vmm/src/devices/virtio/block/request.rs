//! What a chain of descriptors asks of the disk (virtio 1.2 §5.2.6).
//!
//! In: a chain, which a guest may have filled with anything. Out: an operation that lies within the disk and its limits, or an answer that needs no disk.
//! Always: what is to be written is copied here, once.
//!
//! ```text
//!     readable                                                writable
//!     ┌─────────────┬────────────────────────────────────┐    ┌──────────────────────────┬────────┐
//!     │ header (16) │ OUT: data; DISCARD, ZEROES: segment │    │ IN: data; GET_ID: id (20) │ status │
//!     └─────────────┴────────────────────────────────────┘    └──────────────────────────┴────────┘
//! ```
//!
//! The driver may cut either part into buffers as it likes (§2.7.4.1).

use std::{iter, sync::Arc};

use virtio_bindings::virtio_blk::{
    VIRTIO_BLK_S_IOERR, VIRTIO_BLK_S_OK, VIRTIO_BLK_S_UNSUPP, VIRTIO_BLK_T_DISCARD,
    VIRTIO_BLK_T_FLUSH, VIRTIO_BLK_T_GET_ID, VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT,
    VIRTIO_BLK_T_WRITE_ZEROES, VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP,
};

use super::{BlockConfig, CLEAR_LIMIT_SECTORS, ID_LIMIT_BYTES, REQUEST_LIMIT_BYTES};
use crate::devices::virtio::buffers::Buffers;
use crate::devices::virtio::queue::{Chain, RingFault};
use crate::effect::{DiskOperation, SECTOR_BYTES};
use crate::machine::GuestMemory;

/// Type, reserved, sector.
const HEADER_BYTES: u64 = 16;
/// `struct virtio_blk_discard_write_zeroes`: sector, number of sectors, flags.
const SEGMENT_BYTES: u64 = 16;
/// At the end of every chain.
pub const STATUS_BYTES: u64 = 1;

/// What to do with a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// A request for the disk.
    Operation(DiskOperation),
    /// An answer at once.
    Answer {
        /// The status byte.
        status: u8,
        /// What goes before it.
        data: Vec<u8>,
    },
}

impl Parsed {
    const MALFORMED: Self = Self::status(VIRTIO_BLK_S_IOERR);
    const UNSUPPORTED: Self = Self::status(VIRTIO_BLK_S_UNSUPP);
    const DONE: Self = Self::status(VIRTIO_BLK_S_OK);

    const fn status(status: u32) -> Self {
        Self::Answer {
            status: status as u8,
            data: Vec::new(),
        }
    }
}

/// A request's parts.
struct Request<'a> {
    disk: &'a BlockConfig,
    readable: &'a Buffers,
    /// The header's.
    sector: u64,
    /// Readable bytes after the header.
    given_bytes: u64,
    /// Writable bytes before the status.
    room_bytes: u64,
}

/// What `chain` asks of `disk`.
///
/// # Errors
/// There is no room for the status byte, or guest memory cannot be read.
pub fn parse(chain: &Chain, disk: &BlockConfig, memory: &GuestMemory) -> Result<Parsed, RingFault> {
    let room_bytes = chain.writable.bytes().checked_sub(STATUS_BYTES);
    let room_bytes = room_bytes.ok_or(RingFault::Chain)?;
    let Some(given_bytes) = chain.readable.bytes().checked_sub(HEADER_BYTES) else {
        return Ok(Parsed::MALFORMED);
    };
    let mut header = [0; HEADER_BYTES as usize];
    chain.readable.read(0, &mut header, memory)?;
    let request = Request {
        disk,
        readable: &chain.readable,
        sector: word64(&header, 8),
        given_bytes,
        room_bytes,
    };
    match word32(&header, 0) {
        VIRTIO_BLK_T_IN => Ok(request.read()),
        VIRTIO_BLK_T_OUT => request.write(memory),
        VIRTIO_BLK_T_FLUSH => Ok(request.flush()),
        VIRTIO_BLK_T_GET_ID => Ok(request.id()),
        kind @ (VIRTIO_BLK_T_DISCARD | VIRTIO_BLK_T_WRITE_ZEROES) => {
            request.clear(kind == VIRTIO_BLK_T_DISCARD, memory)
        }
        _ => Ok(Parsed::UNSUPPORTED),
    }
}

impl Request<'_> {
    fn read(&self) -> Parsed {
        if self.given_bytes != 0 || !self.transfers(self.room_bytes) {
            return Parsed::MALFORMED;
        }
        Parsed::Operation(DiskOperation::Read {
            sector: self.sector,
            bytes: self.room_bytes as u32,
        })
    }

    fn write(&self, memory: &GuestMemory) -> Result<Parsed, RingFault> {
        if self.disk.read_only || self.room_bytes != 0 || !self.transfers(self.given_bytes) {
            return Ok(Parsed::MALFORMED);
        }
        let mut data: Arc<[u8]> = iter::repeat_n(0, self.given_bytes as usize).collect();
        let target = Arc::get_mut(&mut data).expect("nobody else has it yet");
        self.readable.read(HEADER_BYTES, target, memory)?;
        Ok(Parsed::Operation(DiskOperation::Write {
            sector: self.sector,
            data,
        }))
    }

    /// On a disk that nobody writes to there is nothing to do.
    fn flush(&self) -> Parsed {
        match (self.given_bytes, self.room_bytes) {
            (0, 0) if self.disk.read_only => Parsed::DONE,
            (0, 0) => Parsed::Operation(DiskOperation::Flush),
            _ => Parsed::MALFORMED,
        }
    }

    /// NUL-padded; without a NUL where it is as long as it may be.
    fn id(&self) -> Parsed {
        if self.given_bytes != 0 || self.room_bytes != ID_LIMIT_BYTES as u64 {
            return Parsed::MALFORMED;
        }
        let mut data = self.disk.id.as_bytes().to_vec();
        data.resize(ID_LIMIT_BYTES, 0);
        Parsed::Answer {
            status: VIRTIO_BLK_S_OK as u8,
            data,
        }
    }

    /// DISCARD and WRITE_ZEROES, of one segment. §5.2.6.2: flags that are not known, and unmapping where discarding does that anyway, are
    /// unsupported.
    fn clear(&self, discard: bool, memory: &GuestMemory) -> Result<Parsed, RingFault> {
        if self.disk.read_only || self.room_bytes != 0 || self.given_bytes != SEGMENT_BYTES {
            return Ok(Parsed::MALFORMED);
        }
        let mut segment = [0; SEGMENT_BYTES as usize];
        self.readable.read(HEADER_BYTES, &mut segment, memory)?;
        let (sector, sectors) = (word64(&segment, 0), word32(&segment, 8));
        let unmap = match word32(&segment, 12) {
            0 => false,
            VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP if !discard => true,
            _ => return Ok(Parsed::UNSUPPORTED),
        };
        if sectors > CLEAR_LIMIT_SECTORS || !self.holds(sector, sectors.into()) {
            return Ok(Parsed::MALFORMED);
        }
        Ok(Parsed::Operation(match discard {
            true => DiskOperation::Discard { sector, sectors },
            false => DiskOperation::WriteZeroes {
                sector,
                sectors,
                unmap,
            },
        }))
    }

    /// Whether `bytes` from the header's sector on are whole sectors of the disk, and no more than a request may have.
    fn transfers(&self, bytes: u64) -> bool {
        bytes.is_multiple_of(SECTOR_BYTES)
            && bytes <= REQUEST_LIMIT_BYTES.into()
            && self.holds(self.sector, bytes / SECTOR_BYTES)
    }

    /// Whether there are such sectors, at least one.
    fn holds(&self, sector: u64, sectors: u64) -> bool {
        let end = sector.checked_add(sectors);
        sectors > 0 && end.is_some_and(|end| end <= self.disk.sectors)
    }
}

/// The 32-bit word at `offset`, little endian.
fn word32(bytes: &[u8; 16], offset: usize) -> u32 {
    word64(bytes, offset) as u32
}

/// The 64-bit word at `offset`, little endian, as far as there are bytes.
fn word64(bytes: &[u8; 16], offset: usize) -> u64 {
    (u128::from_le_bytes(*bytes) >> (8 * offset)) as u64
}
