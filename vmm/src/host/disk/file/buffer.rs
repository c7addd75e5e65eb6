//! Memory that the host's disks read into and write from.
//!
//! O_DIRECT asks for memory at a multiple of the storage's alignment. What always holds: a [`Buffer`]'s bytes lie at such a multiple, and do
//! not move as long as it lives, wherever the [`Buffer`] itself is moved to.

use std::{ops::Range, sync::Arc};

/// Where a buffer begins that could not begin where the allocator put it: a page, which suits every storage.
const BOUNCE_ALIGNMENT: usize = 4096;
/// What the allocator gives by itself (malloc(3)). Memory for storage that asks for more is not tried out first: clearing it twice takes long.
const ALLOCATOR_ALIGNMENT: usize = 16;

/// Zeroed memory of a fixed length, aligned as was asked for.
#[derive(Debug)]
pub(super) struct Buffer {
    bytes: Vec<u8>,
    /// The part of `bytes` that is aligned.
    range: Range<usize>,
}

impl Buffer {
    /// `length` bytes at a multiple of `alignment`, a power of two up to 4096.
    pub(super) fn zeroed(length: usize, alignment: usize) -> Self {
        debug_assert!(alignment.is_power_of_two() && alignment <= BOUNCE_ALIGNMENT);
        // Where the storage asks for little, this memory becomes the answer without a copy.
        if alignment <= ALLOCATOR_ALIGNMENT {
            let bytes = vec![0; length];
            if is_aligned(&bytes, alignment) {
                let range = 0..length;
                return Self { bytes, range };
            }
        }
        let bytes = vec![0; length + BOUNCE_ALIGNMENT];
        let start = bytes.as_ptr().addr().wrapping_neg() % BOUNCE_ALIGNMENT;
        let range = start..start + length;
        Self { bytes, range }
    }

    /// A copy of `data`, at a page.
    fn copy_of(data: &[u8]) -> Self {
        let mut bytes: Vec<u8> = Vec::with_capacity(data.len() + BOUNCE_ALIGNMENT);
        let start = bytes.as_ptr().addr().wrapping_neg() % BOUNCE_ALIGNMENT;
        bytes.resize(start, 0);
        bytes.extend_from_slice(data);
        let range = start..bytes.len();
        Self { bytes, range }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[self.range.clone()]
    }

    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.range.clone()]
    }

    /// The bytes as they are passed on: copied only where they had to be aligned.
    pub(super) fn into_vec(mut self) -> Vec<u8> {
        let length = self.range.len();
        self.bytes.copy_within(self.range, 0);
        self.bytes.truncate(length);
        self.bytes
    }
}

/// What is written: the machine's own copy, or one that is aligned.
#[derive(Debug)]
pub(super) enum Source {
    Shared(Arc<[u8]>),
    Bounced(Buffer),
}

impl Source {
    /// `data`, copied only where it is not aligned.
    pub(super) fn new(data: Arc<[u8]>, alignment: usize) -> Self {
        if is_aligned(&data, alignment) {
            return Self::Shared(data);
        }
        Self::Bounced(Buffer::copy_of(&data))
    }

    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::Shared(data) => data,
            Self::Bounced(buffer) => buffer.bytes(),
        }
    }
}

fn is_aligned(bytes: &[u8], alignment: usize) -> bool {
    bytes.as_ptr().addr().is_multiple_of(alignment)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_aligned_and_give_back_what_was_put_in() {
        for alignment in [1, 4, 512, 4096] {
            for length in [0, 1, 512, 4096, 70_000] {
                let mut buffer = Buffer::zeroed(length, alignment);
                assert!(is_aligned(buffer.bytes(), alignment));
                assert_eq!(buffer.bytes(), vec![0; length]);
                let pattern: Vec<u8> = (0..length).map(|index| index as u8).collect();
                buffer.bytes_mut().copy_from_slice(&pattern);
                assert_eq!(buffer.bytes(), pattern);
                assert_eq!(buffer.into_vec(), pattern);
            }
        }
    }

    #[test]
    fn a_source_is_copied_only_where_it_is_not_aligned() {
        // An Arc's two counters lie before its bytes, and the allocator aligns the whole to 16.
        let data: Arc<[u8]> = vec![7; 1024].into();
        let source = Source::new(data.clone(), 1);
        assert!(matches!(source, Source::Shared(_)));
        let source = Source::new(data.clone(), 4096);
        assert!(is_aligned(source.bytes(), 4096));
        assert_eq!(source.bytes(), &data[..]);
    }
}
