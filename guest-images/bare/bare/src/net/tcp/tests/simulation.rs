//! Streams over a network that loses, repeats, delays and thereby reorders frames: every client
//! reads its answers once, in order, and all numbers are given exactly once.

use proptest::prelude::*;

use super::client::{Client, Random};
use super::packet::{Packet, SERVER, SERVER_MAC};
use crate::net::{FRAME_MAX, Stack};

/// Ticks after which a run counts as stuck: ten minutes.
const PATIENCE: u32 = 60_000;

/// How bad the network is.
#[derive(Clone, Copy, Debug)]
struct Weather {
    loss_percent: usize,
    repeat_percent: usize,
    delay_ticks: usize,
    /// Every so often nothing passes for some time, and then the last frames come again: what a
    /// failover looks like from outside.
    outages: bool,
}

struct Network {
    random: Random,
    weather: Weather,
    /// Frames on their way to the server or to the clients, with the time they arrive.
    to_server: Vec<(u32, Vec<u8>)>,
    to_clients: Vec<(u32, Vec<u8>)>,
    recent: Vec<Vec<u8>>,
}

impl Network {
    fn passes(&mut self, now: u32) -> bool {
        let outage = self.weather.outages && now % 400 < 50;
        !outage && !self.random.percent(self.weather.loss_percent)
    }

    fn arrivals(&mut self, now: u32) -> Vec<u32> {
        let mut times = Vec::new();
        while self.passes(now) {
            times.push(now + 1 + self.random.below(self.weather.delay_ticks + 1) as u32);
            if !self.random.percent(self.weather.repeat_percent) {
                break;
            }
        }
        times
    }

    fn send_to_server(&mut self, now: u32, packet: &Packet) {
        for time in self.arrivals(now) {
            self.to_server.push((time, packet.to_frame()));
        }
    }

    fn send_to_clients(&mut self, now: u32, frame: &[u8]) {
        if self.weather.outages {
            self.recent.push(frame.to_vec());
        }
        for time in self.arrivals(now) {
            self.to_clients.push((time, frame.to_vec()));
        }
    }

    /// What a backup releases when it goes live: frames that may have been sent before.
    fn repeat_after_outage(&mut self, now: u32) {
        if self.weather.outages && now % 400 == 50 {
            let last = self.recent.len().saturating_sub(8);
            let again: Vec<_> = self
                .recent
                .drain(..)
                .skip(last)
                .map(|frame| (now + 1, frame))
                .collect();
            self.to_clients.extend(again);
        }
    }
}

fn take_due(queue: &mut Vec<(u32, Vec<u8>)>, now: u32) -> Vec<Vec<u8>> {
    let due;
    (due, *queue) = std::mem::take(queue)
        .into_iter()
        .partition(|(time, _)| *time <= now);
    due.into_iter().map(|(_, frame)| frame).collect()
}

/// Runs until every client is done; returns what each one read.
fn run(mut clients: Vec<Client>, weather: Weather, seed: u64) -> Vec<String> {
    let mut stack = Box::new(Stack::new());
    stack.start(SERVER_MAC, SERVER, seed);
    let mut network = Network {
        random: Random(seed | 1),
        weather,
        to_server: vec![],
        to_clients: vec![],
        recent: vec![],
    };
    let mut frame = [0; FRAME_MAX];
    // Ticks wrap in the middle of it.
    let ticks = |now: u32| now.wrapping_sub(500);
    for now in 0..PATIENCE {
        for client in &mut clients {
            for packet in client.tick(now) {
                network.send_to_server(now, &packet);
            }
        }
        for received in take_due(&mut network.to_server, now) {
            let length = stack.receive(&received, ticks(now), &mut frame);
            if length > 0 {
                network.send_to_clients(now, &frame[..length]);
            }
        }
        loop {
            let length = stack.poll(ticks(now), &mut frame);
            if length == 0 {
                break;
            }
            network.send_to_clients(now, &frame[..length]);
        }
        network.repeat_after_outage(now);
        for received in take_due(&mut network.to_clients, now) {
            let packet = Packet::from_frame(&received);
            let client = clients
                .iter_mut()
                .find(|client| client.port() == packet.to_port)
                .expect("to one of them");
            if !client.is_done() {
                for answer in client.receive(&packet) {
                    network.send_to_server(now, &answer);
                }
            }
        }
        if clients.iter().all(Client::is_done) {
            return clients
                .into_iter()
                .map(|client| String::from_utf8(client.answers).unwrap())
                .collect();
        }
    }
    panic!("stuck");
}

/// Not more loss than leaves the server's patience with a silent peer intact.
fn weather() -> impl Strategy<Value = Weather> {
    (0_usize..20, 0_usize..40, 0_usize..20, any::<bool>()).prop_map(
        |(loss_percent, repeat_percent, delay_ticks, outages)| Weather {
            loss_percent,
            repeat_percent,
            delay_ticks,
            outages,
        },
    )
}

fn numbers(answers: &str) -> Vec<u64> {
    assert!(answers.is_empty() || answers.ends_with('\n'));
    answers.lines().map(|line| line.parse().unwrap()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn no_answer_is_lost_repeated_or_reordered(
        weather in weather(),
        seed: u64,
        requests in prop::collection::vec((0_usize..2000, 40_usize..6000), 1..=4),
    ) {
        let clients = requests.iter().zip(40_000..).map(|(&(count, read_limit), port)| {
            Client::new(port, b"incr\n".repeat(count), read_limit, seed ^ u64::from(port) << 32)
        });
        let mut all = Vec::new();
        for (answers, (count, _)) in run(clients.collect(), weather, seed).iter().zip(&requests) {
            let numbers = numbers(answers);
            prop_assert_eq!(numbers.len(), *count);
            prop_assert!(numbers.is_sorted());
            all.extend(numbers);
        }
        all.sort_unstable();
        prop_assert!(all.iter().copied().eq(1..=all.len() as u64));
    }

    #[test]
    fn long_answers_to_short_lines_get_through(weather in weather(), seed: u64, count in 0_usize..3000) {
        let client = Client::new(40_000, b"\n".repeat(count), 2000, seed);
        let answers = run(vec![client], weather, seed);
        prop_assert_eq!(&answers[0], &"error: unknown request, say incr\n".repeat(count));
    }
}
