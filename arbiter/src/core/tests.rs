use super::{Identity, Outcome, State, TermExhausted};
use proptest::prelude::*;

fn identity(number: u8) -> Identity {
    Identity::from_bytes([number; 16])
}

#[test]
fn first_claim_wins_and_second_loses() {
    let (state, outcome) = State::FRESH.claim(0, identity(1)).unwrap();
    assert_eq!(outcome, Outcome::Won { term: 1 });
    let (after, outcome) = state.claim(0, identity(2)).unwrap();
    let holder = Some(identity(1));
    assert_eq!(outcome, Outcome::Lost { term: 1, holder });
    assert_eq!(after, state);
}

#[test]
fn asking_again_wins_again_until_the_term_moves_on() {
    let (state, _) = State::FRESH.claim(0, identity(1)).unwrap();
    let (state, outcome) = state.claim(0, identity(1)).unwrap();
    assert_eq!(outcome, Outcome::Won { term: 1 });
    let (state, _) = state.claim(1, identity(2)).unwrap();
    let (_, outcome) = state.claim(0, identity(1)).unwrap();
    let holder = Some(identity(2));
    assert_eq!(outcome, Outcome::Lost { term: 2, holder });
}

#[test]
fn a_claim_ahead_of_the_term_loses() {
    let (state, outcome) = State::FRESH.claim(7, identity(1)).unwrap();
    let holder = None;
    assert_eq!(outcome, Outcome::Lost { term: 0, holder });
    assert_eq!(state, State::FRESH);
}

#[test]
fn the_last_term_neither_wraps_nor_panics() {
    let holder = Some(identity(1));
    let last = State {
        term: u64::MAX,
        holder,
    };
    assert_eq!(last.claim(u64::MAX, identity(1)), Err(TermExhausted));
    let (_, outcome) = last.claim(u64::MAX - 1, identity(1)).unwrap();
    assert_eq!(outcome, Outcome::Won { term: u64::MAX });
    let (_, outcome) = State::FRESH.claim(u64::MAX, identity(1)).unwrap();
    let holder = None;
    assert_eq!(outcome, Outcome::Lost { term: 0, holder });
}

#[test]
fn identity_is_shown_as_hexadecimal() {
    let mut bytes = [0; 16];
    bytes[0] = 0x0a;
    bytes[15] = 0xff;
    let shown = Identity::from_bytes(bytes).to_string();
    assert_eq!(shown, "0a0000000000000000000000000000ff");
}

/// The naive model: the list of all winners so far, the term being its length.
fn model_claim(winners: &mut Vec<Identity>, expected_term: usize, claimant: Identity) -> Outcome {
    if winners.len() == expected_term {
        winners.push(claimant);
    }
    let term = winners.len() as u64;
    let holder = winners.last().copied();
    if winners.len() == expected_term + 1 && holder == Some(claimant) {
        Outcome::Won { term }
    } else {
        Outcome::Lost { term, holder }
    }
}

proptest! {
    #[test]
    fn agrees_with_the_naive_model(claims in prop::collection::vec((0usize..3, any::<bool>(), 0u8..4), 0..200)) {
        let mut winners = Vec::new();
        let mut state = State::FRESH;
        for (distance, ahead, claimant) in claims {
            // Mostly near the current term, where the decisions are.
            let now = winners.len();
            let expected_term = if ahead { now + distance } else { now.saturating_sub(distance) };
            let expected = model_claim(&mut winners, expected_term, identity(claimant));
            let (next, outcome) = state.claim(expected_term as u64, identity(claimant)).unwrap();
            prop_assert_eq!(outcome, expected);
            prop_assert!(next.is_possible());
            prop_assert!(next.term == state.term || next.term == state.term + 1);
            state = next;
        }
    }

    #[test]
    fn any_state_and_claim_is_decided(term: u64, holder: Option<[u8; 16]>, expected_term: u64, claimant: [u8; 16]) {
        let state = State { term, holder: holder.map(Identity::from_bytes) };
        let claimant = Identity::from_bytes(claimant);
        match state.claim(expected_term, claimant) {
            Ok((next, Outcome::Won { term })) => {
                prop_assert_eq!(term, expected_term + 1);
                prop_assert_eq!(next, State { term, holder: Some(claimant) });
            }
            Ok((next, Outcome::Lost { .. })) => prop_assert_eq!(next, state),
            Err(TermExhausted) => prop_assert_eq!((term, expected_term), (u64::MAX, u64::MAX)),
        }
    }
}
