//! Images in pieces, each in a frame, and back.

use super::header::MAX_IMAGE_BYTES;
use super::segment::{FileFrame, SegmentReader, SegmentWriter};
use super::{Image, ImageKind, LogError, LogHeader};

/// Bytes of an image in one frame.
const PIECE_BYTES: usize = 256 << 10;

pub(super) fn write(segment: &mut SegmentWriter, image: &Image) -> Result<(), LogError> {
    let mut offset = 0;
    // An empty image has a frame too: it is there.
    let empty = image.bytes.is_empty().then_some(&[][..]);
    for bytes in image.bytes.chunks(PIECE_BYTES).chain(empty) {
        segment.write(&FileFrame::Image {
            kind: image.kind,
            image_bytes: image.bytes.len() as u64,
            offset,
            bytes: bytes.to_vec(),
        })?;
        offset += bytes.len() as u64;
    }
    Ok(())
}

/// Reads the images that follow the header in a log's first segment.
pub(super) fn read(
    segment: &mut SegmentReader,
    header: &LogHeader,
) -> Result<Vec<Image>, LogError> {
    let mut assembly = Assembly::default();
    while let Some(FileFrame::Image {
        kind,
        image_bytes,
        offset,
        bytes,
    }) = segment.next(0)?
    {
        if !assembly.add(kind, image_bytes, offset, &bytes) {
            return Err(segment.unexpected("another piece of an image", "the next"));
        }
    }
    if assembly.missing_bytes > 0 {
        return Err(segment.unexpected("the end of the images", "the rest of one"));
    }
    for image in &assembly.images {
        image.check(header)?;
    }
    Ok(assembly.images)
}

/// Images of which all but the last are whole.
#[derive(Default)]
struct Assembly {
    images: Vec<Image>,
    /// Of the last one.
    missing_bytes: u64,
}

impl Assembly {
    /// Adds a piece; false if it is not the next one.
    fn add(&mut self, kind: ImageKind, image_bytes: u64, offset: u64, piece: &[u8]) -> bool {
        let known = self.images.iter().any(|image| image.kind == kind);
        if !known && self.missing_bytes == 0 && image_bytes <= MAX_IMAGE_BYTES {
            self.missing_bytes = image_bytes;
            let bytes = Vec::new();
            self.images.push(Image { kind, bytes });
        }
        let Some(image) = self.images.last_mut() else {
            return false;
        };
        let follows = image.kind == kind && image.bytes.len() as u64 == offset;
        let piece_bytes = piece.len() as u64;
        if !follows || piece_bytes > self.missing_bytes {
            return false;
        }
        self.missing_bytes -= piece_bytes;
        image.bytes.extend(piece);
        true
    }
}
