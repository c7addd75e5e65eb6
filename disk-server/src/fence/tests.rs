use std::{future::Future, sync::Arc, task::Poll};

use arbiter::{Fence, Identity, State};
use proptest::prelude::*;

use super::*;
use crate::wire::Binding;

const FIRST: Identity = Identity::from_bytes([1; 16]);
const SECOND: Identity = Identity::from_bytes([2; 16]);

fn state(term: u64, holder: Identity) -> State {
    let holder = Some(holder);
    State { term, holder }
}

fn binding(term: u64, identity: Identity) -> Binding {
    Binding { term, identity }
}

/// Whether it is complete now.
fn ready<T>(future: &mut (impl Future<Output = T> + Unpin)) -> Option<T> {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match std::pin::Pin::new(future).poll(&mut context) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}

#[test]
fn only_the_holder_of_the_term_attaches() {
    let mut core = Core::new(state(3, FIRST));
    core.attach(binding(3, FIRST), 0).unwrap();
    let refused = Err(OtherTerm { term: 3 });
    assert_eq!(core.attach(binding(3, SECOND), 0), refused);
    assert_eq!(core.attach(binding(2, FIRST), 0), refused);
    assert_eq!(core.attach(binding(4, FIRST), 0), refused);
}

#[test]
fn before_the_first_term_nobody_attaches() {
    let mut core = Core::new(State::FRESH);
    core.attach(binding(0, FIRST), 0).unwrap_err();
}

#[tokio::test]
async fn an_advance_waits_for_what_is_under_way_and_lets_nothing_more_start() {
    let gate = Gate::new(state(1, FIRST));
    let old = gate.attach(binding(1, FIRST), 0).await.unwrap();
    let (one, another) = (old.enter().unwrap(), old.enter().unwrap());
    let mut advance = gate.advance(state(2, SECOND));
    assert_eq!(ready(&mut advance), None);
    old.enter().expect_err("a request of an older term");
    old.cut().await;
    drop(one);
    assert_eq!(ready(&mut advance), None);
    // Its connection ends before its last request does.
    drop(old);
    assert_eq!(ready(&mut advance), None);
    drop(another);
    advance.await;
    let new = gate.attach(binding(2, SECOND), 0).await.unwrap();
    new.enter().unwrap();
}

#[tokio::test]
async fn the_same_advance_again_waits_again_and_an_older_one_moves_nothing() {
    let gate = Gate::new(state(1, FIRST));
    let old = gate.attach(binding(1, FIRST), 0).await.unwrap();
    let pass = old.enter().unwrap();
    drop(gate.advance(state(2, SECOND)));
    // A future that was never polled has done nothing.
    old.enter().unwrap();
    let mut first = gate.advance(state(2, SECOND));
    assert_eq!(ready(&mut first), None);
    drop(first);
    let mut again = gate.advance(state(2, SECOND));
    assert_eq!(ready(&mut again), None);
    drop(pass);
    again.await;
    gate.advance(state(1, FIRST)).await;
    gate.check(binding(2, SECOND)).unwrap();
}

#[tokio::test]
async fn a_client_that_connects_anew_waits_for_its_older_connection() {
    let gate = Gate::new(state(1, FIRST));
    let older = gate.attach(binding(1, FIRST), 0).await.unwrap();
    let elsewhere = gate.attach(binding(1, FIRST), 1).await.unwrap();
    let pass = older.enter().unwrap();
    let gate_again = Arc::clone(&gate);
    let mut newer = Box::pin(gate_again.attach(binding(1, FIRST), 0));
    assert!(ready(&mut newer).is_none());
    older
        .enter()
        .expect_err("a request on the older connection");
    elsewhere
        .enter()
        .expect("another export's connection goes on");
    drop(pass);
    newer.await.unwrap().enter().unwrap();
}

/// What happens to a gate.
#[derive(Clone, Copy, Debug)]
enum Step {
    Advance,
    Attach { newest: bool, export: usize },
    Enter(usize),
    Leave(usize),
    Detach(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        Just(Step::Advance),
        (any::<bool>(), 0usize..2).prop_map(|(newest, export)| Step::Attach { newest, export }),
        (0usize..16).prop_map(Step::Enter),
        (0usize..16).prop_map(Step::Leave),
        (0usize..16).prop_map(Step::Detach),
    ];
    prop::collection::vec(step, 0..120)
}

proptest! {
    /// Against a model that keeps every connection for ever.
    #[test]
    fn whatever_happens_only_the_newest_connection_of_the_holder_starts_anything(steps in steps()) {
        let mut core = Core::new(state(1, FIRST));
        let mut term = 1;
        // Connection, its term, its export, under way, detached.
        let mut known: Vec<(ConnectionId, u64, usize, usize, bool)> = Vec::new();
        for step in steps {
            match step {
                Step::Advance => { term += 1; core.advance(state(term, FIRST)); }
                Step::Attach { newest, export } => {
                    let asked = if newest { term } else { term - 1 };
                    match core.attach(binding(asked, FIRST), export) {
                        Ok(id) => { prop_assert!(newest); known.push((id, term, export, 0, false)); }
                        Err(refused) => { prop_assert!(!newest); prop_assert_eq!(refused, OtherTerm { term }); }
                    }
                }
                Step::Enter(at) if at < known.len() => {
                    let (id, of_term, export, _, detached) = known[at];
                    let newer = known[at + 1..].iter().any(|other| other.1 == of_term && other.2 == export);
                    let expected = of_term == term && !newer && !detached;
                    prop_assert_eq!(core.enter(id).is_ok(), expected);
                    known[at].3 += usize::from(expected);
                }
                Step::Leave(at) if at < known.len() && known[at].3 > 0 => {
                    core.leave(known[at].0);
                    known[at].3 -= 1;
                }
                Step::Detach(at) if at < known.len() => { core.detach(known[at].0); known[at].4 = true; }
                _ => {}
            }
            let busy = known.iter().any(|one| one.1 < term && one.3 > 0);
            prop_assert_eq!(core.is_drained_before(term), !busy);
            prop_assert_eq!(core.is_idle(), known.iter().all(|one| one.3 == 0));
        }
    }
}
