//! SIGKILL in the middle of a stream of claims: what was answered stays answered.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arbiter::{Address, Arbiter, Identity, Outcome, State};
use tokio::sync::watch;

use crate::processes::{Process, TIMEOUT};

const ROUNDS: u64 = 15;

/// Claims term after term until the arbiter is silent for good; tells of each win. Gives the last
/// term won.
async fn claim_until_silent(
    arbiter: Arbiter,
    identity: Identity,
    mut term: u64,
    wins: watch::Sender<u64>,
    killed: Arc<AtomicBool>,
) -> u64 {
    loop {
        match arbiter.claim(term, identity, TIMEOUT).await {
            Ok(Outcome::Won { term: won }) => {
                assert_eq!(won, term + 1);
                term = won;
                wins.send_replace(term);
            }
            Ok(lost) => panic!("the only claimant lost: {lost:?}"),
            Err(error) => {
                assert!(error.is_unreachable(), "{error}");
                if killed.load(Ordering::SeqCst) {
                    return term;
                }
            }
        }
    }
}

#[tokio::test]
async fn a_killed_server_keeps_every_term_it_has_answered() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    let identity = Identity::random().unwrap();
    let mut term = 0;
    for round in 0..ROUNDS {
        let (mut server, address) = Process::server(&path);
        let (wins, mut won) = watch::channel(term);
        let killed = Arc::new(AtomicBool::new(false));
        let arbiter = Arbiter::new(address);
        let claims = claim_until_silent(arbiter, identity, term, wins, Arc::clone(&killed));
        let claims = tokio::spawn(claims);
        let enough = term + 1 + round % 4;
        won.wait_for(|term| *term >= enough).await.unwrap();
        server.kill();
        killed.store(true, Ordering::SeqCst);
        let answered = claims.await.unwrap();

        let (_server, address) = Process::server(&path);
        let arbiter = Arbiter::new(address);
        let state = arbiter.read(TIMEOUT).await.unwrap();
        // The claim in flight was carried out or not; it can be asked for again either way.
        let holder = Some(identity);
        assert!([answered, answered + 1].contains(&state.term), "{state:?}");
        assert_eq!(state.holder, holder);
        let again = arbiter.claim(answered, identity, TIMEOUT).await.unwrap();
        term = answered + 1;
        assert_eq!(again, Outcome::Won { term });
    }
}

#[tokio::test]
async fn a_claimant_killed_at_the_file_leaves_it_whole_and_unlocked() {
    let folder = tempfile::tempdir().unwrap();
    let address = Address::File(folder.path().join("state"));
    let arbiter = Arbiter::new(address.clone());
    let mut before = State::FRESH;
    for round in 0..ROUNDS {
        let mut claimant = Process::claimant(&address, u64::MAX);
        claimant.release();
        let mut told = 0;
        for _ in 0..=round % 4 {
            told = claimant.next_line("WON").unwrap().parse().unwrap();
        }
        claimant.kill();
        let state = arbiter.read(TIMEOUT).await.unwrap();
        assert!(state.term >= told && told > before.term, "{state:?}");
        assert_ne!(state.holder, before.holder);
        before = state;
    }
}
