//! The service on the TCP port: every line `incr` is answered with the next number. Other lines
//! are answered with nothing.

use super::tcp::SendBuffer;
use crate::text::Decimal;

const REQUEST: &[u8; 4] = b"incr";
const REQUEST_LINE: &[u8; 5] = b"incr\n";

/// The number that all connections count up.
pub struct Counter {
    number: Decimal,
    answers: u64,
}

/// The start of a line whose end has not come yet.
#[derive(Clone, Copy, Debug)]
pub struct PartialLine {
    bytes: [u8; 8],
    /// Bytes seen; more than are kept if the line is too long to mean anything.
    length: u8,
}

impl Counter {
    /// A counter whose first answer is 1.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            number: Decimal::ZERO,
            answers: 0,
        }
    }

    /// Answers given so far.
    #[must_use]
    pub const fn answers(&self) -> u64 {
        self.answers
    }

    /// Reads a piece of a connection's stream and writes the answers to the lines it ends.
    pub fn consume(&mut self, line: &mut PartialLine, mut data: &[u8], answers: &mut SendBuffer) {
        while !data.is_empty() {
            if line.length == 0
                && let Some(rest) = data.strip_prefix(REQUEST_LINE)
            {
                self.answer(answers);
                data = rest;
                continue;
            }
            if line.push(data[0]) {
                self.answer(answers);
            }
            data = &data[1..];
        }
    }

    fn answer(&mut self, answers: &mut SendBuffer) {
        self.number.increment();
        self.answers += 1;
        answers.push(self.number.as_line());
    }
}

impl Default for Counter {
    fn default() -> Self {
        Self::new()
    }
}

impl PartialLine {
    /// No line begun.
    pub const NONE: Self = Self {
        bytes: [0; 8],
        length: 0,
    };

    /// Takes one byte in; true if it ends a request.
    fn push(&mut self, byte: u8) -> bool {
        if byte == b'\n' {
            let line = self
                .bytes
                .get(..usize::from(self.length))
                .unwrap_or(b"too long");
            let is_request = line.strip_suffix(b"\r").unwrap_or(line) == REQUEST;
            self.length = 0;
            return is_request;
        }
        if let Some(slot) = self.bytes.get_mut(usize::from(self.length)) {
            *slot = byte;
        }
        self.length = self.length.saturating_add(1).min(9);
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn answers(pieces: &[&[u8]]) -> String {
        let (mut counter, mut line, mut buffer) =
            (Counter::new(), PartialLine::NONE, SendBuffer::new());
        for piece in pieces {
            counter.consume(&mut line, piece, &mut buffer);
        }
        let mut text = vec![0; buffer.len() as usize];
        buffer.copy_to(0, &mut text);
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn lines_are_answered_in_order() {
        assert_eq!(answers(&[b"incr\nincr\nincr\n"]), "1\n2\n3\n");
        assert_eq!(answers(&[b"incr\r\nwhat\n\nincr", b"\n"]), "1\n2\n");
        assert_eq!(
            answers(&[b"incrincr\n incr\nincr \nincrementing\nincr\n"]),
            "1\n"
        );
    }

    proptest! {
        #[test]
        fn it_does_not_matter_where_the_stream_is_cut(cuts in prop::collection::vec(0_usize..60, 0..8)) {
            let stream = b"incr\nincr\r\nhello\nincr\nlong line of nothing\nincr\n";
            let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(stream.len())).collect();
            cuts.extend([0, stream.len()]);
            cuts.sort_unstable();
            let pieces: Vec<_> = cuts.windows(2).map(|cut| &stream[cut[0]..cut[1]]).collect();
            prop_assert_eq!(answers(&pieces), "1\n2\n3\n4\n");
        }
    }
}
