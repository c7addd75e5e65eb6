//! From SIGKILL of the primary to the backup live, and to its first answer.

use std::time::Duration;

use tokio::sync::watch;
use vmm::{
    demo::{
        Guest, RigOptions, RoundReport,
        round::{self, Stage},
    },
    engine::EngineKind,
};

use super::pairs;

/// Prints the section.
pub fn print() {
    println!("\nfailover: SIGKILL with requests in flight; milliseconds, median (and longest)");
    println!(
        "  engine guest   rounds  killed to suspected       live        first answer   under 100 ms"
    );
    rows(None);
    println!(
        "  The request that dies with the primary is sent again by the client's TCP, on Linux after 200 ms or more. The same with a"
    );
    println!("  client that does so after 20 ms:");
    rows(Some(Duration::from_millis(20)));
}

fn rows(retransmit_after: Option<Duration>) {
    for engine in pairs::ENGINES {
        let kill_after = Duration::from_millis(700);
        row(engine, Guest::Bare, 20, kill_after, retransmit_after);
        let kill_after = Duration::from_secs(3);
        row(engine, Guest::Linux, 3, kill_after, retransmit_after);
    }
}

fn row(
    engine: EngineKind,
    guest: Guest,
    rounds: usize,
    kill_after: Duration,
    retransmit_after: Option<Duration>,
) {
    let (stage, _) = watch::channel(Stage::Starting);
    let reports: Vec<RoundReport> = (0..rounds)
        .map(|_| {
            let options = RigOptions {
                retransmit_after,
                ..pairs::options(engine, guest)
            };
            let round = pairs::block_on(round::play(options, kill_after, &stage));
            round.result.expect("the round is played to its end")
        })
        .collect();
    let column = |value: fn(&RoundReport) -> Option<f64>| {
        reports.iter().filter_map(value).collect::<Vec<f64>>()
    };
    let text = |value| {
        let (median, maximum) = super::median_and_maximum(column(value));
        format!("{median:8.1} ({maximum:.1})")
    };
    let fast = column(|report| report.killed_to_first_answer_ms)
        .iter()
        .filter(|ms| **ms < 100.0)
        .count();
    println!(
        "  {:6} {guest:6} {rounds:5}   {:>18} {:>18} {:>18}   {fast} of {rounds}",
        engine.name(),
        text(|report| report.killed_to_suspected_ms),
        text(|report| report.killed_to_live_ms),
        text(|report| report.killed_to_first_answer_ms),
    );
}
