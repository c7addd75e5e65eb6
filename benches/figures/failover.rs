//! From SIGKILL of the primary to the backup live, and to its first answer.

use std::time::Duration;

use lockstep_tests::rig;
use tokio::sync::watch;
use vmm::demo::{
    ArbiterKind, Guest, RigOptions, RoundReport,
    round::{self, Stage},
};

use super::pairs;

/// Prints the section.
pub fn print() {
    println!("\nfailover: SIGKILL with requests in flight; milliseconds, median (and longest)");
    println!("  guest   rounds  killed to suspected       live        first answer   under 100 ms");
    row(Guest::Bare, 20, Duration::from_millis(700), None);
    row(Guest::Linux, 3, Duration::from_secs(3), None);
    println!(
        "  The request that dies with the primary is sent again by the client's TCP, on Linux after 200 ms or more. The same with a"
    );
    println!("  client that does so after 20 ms:");
    let quick = Some(Duration::from_millis(20));
    row(Guest::Bare, 20, Duration::from_millis(700), quick);
    row(Guest::Linux, 3, Duration::from_secs(3), quick);
}

fn row(guest: Guest, rounds: usize, kill_after: Duration, retransmit_after: Option<Duration>) {
    let (stage, _) = watch::channel(Stage::Starting);
    let reports: Vec<RoundReport> = (0..rounds)
        .map(|_| {
            let options = RigOptions {
                retransmit_after,
                ..rig::options(guest, ArbiterKind::Tcp, rig::CALM)
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
        "  {guest:6} {rounds:5}   {:>18} {:>18} {:>18}   {fast} of {rounds}",
        text(|report| report.killed_to_suspected_ms),
        text(|report| report.killed_to_live_ms),
        text(|report| report.killed_to_first_answer_ms),
    );
}
