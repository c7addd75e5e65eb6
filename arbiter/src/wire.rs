//! The frames between [`crate::TcpArbiter`] and [`crate::serve`], pure: values to bytes and back.
//!
//! A request is 64 bytes, an answer 512, both fixed, so that nothing in a frame says how much to read.
//! A connection carries one request after the other, each answered before the next is read.
//! Integers are little-endian, unused bytes are zero.
//!
//! ```text
//!   request                               answer
//!    0   4  magic "LSAQ"                   0   4  magic "LSAA"
//!    4   2  version, 1                     4   2  version, 1
//!    6   2  kind: 1 read, 2 claim          6   2  kind: 1 state, 2 won, 3 lost, 4 refused
//!    8   8  request id                     8   8  request id, 0 if the request was not understood
//!   16   8  expected term                 16   8  term
//!   24  16  identity                      24   2  1 when there is a holder, else 0
//!   40  20  zeros                         26   2  refusal code
//!   60   4  CRC-32 (IEEE) of 0..60        28   2  bytes of text
//!                                         32  16  holder's identity
//!                                         48 460  text, UTF-8: why the request is refused
//!                                        508   4  CRC-32 (IEEE) of 0..508
//! ```

use crate::core::{Identity, Outcome, State};

#[cfg(test)]
mod tests;

/// Bytes in a request.
pub(crate) const REQUEST_BYTES: usize = 64;
/// Bytes in an answer.
pub(crate) const ANSWER_BYTES: usize = 512;

const REQUEST_MAGIC: [u8; 4] = *b"LSAQ";
const ANSWER_MAGIC: [u8; 4] = *b"LSAA";
const VERSION: u16 = 1;
const CHECKSUM_BYTES: usize = 4;
const TEXT_OFFSET: usize = 48;
const TEXT_BYTES: usize = ANSWER_BYTES - CHECKSUM_BYTES - TEXT_OFFSET;

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Question {
    Read,
    Claim {
        expected_term: u64,
        identity: Identity,
    },
}

/// A question, numbered by the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) id: u64,
    pub(crate) question: Question,
}

/// What is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reply {
    State(State),
    Decided(Outcome),
    Refused { refusal: Refusal, text: String },
}

/// Why a request is refused, for programs; the text beside it is for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The frame is not a request.
    Malformed = 1,
    /// The frame did not arrive whole in time.
    TooSlow = 2,
    /// The state file cannot be had just now.
    Unavailable = 3,
    /// The state file cannot be used at all.
    Broken = 4,
    /// The term is the last one.
    TermExhausted = 5,
}

/// The reply to the request with this id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) id: u64,
    pub(crate) reply: Reply,
}

/// Why bytes are not a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WireFault {
    #[error("The frame has the wrong magic: it is not of the arbiter's protocol")]
    Magic,
    #[error("The frame's checksum is wrong")]
    Checksum,
    #[error("The frame is of protocol version {0}, this program speaks {VERSION}")]
    Version(u16),
    #[error("The frame is of unknown kind {0}")]
    Kind(u16),
    #[error("The frame's {0} is impossible")]
    Field(&'static str),
}

impl Request {
    pub(crate) fn encode(&self) -> [u8; REQUEST_BYTES] {
        let mut frame = [0; REQUEST_BYTES];
        let kind = match self.question {
            Question::Read => 1,
            Question::Claim {
                expected_term,
                identity,
            } => {
                frame[16..24].copy_from_slice(&expected_term.to_le_bytes());
                frame[24..40].copy_from_slice(&identity.to_bytes());
                2
            }
        };
        seal(&mut frame, REQUEST_MAGIC, kind, self.id);
        frame
    }

    pub(crate) fn decode(frame: &[u8; REQUEST_BYTES]) -> Result<Self, WireFault> {
        let kind = unseal(frame, REQUEST_MAGIC)?;
        let question = match kind {
            1 => Question::Read,
            2 => Question::Claim {
                expected_term: u64::from_le_bytes(array_at(frame, 16)),
                identity: Identity::from_bytes(array_at(frame, 24)),
            },
            other => return Err(WireFault::Kind(other)),
        };
        let id = u64::from_le_bytes(array_at(frame, 8));
        let request = Self { id, question };
        // Whatever is not a field must be as this version would have sent it.
        if request.encode() != *frame {
            return Err(WireFault::Field("padding"));
        }
        Ok(request)
    }
}

impl Answer {
    pub(crate) fn encode(&self) -> [u8; ANSWER_BYTES] {
        let mut frame = [0; ANSWER_BYTES];
        let kind = match &self.reply {
            Reply::State(state) => {
                put_state(&mut frame, state.term, state.holder);
                1
            }
            Reply::Decided(Outcome::Won { term }) => {
                put_state(&mut frame, *term, None);
                2
            }
            Reply::Decided(Outcome::Lost { term, holder }) => {
                put_state(&mut frame, *term, *holder);
                3
            }
            Reply::Refused { refusal, text } => {
                put_refusal(&mut frame, *refusal, text);
                4
            }
        };
        seal(&mut frame, ANSWER_MAGIC, kind, self.id);
        frame
    }

    pub(crate) fn decode(frame: &[u8; ANSWER_BYTES]) -> Result<Self, WireFault> {
        let reply = match unseal(frame, ANSWER_MAGIC)? {
            1 => Reply::State(take_state(frame)?),
            2 => Reply::Decided(Outcome::Won {
                term: u64::from_le_bytes(array_at(frame, 16)),
            }),
            3 => {
                let State { term, holder } = take_state(frame)?;
                Reply::Decided(Outcome::Lost { term, holder })
            }
            4 => take_refusal(frame)?,
            other => return Err(WireFault::Kind(other)),
        };
        let id = u64::from_le_bytes(array_at(frame, 8));
        let answer = Self { id, reply };
        if answer.encode() != *frame {
            return Err(WireFault::Field("padding"));
        }
        Ok(answer)
    }
}

fn put_state(frame: &mut [u8], term: u64, holder: Option<Identity>) {
    frame[16..24].copy_from_slice(&term.to_le_bytes());
    frame[24..26].copy_from_slice(&u16::from(holder.is_some()).to_le_bytes());
    let holder = holder.map_or([0; 16], Identity::to_bytes);
    frame[32..48].copy_from_slice(&holder);
}

fn take_state(frame: &[u8]) -> Result<State, WireFault> {
    let holder = match u16::from_le_bytes(array_at(frame, 24)) {
        0 => None,
        _ => Some(Identity::from_bytes(array_at(frame, 32))),
    };
    let term = u64::from_le_bytes(array_at(frame, 16));
    let state = State { term, holder };
    if !state.is_possible() {
        return Err(WireFault::Field("holder"));
    }
    Ok(state)
}

fn put_refusal(frame: &mut [u8], refusal: Refusal, text: &str) {
    frame[26..28].copy_from_slice(&(refusal as u16).to_le_bytes());
    let text = &text.as_bytes()[..text.floor_char_boundary(TEXT_BYTES)];
    frame[28..30].copy_from_slice(&(text.len() as u16).to_le_bytes());
    frame[TEXT_OFFSET..TEXT_OFFSET + text.len()].copy_from_slice(text);
}

fn take_refusal(frame: &[u8; ANSWER_BYTES]) -> Result<Reply, WireFault> {
    use Refusal::{Broken, Malformed, TermExhausted, TooSlow, Unavailable};
    let code = u16::from_le_bytes(array_at(frame, 26));
    let refusal = [Malformed, TooSlow, Unavailable, Broken, TermExhausted]
        .into_iter()
        .find(|refusal| *refusal as u16 == code)
        .ok_or(WireFault::Field("refusal code"))?;
    let length = usize::from(u16::from_le_bytes(array_at(frame, 28)));
    let text = frame[TEXT_OFFSET..ANSWER_BYTES - CHECKSUM_BYTES]
        .get(..length)
        .and_then(|bytes| std::str::from_utf8(bytes).ok())
        .ok_or(WireFault::Field("text"))?
        .to_owned();
    Ok(Reply::Refused { refusal, text })
}

/// Fills in what all frames have.
fn seal(frame: &mut [u8], magic: [u8; 4], kind: u16, id: u64) {
    frame[0..4].copy_from_slice(&magic);
    frame[4..6].copy_from_slice(&VERSION.to_le_bytes());
    frame[6..8].copy_from_slice(&kind.to_le_bytes());
    frame[8..16].copy_from_slice(&id.to_le_bytes());
    let (body, checksum) = frame.split_at_mut(frame.len() - CHECKSUM_BYTES);
    checksum.copy_from_slice(&crc32fast::hash(body).to_le_bytes());
}

/// Checks what all frames have; gives the kind. The checksum comes before the version, so that
/// damage is not taken for another version.
fn unseal(frame: &[u8], magic: [u8; 4]) -> Result<u16, WireFault> {
    if frame[0..4] != magic {
        return Err(WireFault::Magic);
    }
    let (body, checksum) = frame.split_at(frame.len() - CHECKSUM_BYTES);
    if crc32fast::hash(body).to_le_bytes() != checksum {
        return Err(WireFault::Checksum);
    }
    match u16::from_le_bytes(array_at(frame, 4)) {
        VERSION => Ok(u16::from_le_bytes(array_at(frame, 6))),
        other => Err(WireFault::Version(other)),
    }
}

fn array_at<const N: usize>(frame: &[u8], offset: usize) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(&frame[offset..offset + N]);
    bytes
}
