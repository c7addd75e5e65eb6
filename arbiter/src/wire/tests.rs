use super::{ANSWER_BYTES, Answer, Question, REQUEST_BYTES, Refusal, Reply, Request, WireFault};
use crate::core::{Identity, Outcome, State};
use proptest::prelude::*;

fn identities() -> impl Strategy<Value = Identity> {
    any::<[u8; 16]>().prop_map(Identity::from_bytes)
}

fn states() -> impl Strategy<Value = State> {
    let won = (1u64.., identities()).prop_map(|(term, winner)| State {
        term,
        holder: Some(winner),
    });
    prop_oneof![Just(State::FRESH), won]
}

fn questions() -> impl Strategy<Value = Question> {
    let claims =
        (any::<u64>(), identities()).prop_map(|(expected_term, identity)| Question::Claim {
            expected_term,
            identity,
        });
    prop_oneof![Just(Question::Read), claims]
}

fn refusals() -> impl Strategy<Value = Refusal> {
    prop_oneof![
        Just(Refusal::Malformed),
        Just(Refusal::TooSlow),
        Just(Refusal::Unavailable),
        Just(Refusal::Broken),
        Just(Refusal::TermExhausted),
    ]
}

fn replies() -> impl Strategy<Value = Reply> {
    let lost = states().prop_map(|State { term, holder }| Outcome::Lost { term, holder });
    let won = any::<u64>().prop_map(|term| Outcome::Won { term });
    let refused =
        (refusals(), "\\PC{0,100}").prop_map(|(refusal, text)| Reply::Refused { refusal, text });
    prop_oneof![
        states().prop_map(Reply::State),
        won.prop_map(Reply::Decided),
        lost.prop_map(Reply::Decided),
        refused,
    ]
}

proptest! {
    #[test]
    fn requests_come_back(id: u64, question in questions()) {
        let request = Request { id, question };
        prop_assert_eq!(Request::decode(&request.encode()), Ok(request));
    }

    #[test]
    fn answers_come_back(id: u64, reply in replies()) {
        let answer = Answer { id, reply };
        prop_assert_eq!(Answer::decode(&answer.encode()), Ok(answer.clone()));
    }

    #[test]
    fn a_changed_byte_of_a_request_is_noticed(id: u64, question in questions(), offset in 0..REQUEST_BYTES, mask in 1u8..) {
        let mut frame = Request { id, question }.encode();
        frame[offset] ^= mask;
        prop_assert!(Request::decode(&frame).is_err());
    }

    #[test]
    fn a_changed_byte_of_an_answer_is_noticed(id: u64, reply in replies(), offset in 0..ANSWER_BYTES, mask in 1u8..) {
        let mut frame = Answer { id, reply }.encode();
        frame[offset] ^= mask;
        prop_assert!(Answer::decode(&frame).is_err());
    }

    /// Any content at all under a right magic, version and checksum.
    #[test]
    fn any_sealed_bytes_are_decided(kind in 0u16..6, id: u64, bytes in prop::collection::vec(any::<u8>(), ANSWER_BYTES)) {
        let mut frame = [0; REQUEST_BYTES];
        frame.copy_from_slice(&bytes[..REQUEST_BYTES]);
        super::seal(&mut frame, super::REQUEST_MAGIC, kind, id);
        if let Ok(request) = Request::decode(&frame) {
            prop_assert_eq!(request.encode(), frame);
        }
        let mut frame = [0; ANSWER_BYTES];
        frame.copy_from_slice(&bytes);
        super::seal(&mut frame, super::ANSWER_MAGIC, kind, id);
        if let Ok(answer) = Answer::decode(&frame) {
            prop_assert_eq!(answer.encode(), frame);
        }
    }
}

#[test]
fn a_long_text_is_cut_between_characters() {
    let refusal = Refusal::Broken;
    let text = format!("x{}", "é".repeat(1000));
    let answer = Answer {
        id: 1,
        reply: Reply::Refused { refusal, text },
    };
    let Reply::Refused { text, .. } = Answer::decode(&answer.encode()).unwrap().reply else {
        panic!("a refusal became something else");
    };
    assert_eq!(text, format!("x{}", "é".repeat(229)));
}

#[test]
fn another_version_is_named() {
    let question = Question::Read;
    let mut frame = Request { id: 1, question }.encode();
    frame[4] = 9;
    let checksum = crc32fast::hash(&frame[..60]);
    frame[60..].copy_from_slice(&checksum.to_le_bytes());
    assert_eq!(Request::decode(&frame), Err(WireFault::Version(9)));
}
