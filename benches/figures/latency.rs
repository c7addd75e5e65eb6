//! How long a request to the guest's counter takes, with and without a backup.

use std::time::{Duration, Instant};

use vmm::{
    demo::{Client, Guest},
    engine::EngineKind,
};

use super::pairs;

/// Requests are made, and not measured, for so long.
const WARM_UP: Duration = Duration::from_secs(6);

/// Prints the section.
pub fn print() {
    println!("\nlatency: a request to the counter, one at a time; medians, the two in turn");
    for engine in pairs::ENGINES {
        for (guest, requests, rounds) in [(Guest::Bare, 500, 5), (Guest::Linux, 40, 3)] {
            pairs::block_on(row(engine, guest, requests, rounds));
        }
    }
}

async fn row(engine: EngineKind, guest: Guest, requests: u64, rounds: u64) {
    let (mut alone, mut protected) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        for (times, with_backup) in [(&mut alone, false), (&mut protected, true)] {
            let served = if with_backup {
                pairs::pair(engine, guest).await
            } else {
                pairs::alone(engine, guest).await
            };
            let mut client = served.client(1).await;
            // The boot puts a backup behind; the primary is slowed until it has caught up, and let go step by step.
            let begun = Instant::now();
            while begun.elapsed() < WARM_UP {
                ask(&mut client, 1).await;
            }
            times.extend(ask(&mut client, requests).await);
        }
    }
    let (alone, alone_most) = super::median_and_maximum(alone);
    let (protected, protected_most) = super::median_and_maximum(protected);
    let engine = engine.name();
    println!("  {engine:6} {guest:6} alone     {alone:8.3} ms  (at most {alone_most:.1})");
    println!(
        "  {engine:6} {guest:6} protected {protected:8.3} ms  (at most {protected_most:.1})  {:5.2}",
        protected / alone
    );
}

/// Milliseconds of each of `count` requests.
async fn ask(client: &mut Client, count: u64) -> Vec<f64> {
    let mut times = Vec::new();
    for _ in 0..count {
        let begun = Instant::now();
        client.fill_window().expect("the connection holds");
        client.next_answer().await.expect("an answer");
        times.push(begun.elapsed().as_secs_f64() * 1000.0);
    }
    times
}
