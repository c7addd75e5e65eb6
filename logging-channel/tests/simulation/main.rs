//! A seeded simulation of primary, backup and arbiter over a network that delays, drops,
//! duplicates, cuts and heals, and of the disk that they share. After every step the four invariants of docs/failures.md are checked,
//! and a fifth:
//!
//! - (e) the disk's bytes are those of one sequential history, that of the replica that survives: a block holds what the last write that its guest saw completed
//!   wrote there, or what one under way writes; a read finds what the writes before it left; nothing completes twice.
//!
//! ```text
//!  table.rs ──→ guest.rs ──→ primary.rs, backup.rs ──→ storage.rs ──→ disk.rs
//!  conflicts    entries      output rule, reads,       sockets,       fence, drain,
//!                            going live                stops          blocks
//!                                  └──── checker.rs, disk_checker.rs ────┘
//! ```
//!
//! The disk's server is the arbiter, too. In half of the runs the backup reads the disk for itself; reads fail now and then, writes never do.
//!
//! `LOCKSTEP_SEEDS=100000` runs that many seeds; `LOCKSTEP_SEED=4711` reruns one and prints what
//! happens in it.

mod arbiter;
mod backup;
mod bug;
mod checker;
mod disk;
mod disk_checker;
mod faults;
mod guest;
mod network;
mod primary;
mod process;
mod random;
mod storage;
mod table;
mod verdict;
mod world;

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::ScopedJoinHandle;

use logging_channel::protocol::Role;

use bug::Bug;
use faults::{Fault, Plan};
use primary::Mode;
use world::{Counts, Outcome, World};

const SEEDS: u64 = 20_000;

fn from_environment(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    let number = text.parse();
    Some(number.unwrap_or_else(|_| panic!("{name}={text} is not a number")))
}

/// Runs one seed. A panic of a core is a violation too.
fn run(seed: u64, bug: Option<Bug>, verbose: bool) -> Result<Outcome, String> {
    let world = AssertUnwindSafe(|| World::new(seed, bug, verbose).run());
    catch_unwind(world).unwrap_or_else(|_| Err("a core panicked, see above".to_owned()))
}

#[derive(Default)]
struct Statistics {
    runs: u64,
    events: u64,
    outputs: u64,
    repeated: u64,
    paired: u64,
    finished: u64,
    alone: u64,
    taken_over: u64,
    disk: Counts,
}

impl Statistics {
    fn add(&mut self, outcome: &Outcome) {
        self.runs += 1;
        self.events += outcome.events;
        self.outputs += outcome.outputs;
        self.repeated += outcome.repeated;
        self.paired += u64::from(outcome.primary == Some(Mode::Paired));
        self.finished += u64::from(outcome.finished);
        self.alone += u64::from(outcome.primary == Some(Mode::Live));
        self.taken_over += u64::from(outcome.backup == Some(Mode::Live));
        self.disk.add(outcome.disk);
    }

    fn merge(mut self, other: &Self) -> Self {
        self.runs += other.runs;
        self.events += other.events;
        self.outputs += other.outputs;
        self.repeated += other.repeated;
        self.paired += other.paired;
        self.finished += other.finished;
        self.alone += other.alone;
        self.taken_over += other.taken_over;
        self.disk.add(other.disk);
        self
    }

    fn print(&self) {
        eprintln!(
            "{} runs, {} events, {} outputs ({} repeated); at the end {} paired, {} finished, {} primaries \
             alone, {} backups live",
            self.runs,
            self.events,
            self.outputs,
            self.repeated,
            self.paired,
            self.finished,
            self.alone,
            self.taken_over
        );
        eprintln!("requests to the disk: {:?}", self.disk);
    }

    /// The runs must go where it hurts.
    fn check_reach(&self) {
        for (what, count) in [
            ("take over", self.taken_over),
            ("run alone", self.alone),
            ("stay paired", self.paired),
            ("finish", self.finished),
            ("refuse a request of an older term", self.disk.refused),
            ("issue a request again", self.disk.reissued),
            ("hold a write until a read is executed", self.disk.held),
            ("let the backup read for itself", self.disk.read_apart),
        ] {
            let runs = self.runs;
            assert!(count * 100 > runs, "only {count} in {runs} runs {what}");
        }
    }
}

fn run_all(seeds: Range<u64>) -> Statistics {
    let mut statistics = Statistics::default();
    for seed in seeds {
        match run(seed, None, false) {
            Ok(outcome) => statistics.add(&outcome),
            Err(violation) => panic!(
                "seed {seed}: {violation}\nrerun with:  LOCKSTEP_SEED={seed} \
                 cargo test -p logging-channel --test simulation invariants -- --nocapture"
            ),
        }
    }
    statistics
}

#[test]
fn invariants_hold_whatever_fails() {
    if let Some(seed) = from_environment("LOCKSTEP_SEED") {
        let outcome = run(seed, None, true);
        let violation = outcome.err();
        assert_eq!(violation, None, "seed {seed}");
        return;
    }
    let seeds = from_environment("LOCKSTEP_SEEDS").unwrap_or(SEEDS);
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
    let share = seeds.div_ceil(threads);
    let statistics = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|n| scope.spawn(move || run_all(n * share..((n + 1) * share).min(seeds))))
            .collect();
        let results = workers.into_iter().map(ScopedJoinHandle::join);
        results.fold(Statistics::default(), |sum, result| match result {
            Ok(statistics) => sum.merge(&statistics),
            Err(panic) => std::panic::resume_unwind(panic),
        })
    });
    statistics.print();
    assert_eq!(statistics.runs, seeds);
    statistics.check_reach();
}

/// The checker finds each of these mistakes, and by the invariant that it breaks.
mod a_mistake_is_found {
    use super::*;

    const PATIENCE: u64 = 10_000;

    fn finds(bug: Bug, invariant: &str) {
        let found = (0..PATIENCE).find_map(|seed| run(seed, Some(bug), false).err());
        let violation = found.unwrap_or_else(|| panic!("{bug:?} goes unnoticed"));
        assert!(violation.contains(invariant), "{bug:?}: {violation}");
    }

    #[test]
    fn outputs_before_acks() {
        finds(Bug::ReleasesBeforeAck, "(a)");
    }

    #[test]
    fn waking_up_without_looking_at_the_clock() {
        finds(Bug::ClockStopsWithProcess, "(b)");
    }

    #[test]
    fn running_alone_without_the_arbiter() {
        finds(Bug::RunsAloneUnreachable, "(b)");
    }

    #[test]
    fn going_live_without_a_claim() {
        finds(Bug::LiveWithoutClaim, "(b)");
    }

    #[test]
    fn going_live_without_draining() {
        finds(Bug::LiveWithoutDrain, "(d)");
    }

    #[test]
    fn forgetting_kept_outputs() {
        finds(Bug::ForgetsKeptOutputs, "(d)");
    }

    #[test]
    fn speaking_while_replaying() {
        finds(Bug::SpeaksWhileReplaying, "(b)");
    }

    #[test]
    fn a_disk_that_nobody_is_cut_off_from() {
        finds(Bug::Unfenced, "(e)");
    }

    /// The naive scheme: a primary that is stopped between the release of a write and its performance wakes after the backup went live, and writes over
    /// newer data. The same run on a disk that cuts it off loses nothing.
    #[test]
    fn a_stopped_primary_that_is_not_cut_off() {
        let stop = |plan: &Plan| matches!(plan.fault, Fault::Stop(Role::Primary));
        let loses_data = |&seed: &u64| {
            let world = World::new(seed, Some(Bug::Unfenced), false);
            let only_stops = !world.faults.is_empty() && world.faults.iter().all(stop);
            only_stops
                && world
                    .run()
                    .is_err_and(|violation| violation.contains("(e) block"))
        };
        let seed = (0..10 * PATIENCE).find(loses_data);
        let seed = seed.expect("a stopped primary loses data");
        assert_eq!(run(seed, None, false).err(), None, "seed {seed}");
    }

    #[test]
    fn a_claim_that_is_won_before_older_terms_are_drained() {
        finds(Bug::WinsBeforeDrain, "(e)");
    }

    #[test]
    fn a_connection_that_is_replaced_before_it_is_drained() {
        finds(Bug::ReconnectsWithoutDrain, "(e)");
    }

    #[test]
    fn requests_that_conflict() {
        finds(Bug::IgnoresConflicts, "(e)");
    }

    #[test]
    fn writes_before_acks() {
        finds(Bug::WritesBeforeAck, "(a)");
    }

    #[test]
    fn writes_over_what_the_backup_has_yet_to_read() {
        finds(Bug::WritesBeforeExecuted, "(c)");
    }

    #[test]
    fn forgetting_requests_that_were_under_way() {
        finds(Bug::LiveWithoutReissue, "(d)");
    }

    #[test]
    fn completing_a_request_twice() {
        finds(Bug::ReissuesOwnReads, "(e)");
    }
}
