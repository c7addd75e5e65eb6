//! What the log costs: of an idle guest, one that computes and one that serves requests, against the aims for our Linux on the software CPU.
//!
//! The log's own bytes are what the primary hands to TCP: messages with their headers. What goes over the wire besides is headers of TCP, IP
//! and Ethernet, heartbeats and their headers. A guest's input is what its tap is sent.

use std::time::{Duration, Instant};

use vmm::{
    demo::{Guest, Member, network::Host},
    engine::EngineKind,
};

use super::pairs::{self, Served, Traffic};

const IDLE: Duration = Duration::from_secs(15);
const BUSY: Duration = Duration::from_secs(10);
/// How often it is looked whether a guest that computes is done.
const LOOK: Duration = Duration::from_millis(20);

/// Aims for our Linux on the software CPU, Mbit/s.
const IDLE_AIM: f64 = 0.15;
const COMPUTING_AIM: f64 = 0.5;
/// Besides twice the input.
const BUSY_AIM: f64 = 0.5;

/// Prints the section.
pub fn print() {
    println!(
        "\nlog: Mbit/s of log, of the same with all headers and heartbeats, and of the guest's input"
    );
    println!("                           log     wire    input");
    for engine in pairs::ENGINES {
        for guest in [Guest::Bare, Guest::Linux] {
            pairs::block_on(serving(engine, guest));
        }
    }
    pairs::block_on(computing());
}

/// A guest whose client asks nothing, then as fast as it is answered, one request at a time.
async fn serving(engine: EngineKind, guest: Guest) {
    let served = pairs::pair(engine, guest).await;
    let mut client = served.client(1).await;
    let aims = engine == EngineKind::Soft && guest == Guest::Linux;
    let meter = Meter::start(&served);
    tokio::time::sleep(IDLE).await;
    let rates = meter.stop();
    rates.print(engine, guest, "idle", aims.then_some(IDLE_AIM));

    let meter = Meter::start(&served);
    let mut answers = 0_u64;
    while meter.since.elapsed() < BUSY {
        client.fill_window().expect("the connection holds");
        client.next_answer().await.expect("an answer");
        answers += 1;
    }
    let rates = meter.stop();
    rates.print(
        engine,
        guest,
        "busy",
        aims.then_some(2.0 * rates.input + BUSY_AIM),
    );
    let seconds = BUSY.as_secs_f64();
    println!(
        "                        {:6.0} answers a second, {:.0} bytes of log each",
        answers as f64 / seconds,
        rates.log * 1e6 / 8.0 * seconds / answers as f64
    );
}

/// A guest that does nothing but compute, from the first workload to the last.
async fn computing() {
    let (engine, guest) = (EngineKind::Soft, Guest::Linux);
    let mut options = pairs::options(engine, guest);
    options
        .images
        .command_line
        .push_str(" lockstep.run=workloads");
    let served = pairs::pair_of(options).await;
    let meter = Meter::start(&served);
    let console = || served.rig.console(Member::Primary).expect("a console");
    while !console().contains("workload sse end") {
        tokio::time::sleep(LOOK).await;
    }
    let rates = meter.stop();
    rates.print(engine, guest, "computing", Some(COMPUTING_AIM));
}

/// Traffic since a moment.
struct Meter<'a> {
    served: &'a Served,
    channel: Traffic,
    input_bytes: u64,
    since: Instant,
}

/// Mbit/s.
struct Rates {
    log: f64,
    wire: f64,
    input: f64,
}

impl<'a> Meter<'a> {
    fn start(served: &'a Served) -> Self {
        Self {
            served,
            channel: served.channel(Host::Primary),
            input_bytes: served.input_bytes(),
            since: Instant::now(),
        }
    }

    fn stop(&self) -> Rates {
        let seconds = self.since.elapsed().as_secs_f64();
        let rate = |bytes: u64| bytes as f64 * 8.0 / seconds / 1e6;
        let channel = self.served.channel(Host::Primary) - self.channel;
        Rates {
            log: rate(channel.tcp_payload_bytes()),
            wire: rate(channel.bytes),
            input: rate(self.served.input_bytes() - self.input_bytes),
        }
    }
}

impl Rates {
    fn print(&self, engine: EngineKind, guest: Guest, what: &str, aim: Option<f64>) {
        let aim = aim.map_or(String::new(), |aim| {
            let met = if self.log < aim { "met" } else { "missed" };
            format!("   aim for the log: {aim:.3}, {met}")
        });
        println!(
            "  {:6} {guest:6} {what:9} {:8.3} {:8.3} {:8.3}{aim}",
            engine.name(),
            self.log,
            self.wire,
            self.input
        );
    }
}
