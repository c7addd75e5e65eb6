//! The service on the TCP port: every line `incr` is a request, any other line is answered with an
//! error. With [`Counter`], each request is answered with the next number: byte for byte what the
//! Linux guest's `counterd` answers.

use super::tcp::SendBuffer;
use crate::text::Decimal;

const REQUEST: &[u8; 4] = b"incr";
const REQUEST_LINE: &[u8; 5] = b"incr\n";
const UNKNOWN: &[u8] = b"error: unknown request, say incr\n";
const TOO_LONG: &[u8] = b"error: line longer than 64 bytes\n";
/// Bytes a line may have, its end not counted.
const LINE_LIMIT: usize = 64;

/// No answer is longer.
pub const ANSWER_MAX: u32 = 33;

/// Who is to be answered: a connection, and no later one in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Which of the port's connections.
    pub index: u8,
    /// The number of our SYN in it.
    pub start: u32,
}

impl Caller {
    /// No connection.
    pub const NOBODY: Self = Self {
        index: u8::MAX,
        start: 0,
    };
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reception {
    /// Its answer was written.
    Answered,
    /// It is answered later, by [`Stack::answer`](super::Stack::answer).
    Later,
    /// There is no room for it: its sender must repeat it.
    Refused,
}

/// What requests are for.
pub trait Service {
    /// A request has come from `caller`; there is room for one answer in `answers`.
    fn request(&mut self, caller: Caller, answers: &mut SendBuffer) -> Reception;
}

/// The number that all connections count up.
pub struct Counter {
    number: Decimal,
    answers: u64,
}

/// The start of a line whose end has not come yet.
#[derive(Clone, Copy, Debug)]
struct PartialLine {
    /// The first bytes: enough to know a request by.
    bytes: [u8; 8],
    /// Bytes seen, a carriage return included; stands still beyond the limit.
    length: usize,
    last: u8,
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

    /// Numbers given so far.
    #[must_use]
    pub const fn answers(&self) -> u64 {
        self.answers
    }
}

impl Service for Counter {
    #[inline(always)]
    fn request(&mut self, _: Caller, answers: &mut SendBuffer) -> Reception {
        self.number.increment();
        self.answers += 1;
        answers.push(self.number.as_line());
        Reception::Answered
    }
}

/// A connection's requests.
#[derive(Clone, Copy, Debug)]
pub struct Requests {
    line: PartialLine,
    /// Requests that were taken and are answered later.
    pub waiting: u32,
}

impl Requests {
    /// None yet.
    pub const NONE: Self = Self {
        line: PartialLine::NONE,
        waiting: 0,
    };

    /// Reads the next piece of `caller`'s stream and writes the answers to the lines it ends,
    /// as long as there is room for one besides those that are awaited. Returns how many bytes it
    /// read.
    #[inline(always)]
    pub fn consume<S: Service>(
        &mut self,
        service: &mut S,
        caller: Caller,
        data: &[u8],
        answers: &mut SendBuffer,
    ) -> usize {
        let mut rest = data;
        while !rest.is_empty() && answers.free() >= self.reserve() {
            if self.line.length == 0
                && let Some(after) = rest.strip_prefix(REQUEST_LINE)
            {
                if !self.request(service, caller, answers) {
                    break;
                }
                rest = after;
            } else {
                if !self.consume_byte(service, caller, rest[0], answers) {
                    break;
                }
                rest = &rest[1..];
            }
        }
        data.len() - rest.len()
    }

    /// Room for the answers that are awaited, and one.
    #[inline(always)]
    pub const fn reserve(&self) -> u32 {
        ANSWER_MAX * (1 + self.waiting)
    }

    /// False: the byte could not be taken.
    #[cold]
    fn consume_byte<S: Service>(
        &mut self,
        service: &mut S,
        caller: Caller,
        byte: u8,
        answers: &mut SendBuffer,
    ) -> bool {
        let line = &self.line;
        if byte != b'\n' {
            self.line.push(byte);
            return true;
        }
        let length = line.length - usize::from(line.length > 0 && line.last == b'\r');
        if length > LINE_LIMIT {
            answers.push(TOO_LONG);
        } else if line.bytes.get(..length).is_some_and(|line| line == REQUEST) {
            if !self.request(service, caller, answers) {
                return false;
            }
        } else {
            answers.push(UNKNOWN);
        }
        self.line = PartialLine::NONE;
        true
    }

    #[inline(always)]
    fn request<S: Service>(
        &mut self,
        service: &mut S,
        caller: Caller,
        answers: &mut SendBuffer,
    ) -> bool {
        let reception = service.request(caller, answers);
        self.waiting += u32::from(reception == Reception::Later);
        reception != Reception::Refused
    }
}

impl Default for Counter {
    fn default() -> Self {
        Self::new()
    }
}

impl PartialLine {
    /// No line begun.
    const NONE: Self = Self {
        bytes: [0; 8],
        length: 0,
        last: 0,
    };

    fn push(&mut self, byte: u8) {
        if let Some(slot) = self.bytes.get_mut(self.length) {
            *slot = byte;
        }
        self.last = byte;
        // Two more than the limit: too long even if the last byte is a carriage return.
        self.length = (self.length + 1).min(LINE_LIMIT + 2);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn answers(pieces: &[&[u8]]) -> String {
        let (mut counter, mut requests) = (Counter::new(), Requests::NONE);
        let mut buffer = SendBuffer::new();
        for piece in pieces {
            let read = requests.consume(&mut counter, Caller::NOBODY, piece, &mut buffer);
            assert_eq!(read, piece.len());
        }
        let mut text = vec![0; buffer.len() as usize];
        buffer.copy_to(0, &mut text);
        String::from_utf8(text).unwrap()
    }

    /// `counterd`'s rules, by the letter: whole lines only.
    fn reference(stream: &[u8]) -> String {
        let mut count = 0;
        let complete = stream.split_inclusive(|&byte| byte == b'\n');
        let lines = complete.filter_map(|line| line.strip_suffix(b"\n"));
        let answers = lines.map(|line| {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            match line {
                _ if line.len() > 64 => "error: line longer than 64 bytes\n".to_owned(),
                b"incr" => {
                    count += 1;
                    format!("{count}\n")
                }
                _ => "error: unknown request, say incr\n".to_owned(),
            }
        });
        answers.collect()
    }

    #[test]
    fn lines_are_answered_in_order() {
        let unknown = "error: unknown request, say incr\n";
        assert_eq!(answers(&[b"incr\nincr\nincr\n"]), "1\n2\n3\n");
        assert_eq!(
            answers(&[b"incr\r\n\nincr", b"\n"]),
            format!("1\n{unknown}2\n")
        );
        assert_eq!(answers(&[b"incrincr\nincr \n"]), unknown.repeat(2));
    }

    #[test]
    fn nothing_is_read_without_room_for_its_answer() {
        let (mut counter, mut requests) = (Counter::new(), Requests::NONE);
        let mut buffer = SendBuffer::new();
        let flood = [b'\n'; 2000];
        let read = requests.consume(&mut counter, Caller::NOBODY, &flood, &mut buffer);
        assert_eq!(buffer.len() as usize, read * UNKNOWN.len());
        assert!(buffer.free() < ANSWER_MAX);
    }

    /// Takes so many requests, and answers none of them.
    struct Slow(u32);

    impl Service for Slow {
        fn request(&mut self, _: Caller, _: &mut SendBuffer) -> Reception {
            match self.0.checked_sub(1) {
                Some(left) => {
                    self.0 = left;
                    Reception::Later
                }
                None => Reception::Refused,
            }
        }
    }

    #[test]
    fn what_a_service_refuses_is_not_read() {
        for stream in [&b"incr\nincr\nincr\n"[..], b"incr\r\nincr\r\nincr\r\n"] {
            let (mut slow, mut requests) = (Slow(2), Requests::NONE);
            let mut buffer = SendBuffer::new();
            let read = requests.consume(&mut slow, Caller::NOBODY, stream, &mut buffer);
            assert_eq!(requests.waiting, 2);
            assert_eq!(buffer.len(), 0);
            // The rest comes again and is taken when there is room.
            slow.0 = 1;
            let rest = &stream[read..];
            let again = requests.consume(&mut slow, Caller::NOBODY, rest, &mut buffer);
            assert_eq!((again, requests.waiting), (rest.len(), 3));
        }
    }

    #[test]
    fn room_is_kept_for_answers_that_are_awaited() {
        let (mut slow, mut requests) = (Slow(u32::MAX), Requests::NONE);
        let mut buffer = SendBuffer::new();
        let flood = b"incr\n".repeat(2000);
        requests.consume(&mut slow, Caller::NOBODY, &flood, &mut buffer);
        assert!(requests.waiting * ANSWER_MAX <= buffer.free());
        assert!((requests.waiting + 1) * ANSWER_MAX > buffer.free());
    }

    fn streams() -> impl Strategy<Value = Vec<u8>> {
        let line = prop_oneof![
            Just(b"incr".to_vec()),
            Just(b"incr\r".to_vec()),
            prop::collection::vec(prop::sample::select(b"incr\r x".as_slice()), 0..8),
            (60_usize..70, prop::sample::select(b"x\r".as_slice())).prop_map(|(length, last)| {
                let mut line = vec![b'x'; length];
                line.push(last);
                line
            }),
        ];
        prop::collection::vec(line, 0..20).prop_map(|lines| lines.join(&b'\n'))
    }

    proptest! {
        #[test]
        fn answers_are_counterds_wherever_the_stream_is_cut(
            stream in streams(),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
        ) {
            let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
            cuts.extend([0, stream.len()]);
            cuts.sort_unstable();
            let pieces: Vec<_> = cuts.windows(2).map(|cut| &stream[cut[0]..cut[1]]).collect();
            prop_assert_eq!(answers(&pieces), reference(&stream));
        }
    }
}
