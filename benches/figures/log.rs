//! What the channel carries for an idle and for a busy guest.

use std::time::{Duration, Instant};

use vmm::{demo::Guest, engine::EngineKind};

use super::pairs;

const IDLE: Duration = Duration::from_secs(15);
const BUSY: Duration = Duration::from_secs(10);

/// Prints the section.
pub fn print() {
    println!(
        "\nlog: what the primary's host sends on the channel, TCP and UDP headers and heartbeats included"
    );
    for engine in pairs::ENGINES {
        for guest in [Guest::Bare, Guest::Linux] {
            pairs::block_on(rows(engine, guest));
        }
    }
}

async fn rows(engine: EngineKind, guest: Guest) {
    let served = pairs::pair(engine, guest).await;
    let mut client = served.client(1).await;
    let before = (served.channel_bytes(), Instant::now());
    // Idle: the client is connected and asks nothing.
    tokio::time::sleep(IDLE).await;
    row(engine, guest, "idle", before, served.channel_bytes(), 0);
    let before = (served.channel_bytes(), Instant::now());
    let mut answers = 0;
    while before.1.elapsed() < BUSY {
        client.fill_window().expect("the connection holds");
        client.next_answer().await.expect("an answer");
        answers += 1;
    }
    row(
        engine,
        guest,
        "busy",
        before,
        served.channel_bytes(),
        answers,
    );
}

fn row(
    engine: EngineKind,
    guest: Guest,
    what: &str,
    (bytes, since): (u64, Instant),
    bytes_now: u64,
    answers: u64,
) {
    let seconds = since.elapsed().as_secs_f64();
    let bytes = (bytes_now - bytes) as f64;
    let per_answer = if answers > 0 {
        format!("  {:6.0} bytes an answer", bytes / answers as f64)
    } else {
        String::new()
    };
    println!(
        "  {:6} {guest:6} {what:5} {:8.3} Mbit/s{per_answer}",
        engine.name(),
        bytes * 8.0 / seconds / 1e6
    );
}
