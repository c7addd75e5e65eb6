//! What every arbiter does, run on each backend.

use std::sync::Arc;

use arbiter::{Address, Arbiter, Identity, Outcome, State};
use tokio::sync::Barrier;

use crate::processes::{Process, TIMEOUT, claim};

/// A fresh arbiter of one kind.
struct Backend {
    address: Address,
    server: Option<Process>,
    folder: tempfile::TempDir,
}

impl Backend {
    fn file() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let address = Address::File(folder.path().join("state"));
        let server = None;
        Self {
            address,
            server,
            folder,
        }
    }

    fn tcp() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (server, address) = Process::server(&folder.path().join("state"));
        let server = Some(server);
        Self {
            address,
            server,
            folder,
        }
    }

    /// A handle that shares nothing with other handles.
    fn handle(&self) -> Arbiter {
        Arbiter::new(self.address.clone())
    }

    /// Whatever runs is killed, and started again on what is on the disk.
    fn restart(&mut self) {
        if let Some(server) = &mut self.server {
            server.kill();
            let (server, address) = Process::server(&self.folder.path().join("state"));
            (self.server, self.address) = (Some(server), address);
        }
    }
}

fn identity(number: u8) -> Identity {
    Identity::from_bytes([number; 16])
}

async fn read(arbiter: &Arbiter) -> State {
    arbiter.read(TIMEOUT).await.unwrap()
}

async fn starts_at_term_zero_held_by_nobody(backend: Backend) {
    assert_eq!(read(&backend.handle()).await, State::FRESH);
}

async fn the_first_wins_and_the_second_learns_who_did(backend: Backend) {
    let (first, second) = (backend.handle(), backend.handle());
    let outcome = claim(&first, 0, identity(1)).await;
    assert_eq!(outcome, Outcome::Won { term: 1 });
    let holder = Some(identity(1));
    let outcome = claim(&second, 0, identity(2)).await;
    assert_eq!(outcome, Outcome::Lost { term: 1, holder });
    assert_eq!(read(&second).await, State { term: 1, holder });
}

async fn asking_again_gives_the_same_answer(backend: Backend) {
    let outcome = claim(&backend.handle(), 0, identity(1)).await;
    assert_eq!(outcome, Outcome::Won { term: 1 });
    for _ in 0..3 {
        let again = claim(&backend.handle(), 0, identity(1)).await;
        assert_eq!(again, outcome);
        let holder = Some(identity(1));
        let loser = claim(&backend.handle(), 0, identity(2)).await;
        assert_eq!(loser, Outcome::Lost { term: 1, holder });
    }
    let state = read(&backend.handle()).await;
    assert_eq!(state.term, 1);
}

async fn stale_and_future_terms_lose(backend: Backend) {
    let arbiter = backend.handle();
    for term in 0..5 {
        claim(&arbiter, term, identity(1)).await;
    }
    let holder = Some(identity(1));
    // Term 4 is the one that identity 1 won last, so it is no longer among the stale.
    for expected_term in [0, 3, 6, 1 << 40, u64::MAX] {
        let outcome = claim(&arbiter, expected_term, identity(1)).await;
        assert_eq!(outcome, Outcome::Lost { term: 5, holder });
    }
}

async fn a_restart_loses_nothing(mut backend: Backend) {
    for term in 0..5 {
        let outcome = claim(&backend.handle(), term, identity(term as u8)).await;
        assert_eq!(outcome, Outcome::Won { term: term + 1 });
        backend.restart();
        let holder = Some(identity(term as u8));
        let state = read(&backend.handle()).await;
        assert_eq!((state.term, state.holder), (term + 1, holder));
        let again = claim(&backend.handle(), term, identity(term as u8)).await;
        assert_eq!(again, outcome);
    }
}

/// All claim each term in the same moment.
async fn one_of_many_handles_wins_each_term(backend: Backend) {
    const HANDLES: u8 = 8;
    const TERMS: u64 = 30;
    let barrier = Arc::new(Barrier::new(usize::from(HANDLES)));
    let claimants: Vec<_> = (0..HANDLES)
        .map(|number| {
            let (arbiter, barrier) = (backend.handle(), Arc::clone(&barrier));
            tokio::spawn(async move {
                let mut outcomes = Vec::new();
                for term in 0..TERMS {
                    barrier.wait().await;
                    outcomes.push(claim(&arbiter, term, identity(number)).await);
                }
                outcomes
            })
        })
        .collect();
    let mut outcomes = Vec::new();
    for claimant in claimants {
        outcomes.push(claimant.await.unwrap());
    }
    for expected_term in 0..TERMS {
        let term = expected_term + 1;
        let of_term = outcomes.iter().map(|of_one| of_one[expected_term as usize]);
        let of_term: Vec<Outcome> = of_term.collect();
        let winner = of_term
            .iter()
            .position(|outcome| *outcome == Outcome::Won { term })
            .unwrap_or_else(|| panic!("nobody won term {term}: {of_term:?}"));
        let holder = Some(identity(winner as u8));
        for (number, outcome) in of_term.into_iter().enumerate() {
            let expected = if number == winner {
                Outcome::Won { term }
            } else {
                Outcome::Lost { term, holder }
            };
            assert_eq!(outcome, expected, "claimant {number}");
        }
    }
}

/// The same between processes, which with a file also race to make it.
async fn one_of_several_processes_wins_each_term(backend: Backend) {
    const TERMS: u64 = 60;
    let start = || Process::claimant(&backend.address, TERMS);
    let mut claimants: Vec<Process> = (0..4).map(|_| start()).collect();
    claimants.iter_mut().for_each(Process::release);
    let mut won = Vec::new();
    for claimant in &mut claimants {
        while let Some(term) = claimant.next_line("WON") {
            won.push(term.parse::<u64>().unwrap());
        }
    }
    won.sort_unstable();
    assert_eq!(won, Vec::from_iter(1..=TERMS));
    assert_eq!(read(&backend.handle()).await.term, TERMS);
}

macro_rules! contract {
    ($($test:ident),* $(,)?) => {
        mod file {
            $(#[tokio::test] async fn $test() { super::$test(super::Backend::file()).await; })*
        }
        mod tcp {
            $(#[tokio::test] async fn $test() { super::$test(super::Backend::tcp()).await; })*
        }
    };
}

contract!(
    starts_at_term_zero_held_by_nobody,
    the_first_wins_and_the_second_learns_who_did,
    asking_again_gives_the_same_answer,
    stale_and_future_terms_lose,
    a_restart_loses_nothing,
    one_of_many_handles_wins_each_term,
    one_of_several_processes_wins_each_term,
);
