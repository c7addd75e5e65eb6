use super::{BLOCK_BYTES, BlockFault, Blocks, COPIES, Contents, decode, encode};
use crate::core::{Identity, State};
use proptest::prelude::*;

fn state(term: u64) -> State {
    let holder = (term > 0).then(|| Identity::from_bytes([0xa5; 16]));
    State { term, holder }
}

#[test]
fn a_new_state_is_in_both_blocks() {
    for term in [0, 1, 2, u64::MAX] {
        let contents = Blocks::holding(&state(term)).contents().unwrap();
        let expected = Contents {
            state: state(term),
            stale: [false; COPIES],
        };
        assert_eq!(contents, expected);
    }
}

#[test]
fn every_changed_byte_of_a_block_is_noticed_and_the_other_block_counts() {
    let whole = Blocks::holding(&state(7));
    for copy in 0..COPIES {
        for offset in 0..BLOCK_BYTES {
            for mask in [0x01, 0x80, 0xff] {
                let mut damaged = whole.clone();
                damaged.0[copy][offset] ^= mask;
                assert!(decode(&damaged.0[copy]).is_err(), "byte {offset} of {copy}");
                let contents = damaged.contents().unwrap();
                assert_eq!(contents.state, state(7));
                assert!(contents.stale[copy] && !contents.stale[1 - copy]);
            }
        }
    }
}

#[test]
fn a_torn_write_of_either_block_leaves_the_old_or_the_new_state() {
    let (old, new) = (encode(&state(7)), encode(&state(8)));
    for length in 0..=BLOCK_BYTES {
        let mut torn = old;
        torn[..length].copy_from_slice(&new[..length]);
        // While block 0 is written, block 1 is still the old one; while block 1 is, block 0 is new.
        let first = Blocks([torn, old]).contents().unwrap().state;
        assert!(first == state(7) || first == state(8));
        let second = Blocks([new, torn]).contents().unwrap().state;
        assert_eq!(second, state(8));
    }
}

#[test]
fn the_newer_block_counts_wherever_it_is() {
    let (old, new) = (encode(&state(7)), encode(&state(8)));
    let contents = Blocks([new, old]).contents().unwrap();
    assert_eq!((contents.state, contents.stale), (state(8), [false, true]));
    let contents = Blocks([old, new]).contents().unwrap();
    assert_eq!((contents.state, contents.stale), (state(8), [true, false]));
}

#[test]
fn two_bad_blocks_are_an_error_and_never_term_zero() {
    let message = Blocks::zeroed().contents().unwrap_err();
    assert!(
        message.contains("first block is no arbiter state"),
        "{message}"
    );
}

#[test]
fn two_winners_of_one_term_are_an_error() {
    let holder = Some(Identity::from_bytes([1; 16]));
    let other = encode(&State { term: 7, holder });
    let message = Blocks([encode(&state(7)), other]).contents().unwrap_err();
    assert!(message.contains("two winners of term 7"), "{message}");
}

#[test]
fn a_block_of_another_version_is_left_alone() {
    let mut newer = encode(&state(9));
    newer[8] = 2;
    let checksum = crc32fast::hash(&newer[..40]);
    newer[40..44].copy_from_slice(&checksum.to_le_bytes());
    assert_eq!(decode(&newer), Err(BlockFault::Version(2)));
    let message = Blocks([encode(&state(8)), newer]).contents().unwrap_err();
    assert!(message.contains("version 2"), "{message}");
}

proptest! {
    #[test]
    fn any_bytes_are_decided(start in prop::collection::vec(any::<u8>(), 0..64), term: u64, patch: bool) {
        let mut block = if patch { encode(&state(term)) } else { [0; BLOCK_BYTES] };
        block[..start.len()].copy_from_slice(&start);
        if let Ok(state) = decode(&block) {
            prop_assert_eq!(encode(&state), block);
        }
    }
}
