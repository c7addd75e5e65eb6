//! One zstd stream per segment, flushed at each frame.
//!
//! In: the payload of a frame. Out: its piece of the stream, and back. A piece can be read once those before it were, so
//! even a frame of a single entry profits from what the segment has seen. What always holds: neither side keeps more
//! than [`WINDOW_LOG`] of history, and no piece becomes more than [`MAX_PAYLOAD_BYTES`].

use std::io;

use zstd::stream::raw::{
    CParameter, DParameter, Decoder, Encoder, InBuffer, Operation as _, OutBuffer,
};

use crate::codec::{CodecError, MAX_PAYLOAD_BYTES};

/// History of a stream, as a power of two: 1 MiB.
const WINDOW_LOG: u32 = 20;
/// The fast end: a recorder compresses while its guest runs.
const LEVEL: i32 = 1;
/// Output is taken in pieces of this size.
const STEP_BYTES: usize = 16 << 10;

pub(super) struct Compressor(Encoder<'static>);

impl Compressor {
    pub(super) fn new() -> io::Result<Self> {
        let mut encoder = Encoder::new(LEVEL)?;
        encoder.set_parameter(CParameter::WindowLog(WINDOW_LOG))?;
        Ok(Self(encoder))
    }

    /// Adds the piece for `plain` to `out`.
    pub(super) fn compress(&mut self, plain: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
        let mut input = InBuffer::around(plain);
        while input.pos() < plain.len() {
            let position = room(out);
            self.0
                .run(&mut input, &mut OutBuffer::around_pos(out, position))?;
        }
        loop {
            let position = room(out);
            if self.0.flush(&mut OutBuffer::around_pos(out, position))? == 0 {
                return Ok(());
            }
        }
    }
}

fn room(out: &mut Vec<u8>) -> usize {
    out.reserve(STEP_BYTES);
    out.len()
}

pub(super) struct Decompressor {
    decoder: Decoder<'static>,
    /// Has room for the longest payload and one byte, and never grows.
    plain: Vec<u8>,
}

impl Decompressor {
    pub(super) fn new() -> io::Result<Self> {
        let mut decoder = Decoder::new()?;
        decoder.set_parameter(DParameter::WindowLogMax(WINDOW_LOG))?;
        Ok(Self {
            decoder,
            plain: Vec::with_capacity(MAX_PAYLOAD_BYTES + 1),
        })
    }

    /// What the stream's next piece stands for.
    pub(super) fn decompress(&mut self, piece: &[u8]) -> Result<&[u8], CodecError> {
        self.plain.clear();
        let mut input = InBuffer::around(piece);
        loop {
            let position = self.plain.len();
            let mut output = OutBuffer::around_pos(&mut self.plain, position);
            self.decoder
                .run(&mut input, &mut output)
                .map_err(|error| CodecError::Compression(error.to_string()))?;
            if self.plain.len() > MAX_PAYLOAD_BYTES {
                return Err(CodecError::TooLong {
                    bytes: self.plain.len() as u64,
                    limit: MAX_PAYLOAD_BYTES,
                });
            }
            // With room left in the output, there is nothing more in the decoder.
            if input.pos() == piece.len() {
                return Ok(&self.plain);
            }
        }
    }
}

impl std::fmt::Debug for Compressor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Compressor")
    }
}

impl std::fmt::Debug for Decompressor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Decompressor")
    }
}
