//! The counter's line protocol, without sockets: bytes in, bytes out.
//!
//! Each line `incr` is answered with the next number in decimal; any other line with a line that
//! starts with `error: `. Lines end in `\n` or `\r\n`. Every line gets exactly one answer, in order.

use std::io::Write;

/// Bytes of a request line that are kept, its end not counted. A longer line is one error.
pub const LINE_LIMIT: usize = 64;

/// One connection's half-read line.
#[derive(Debug, Default)]
pub struct Requests {
    partial: Vec<u8>,
    too_long: bool,
}

impl Requests {
    /// Reads `received` and appends the answer to each line that is now complete to `answers`.
    /// `next` gives the next number.
    pub fn feed(&mut self, received: &[u8], mut next: impl FnMut() -> u64, answers: &mut Vec<u8>) {
        let mut rest = received;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            self.keep(&rest[..end]);
            self.answer(&mut next, answers);
            rest = &rest[end + 1..];
        }
        self.keep(rest);
    }

    /// Adds to the line what fits within the limit (and one byte for a `\r`).
    fn keep(&mut self, bytes: &[u8]) {
        let room = LINE_LIMIT + 1 - self.partial.len();
        self.too_long |= bytes.len() > room;
        self.partial
            .extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    fn answer(&mut self, next: &mut impl FnMut() -> u64, answers: &mut Vec<u8>) {
        let line = self.partial.strip_suffix(b"\r").unwrap_or(&self.partial);
        let written = if self.too_long || line.len() > LINE_LIMIT {
            writeln!(answers, "error: line longer than {LINE_LIMIT} bytes")
        } else if line == b"incr" {
            writeln!(answers, "{}", next())
        } else {
            writeln!(answers, "error: unknown request, say incr")
        };
        written.expect("writing to a Vec cannot fail");
        self.partial.clear();
        self.too_long = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds `pieces` one after the other to a counter that stands at `count`.
    fn answers(count: u64, pieces: &[&[u8]]) -> String {
        let mut count = count;
        let mut requests = Requests::default();
        let mut answers = Vec::new();
        for piece in pieces {
            let next = || {
                count += 1;
                count
            };
            requests.feed(piece, next, &mut answers);
        }
        String::from_utf8(answers).unwrap()
    }

    #[test]
    fn each_incr_is_answered_with_the_next_number() {
        assert_eq!(answers(0, &[b"incr\n", b"incr\n"]), "1\n2\n");
        assert_eq!(answers(41, &[b"incr\r\n"]), "42\n");
    }

    #[test]
    fn pipelined_lines_are_answered_in_order() {
        assert_eq!(answers(8, &[b"incr\nincr\nincr\n"]), "9\n10\n11\n");
    }

    #[test]
    fn a_line_may_come_in_pieces() {
        assert_eq!(answers(0, &[b"in", b"", b"cr", b"\nin", b"cr\n"]), "1\n2\n");
    }

    #[test]
    fn an_unfinished_line_has_no_answer() {
        assert_eq!(answers(0, &[b"incr"]), "");
    }

    #[test]
    fn an_unknown_line_is_an_error_and_does_not_count() {
        let error = "error: unknown request, say incr\n";
        assert_eq!(answers(0, &[b"decr\nincr\n"]), format!("{error}1\n"));
        assert_eq!(answers(0, &[b"\n"]), error);
        assert_eq!(answers(0, &[b"\xff\0\n"]), error);
        assert_eq!(answers(0, &[b"incr \n"]), error);
    }

    #[test]
    fn a_long_line_is_one_error_and_takes_bounded_memory() {
        let mut requests = Requests::default();
        let mut answers = Vec::new();
        for _ in 0..1000 {
            requests.feed(&[b'x'; 1000], || 0, &mut answers);
            assert!(requests.partial.len() <= LINE_LIMIT + 1);
        }
        assert!(answers.is_empty());
        requests.feed(b"\nincr\n", || 7, &mut answers);
        assert_eq!(answers, b"error: line longer than 64 bytes\n7\n");
    }

    #[test]
    fn the_limit_itself_is_not_too_long() {
        let unknown = "error: unknown request, say incr\n";
        let too_long = "error: line longer than 64 bytes\n";
        let line = |length, end: &[u8]| [&vec![b'x'; length], end].concat();
        assert_eq!(answers(0, &[&line(LINE_LIMIT, b"\n")]), unknown);
        assert_eq!(answers(0, &[&line(LINE_LIMIT, b"\r\n")]), unknown);
        assert_eq!(answers(0, &[&line(LINE_LIMIT + 1, b"\n")]), too_long);
        assert_eq!(answers(0, &[&line(LINE_LIMIT + 1, b"\r\n")]), too_long);
    }
}
