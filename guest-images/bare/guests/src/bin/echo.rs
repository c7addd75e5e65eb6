//! A host on virtio-net: ARP, ping, UDP echo on port 7007, and on TCP port 7000 the counter: each
//! line `incr` is answered with the next number.
//!
//! Options: `net.ip=` its address (172.31.0.2), `count=` answers after which, once they are
//! acknowledged, it ends (0: never). Prints `ready` when it listens.
//!
//! The way of a frame: virtio-net, [`Stack::receive`], and the answer back to virtio-net, all in
//! one turn of the loop in `main`; the processor sleeps in between.

#![no_std]
#![no_main]

use bare::machine::serial::Line;
use bare::machine::virtio::net::Net;
use bare::machine::virtio::rng::Rng;
use bare::machine::{Global, clock, interrupts, pit};
use bare::net::{Address, Stack};
use bare::options::Options;

/// The stack counts time in ticks of this frequency.
const TICK_HZ: u64 = 100;
const DEFAULT_ADDRESS: Address = [172, 31, 0, 2];

static STACK: Global<Stack> = Global::new(Stack::new());

bare::guest!(main);

fn main(options: Options) {
    let count = options.number("count", 0);
    let mut net = Net::open().expect("the machine has virtio-net");
    let stack = STACK.take();
    stack.start(
        net.mac(),
        options.address("net.ip").unwrap_or(DEFAULT_ADDRESS),
        seed(),
    );
    interrupts::unmask(interrupts::NET);
    interrupts::unmask(interrupts::TIMER);
    pit::start(TICK_HZ);
    Line.text("ready").end();

    let mut interrupted = 0;
    loop {
        let interrupts = interrupts::count(interrupts::NET);
        if interrupts != interrupted {
            interrupted = interrupts;
            net.acknowledge();
        }
        let now = interrupts::count(interrupts::TIMER);
        while net.receive(|frame, reply| stack.receive(frame, now, reply)) {}
        while net.transmit(|frame| stack.poll(now, frame)) {}
        if net.flush() {
            continue;
        }
        if count > 0 && stack.counter().answers() >= count && stack.is_settled() {
            break;
        }
        interrupts::wait();
    }
    Line.text("echo end answers=")
        .decimal(stack.counter().answers())
        .end();
}

/// A number that nobody can guess.
fn seed() -> u64 {
    let mut seed = clock::trapped_tsc();
    if let Some(mut rng) = Rng::open()
        && let Some(random) = rng.read().first_chunk()
    {
        seed ^= u64::from_le_bytes(*random);
    }
    seed
}
