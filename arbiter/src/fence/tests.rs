use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::Semaphore;

use super::{Fence, FencedStore};
use crate::core::{Identity, Outcome, State};
use crate::error::ArbiterError;
use crate::store::Store;

const TIMEOUT: Duration = Duration::from_secs(60);
const FIRST: Identity = Identity::from_bytes([1; 16]);
const SECOND: Identity = Identity::from_bytes([2; 16]);

/// Tells what it was moved to; each wait takes one permit.
#[derive(Debug)]
struct Told {
    states: Mutex<Vec<State>>,
    drained: Semaphore,
}

impl Fence for Told {
    fn advance(&self, state: State) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        self.states.lock().unwrap().push(state);
        Box::pin(async { self.drained.acquire().await.unwrap().forget() })
    }
}

struct Rig {
    store: FencedStore,
    fence: Arc<Told>,
    _folder: tempfile::TempDir,
}

fn rig(permits: usize) -> Rig {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path().join("state"), TIMEOUT).unwrap();
    let fence = Arc::new(Told {
        states: Mutex::default(),
        drained: Semaphore::new(permits),
    });
    Rig {
        store: FencedStore::new(store, Arc::clone(&fence) as Arc<dyn Fence>),
        fence,
        _folder: folder,
    }
}

fn state(term: u64, holder: Identity) -> State {
    let holder = Some(holder);
    State { term, holder }
}

#[tokio::test]
async fn a_win_waits_for_the_fence_and_so_does_the_same_win_again() {
    let rig = rig(0);
    for attempt in 1..=2 {
        let claim = rig.store.claim(0, FIRST, TIMEOUT);
        tokio::pin!(claim);
        // The claim reaches the fence, and is not answered.
        while rig.fence.states.lock().unwrap().len() < attempt {
            tokio::select! {
                answer = &mut claim => panic!("{answer:?} came before the fence stood"),
                () = tokio::task::yield_now() => {}
            }
        }
        rig.fence.drained.add_permits(1);
        assert_eq!(claim.await.unwrap(), Outcome::Won { term: 1 });
    }
    let states = rig.fence.states.lock().unwrap();
    assert_eq!(*states, [state(1, FIRST), state(1, FIRST)]);
}

#[tokio::test]
async fn a_fence_that_takes_too_long_costs_the_answer_alone() {
    let rig = rig(0);
    let error = rig.store.claim(0, FIRST, Duration::from_millis(200)).await;
    let error = error.expect_err("a win before the fence stood");
    assert!(matches!(error, ArbiterError::Unreachable { .. }), "{error}");
    rig.fence.drained.add_permits(1);
    let again = rig.store.claim(0, FIRST, TIMEOUT).await.unwrap();
    assert_eq!(again, Outcome::Won { term: 1 });
}

#[tokio::test]
async fn who_loses_does_not_wait() {
    let rig = rig(1);
    rig.store.claim(0, FIRST, TIMEOUT).await.unwrap();
    let outcome = rig.store.claim(0, SECOND, TIMEOUT).await.unwrap();
    let holder = Some(FIRST);
    assert_eq!(outcome, Outcome::Lost { term: 1, holder });
}

#[tokio::test]
async fn taking_over_moves_the_term_once_for_each_identity() {
    let rig = rig(100);
    for (identity, term) in [(FIRST, 1), (FIRST, 1), (SECOND, 2), (FIRST, 3)] {
        let outcome = rig.store.take_over(identity, TIMEOUT).await.unwrap();
        assert_eq!(outcome, Outcome::Won { term });
    }
    let last = rig.fence.states.lock().unwrap().last().copied();
    assert_eq!(last, Some(state(3, FIRST)));
}
