//! Data that is to be sent, until it is acknowledged.

use crate::net::bytes::copy;

/// Bytes a connection keeps; a power of two.
pub const CAPACITY: usize = 16 * 1024;

/// A connection's output: a ring addressed by offset in the stream.
pub struct SendBuffer {
    bytes: [u8; CAPACITY],
    /// Offset up to which everything is acknowledged; wraps.
    start: u32,
    /// Offset behind the last byte written; wraps.
    end: u32,
}

impl SendBuffer {
    /// An empty buffer at the start of a stream.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            bytes: [0; CAPACITY],
            start: 0,
            end: 0,
        }
    }

    /// Forgets everything: the next stream begins.
    pub fn clear(&mut self) {
        (self.start, self.end) = (0, 0);
    }

    /// Bytes kept.
    #[must_use]
    pub const fn len(&self) -> u32 {
        self.end.wrapping_sub(self.start)
    }

    /// Whether every byte has been acknowledged.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Offset behind the last byte; wraps.
    #[must_use]
    pub const fn end(&self) -> u32 {
        self.end
    }

    /// Bytes that may still be written.
    #[must_use]
    pub const fn free(&self) -> u32 {
        CAPACITY as u32 - self.len()
    }

    /// Writes bytes.
    ///
    /// # Panics
    /// If there is no room for them; see [`free`](Self::free).
    #[inline(always)]
    pub fn push(&mut self, data: &[u8]) {
        assert!(data.len() <= self.free() as usize);
        let at = self.end as usize % CAPACITY;
        let (fits, wraps) = data.split_at(data.len().min(CAPACITY - at));
        copy(fits, &mut self.bytes[at..]);
        if !wraps.is_empty() {
            copy(wraps, &mut self.bytes);
        }
        self.end = self.end.wrapping_add(data.len() as u32);
    }

    /// Copies `to.len()` bytes from `offset` on, all of them kept.
    #[inline(always)]
    pub fn copy_to(&self, offset: u32, to: &mut [u8]) {
        assert!(offset.wrapping_sub(self.start) as usize + to.len() <= self.len() as usize);
        let at = offset as usize % CAPACITY;
        let length = to.len();
        let (fits, wraps) = to.split_at_mut(length.min(CAPACITY - at));
        copy(&self.bytes[at..at + fits.len()], fits);
        if !wraps.is_empty() {
            copy(&self.bytes[..wraps.len()], wraps);
        }
    }

    /// Drops everything before `offset`, which must lie among the bytes kept or right behind.
    pub fn release(&mut self, offset: u32) {
        assert!(offset.wrapping_sub(self.start) <= self.len());
        self.start = offset;
    }
}

impl Default for SendBuffer {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    proptest! {
        #[test]
        fn is_a_queue(start: u32, steps in prop::collection::vec((0_usize..5000, 0_usize..5000), 1..40)) {
            let mut buffer = Box::new(SendBuffer::new());
            (buffer.start, buffer.end) = (start, start);
            let mut model = VecDeque::new();
            for (step, (write, release)) in steps.into_iter().enumerate() {
                let data: Vec<u8> = (0..write.min(buffer.free() as usize)).map(|i| (i * 7 + step) as u8).collect();
                buffer.push(&data);
                model.extend(data);
                let mut all = vec![0; buffer.len() as usize];
                buffer.copy_to(buffer.start, &mut all);
                prop_assert_eq!(&all, model.make_contiguous());
                let release = release.min(model.len());
                buffer.release(buffer.start.wrapping_add(release as u32));
                model.drain(..release);
            }
        }
    }
}
