//! A host on virtio-net: ARP, ping, UDP echo on port 7007, and on TCP port 7000 the counter: each
//! line `incr` is answered with the next number.
//!
//! Options: `net.ip=` its address (172.31.0.2), `count=` answers after which, once they are
//! acknowledged, it ends (0: never). Prints `ready` when it listens.
//!
//! The way of a frame: the interrupt wakes `main`, which has `serve` (at privilege level 3, so that
//! it runs at full speed where level 0 is emulated) take it through the stack and put the answer
//! into the transmit queue; `main` notifies the device and sleeps.

#![no_std]
#![no_main]

use bare::machine::serial::Line;
use bare::machine::user::{self, Interrupts, User};
use bare::machine::virtio::net::Net;
use bare::machine::virtio::rng::Rng;
use bare::machine::{Global, clock, interrupts, pit};
use bare::net::{Address, Stack, Ticks};
use bare::options::Options;

/// The stack counts time in ticks of this frequency.
const TICK_HZ: u64 = 100;
const DEFAULT_ADDRESS: Address = [172, 31, 0, 2];

static STACK: Global<Stack> = Global::new(Stack::new());

bare::guest!(main);

/// What `serve` works on.
struct Host {
    net: Net,
    stack: &'static mut Stack,
    now: Ticks,
}

fn main(options: Options) {
    let count = options.number("count", 0);
    let net = Net::open().expect("the machine has virtio-net");
    let stack = STACK.take();
    let address = options.address("net.ip").unwrap_or(DEFAULT_ADDRESS);
    stack.start(net.mac(), address, seed());
    let mut host = Host { net, stack, now: 0 };
    let mut user = User::new(Interrupts::Off);
    interrupts::unmask(interrupts::NET);
    interrupts::unmask(interrupts::TIMER);
    pit::start(TICK_HZ);
    Line.text("ready").end();

    let mut interrupted = 0;
    loop {
        let interrupts = interrupts::count(interrupts::NET);
        if interrupts != interrupted {
            interrupted = interrupts;
            host.net.acknowledge();
        }
        host.now = interrupts::count(interrupts::TIMER);
        user.call(serve, &mut host);
        if host.net.flush() {
            continue;
        }
        if count > 0 && host.stack.counter().answers() >= count && host.stack.is_settled() {
            break;
        }
        interrupts::wait();
    }
    let answers = host.stack.counter().answers();
    Line.text("echo end answers=").decimal(answers).end();
}

/// Takes every received frame through the stack, and sends what it has to say.
extern "C" fn serve(host: &mut Host) -> ! {
    let Host { net, stack, now } = host;
    while net.receive(|frame, reply| stack.receive(frame, *now, reply)) {}
    while net.transmit(|frame| stack.poll(*now, frame)) {}
    user::finish(0)
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
