//! A journal on a raw disk, as a service: on TCP port 7000, each line `incr` is answered with the
//! number of a new record when the record is durable. Records are read back while others are
//! written; if one is not what it was, or the disk fails, every answer is an error from then on.
//!
//! Options: `net.ip=` its address (172.31.0.2), `count=` records of this run after which, once
//! their answers are acknowledged, it ends (0: never), `own=` records that it makes for itself,
//! without a client and without a network card: then it ends. Prints `ready` when it serves.
//!
//! The way of a frame is that of `echo`. A finished disk request wakes `main` likewise; `serve`
//! takes what is finished and has commands for what comes next.

#![no_std]
#![no_main]

use bare::journal::Journal;
use bare::journal::callers::{Answer, Callers};
use bare::machine::serial::Line;
use bare::machine::user::{self, Interrupts, User};
use bare::machine::virtio::block::Block;
use bare::machine::virtio::net::Net;
use bare::machine::{Global, clock, interrupts, pit};
use bare::net::{Address, Stack, Ticks};
use bare::options::Options;
use bare::text::Decimal;

/// The stack counts time in ticks of this frequency.
const TICK_HZ: u64 = 100;
const DEFAULT_ADDRESS: Address = [172, 31, 0, 2];

static STACK: Global<Stack<Callers>> = Global::new(Stack::of(Callers::new()));
static JOURNAL: Global<Journal> = Global::new(Journal::new());

bare::guest!(main);

/// What `serve` works on.
struct Host {
    net: Option<Net>,
    block: Block,
    stack: &'static mut Stack<Callers>,
    journal: &'static mut Journal,
    now: Ticks,
    /// Makes records of two histories differ.
    seed: u64,
    /// Records that this run is to make for itself.
    own: u64,
    /// Records of this run that were answered, or are nobody's.
    done: u64,
}

fn main(options: Options) {
    let own = options.number("own", 0);
    let count = options.number("count", own);
    let mut host = open(options, own);
    let mut user = User::new(Interrupts::Off);
    pit::start(TICK_HZ);
    host.journal.start(host.block.sectors());
    let mut told = false;
    let mut interrupted = [0; 2];
    loop {
        acknowledge(&host, &mut interrupted);
        host.now = interrupts::count(interrupts::TIMER);
        user.call(serve, &mut host);
        host.block.flush();
        if host.net.as_mut().is_some_and(Net::flush) {
            continue;
        }
        if !told && (host.journal.is_open() || host.journal.fault().is_some()) {
            told = true;
            let found = host.journal.records();
            Line.text("journal records=").decimal(found).end();
            Line.text("ready").end();
        }
        let enough = count > 0 && host.done >= count && host.stack.is_settled();
        if enough || own > 0 && host.journal.fault().is_some() {
            break;
        }
        interrupts::wait();
    }
    let fault = host.journal.fault().is_some();
    Line.text(if fault {
        "journal broken records="
    } else {
        "journal end records="
    })
    .decimal(host.journal.records())
    .end();
}

fn open(options: Options, own: u64) -> Host {
    let seed = clock::trapped_tsc();
    let stack = STACK.take();
    let net = match own {
        0 => Some(Net::open().expect("the machine has virtio-net")),
        _ => None,
    };
    if let Some(net) = &net {
        let address = options.address("net.ip").unwrap_or(DEFAULT_ADDRESS);
        stack.start(net.mac(), address, seed);
        interrupts::unmask(interrupts::NET);
    }
    interrupts::unmask(interrupts::TIMER);
    Host {
        net,
        block: Block::open().expect("the machine has virtio-blk"),
        stack,
        journal: JOURNAL.take(),
        now: 0,
        seed,
        own,
        done: 0,
    }
}

/// Takes back the interrupts of devices that have interrupted since the last time.
fn acknowledge(host: &Host, interrupted: &mut [u32; 2]) {
    let counts = [interrupts::NET, interrupts::DISK].map(interrupts::count);
    if let Some(net) = &host.net
        && counts[0] != interrupted[0]
    {
        net.acknowledge();
    }
    if counts[1] != interrupted[1] {
        host.block.acknowledge();
    }
    *interrupted = counts;
}

/// Takes every received frame through the stack and every finished command through the journal,
/// and sends what they have to say.
extern "C" fn serve(host: &mut Host) -> ! {
    if let Some(net) = &mut host.net {
        while net.receive(|frame, reply| host.stack.receive(frame, host.now, reply)) {}
    }
    while host.block.collect(|tag, read| host.journal.done(tag, read)) {}
    answer(host);
    begin(host);
    while host.block.submit(|data| host.journal.next(data)) {}
    if let Some(net) = &mut host.net {
        while net.transmit(|frame| host.stack.poll(host.now, frame)) {}
    }
    user::finish(0)
}

/// Begins the records that were asked for.
fn begin(host: &mut Host) {
    while host.journal.has_room() {
        if host.own > 0 {
            host.own -= 1;
        } else if host.stack.service().unbegun() > 0 {
            host.stack.service_mut().begin();
        } else {
            return;
        }
        host.journal.append(host.seed ^ u64::from(host.now) << 40);
    }
}

/// Tells who waits what became of the records.
fn answer(host: &mut Host) {
    while let Some(number) = host.journal.next_durable() {
        tell(host, Answer::Durable(Decimal::new(number)));
        host.done += 1;
    }
    let no_more = match host.journal.fault() {
        Some(fault) => Answer::Broken(fault),
        None if host.journal.is_full() && host.journal.is_idle() => Answer::Full,
        None => return,
    };
    while tell(host, no_more) {}
}

/// False: nobody waits.
fn tell(host: &mut Host, answer: Answer) -> bool {
    let caller = host.stack.service_mut().answer();
    if let Some(caller) = caller {
        host.stack.answer(caller, answer.as_line());
    }
    caller.is_some()
}
