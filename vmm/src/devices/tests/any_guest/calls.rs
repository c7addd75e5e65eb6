//! What a guest and the world do to the devices: anything, and what makes sense often enough to get somewhere.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;

/// A descriptor of a hostile driver: address, length, flags, next.
pub(super) type Descriptor = (u64, u32, u16, u16);

#[derive(Clone, Debug)]
pub(super) enum Call {
    PortRead(u16, u8),
    PortWrite(u16, u8, u32),
    MmioRead(u64, usize),
    MmioWrite(u64, Vec<u8>),
    /// Takes a device through its initialisation, with all queues at these places.
    BringUp {
        base: u64,
        size: u16,
        descriptors: u64,
        available: u64,
        used: u64,
    },
    Descriptors(u64, Vec<Descriptor>),
    /// Flags, index and entries of an available ring.
    Available(u64, u16, u16, Vec<u16>),
    Notify(u64, u32),
    /// A driver that knows its trade, with buffers that may be anything: brings the device up if it is
    /// not, offers the chains at `heads` and notifies.
    Offer {
        base: u64,
        queue: u64,
        table: Vec<Descriptor>,
        heads: Vec<u16>,
    },
    /// So many nanoseconds later.
    Tick(u64),
    /// At the deadline, if there is one.
    TickAtDeadline,
    Frame(usize),
    ConsoleInput(usize),
    Entropy(usize),
    /// A driver of a disk that knows its trade: brings the disk up if it is not, offers these requests (type, sector, bytes) and notifies.
    DiskOffer(usize, Vec<(u32, u64, u32)>),
    /// Ends one of the requests that are under way, or one that is not.
    DiskDone {
        which: usize,
        answer: Answer,
    },
    Acknowledge,
    FlushConsole,
}

/// How a request ends.
#[derive(Clone, Copy, Debug)]
pub(super) enum Answer {
    Done,
    TooLong,
    Failed,
    Unsupported,
    /// That of a request that nobody made.
    Unknown,
}

fn port() -> impl Strategy<Value = u16> {
    let known = vec![
        0x20, 0x21, 0xA0, 0xA1, 0x4D0, 0x4D1, 0x40, 0x41, 0x42, 0x43, 0x61, 0x60, 0x64, 0x70, 0x71,
        0x92, 0xCF8, 0xCF9, 0x3F8, 0x3F9, 0x3FA, 0x3FB, 0x3FC, 0x3FD, 0x3FE, 0x3FF, 0x608, 0x60A,
    ];
    prop_oneof![20 => select(known), 1 => any::<u16>()]
}

fn place() -> impl Strategy<Value = u64> {
    prop_oneof![20 => select(PLACES.to_vec()), 1 => any::<u64>()]
}

fn window() -> impl Strategy<Value = u64> {
    select(vec![NET_MMIO, RNG_MMIO, disk_mmio(0), disk_mmio(1)])
}

fn mmio_address() -> impl Strategy<Value = u64> {
    prop_oneof![
        10 => (window(), 0..0x44u64).prop_map(|(base, word)| base + 4 * word),
        2 => (window(), 0..0x1000u64).prop_map(|(base, offset)| base + offset),
        1 => any::<u64>(),
    ]
}

fn descriptor() -> impl Strategy<Value = Descriptor> {
    let length = prop_oneof![
        4 => 0..2000u32,
        2 => select(vec![1526, 4096, 65_574, 65_575, 0x2_0000]),
        1 => any::<u32>(),
    ];
    let flags = prop_oneof![8 => 0..4u16, 1 => any::<u16>()];
    let next = prop_oneof![8 => 0..16u16, 1 => any::<u16>()];
    (place(), length, flags, next)
}

/// Descriptors that are sound more often than not, all of one direction.
fn fair_table(writable: bool) -> impl Strategy<Value = Vec<Descriptor>> {
    let address = prop_oneof![20 => 0x1_0000..0x1_8000u64, 1 => place()];
    let length = prop_oneof![2 => 0..200u32, 4 => 1526..2000u32, 1 => Just(0x8000)];
    // A chain ends, or goes on with a later descriptor.
    let next = prop_oneof![8 => Just(None), 4 => (1..4u16).prop_map(Some)];
    let fair = vec((address, length, next), 16).prop_map(move |entries| {
        let direction = if writable { 2 } else { 0 };
        let table = entries.into_iter().enumerate();
        let table = table.map(|(index, (address, length, next))| match next {
            Some(step) => (address, length, direction | 1, index as u16 + step),
            None => (address, length, direction, 0),
        });
        table.collect()
    });
    prop_oneof![8 => fair, 1 => vec(descriptor(), 16)]
}

fn offer() -> impl Strategy<Value = Call> {
    let queue = select(vec![
        (NET_MMIO, 0, true),
        (NET_MMIO, 1, false),
        (RNG_MMIO, 0, true),
    ]);
    (queue, vec(0..14u16, 0..6)).prop_flat_map(|((base, queue, writable), heads)| {
        fair_table(writable).prop_map(move |table| Call::Offer {
            base,
            queue,
            table,
            heads: heads.clone(),
        })
    })
}

fn disk_offer() -> impl Strategy<Value = Call> {
    let kind = prop_oneof![
        8 => select(vec![0u32, 1]),
        4 => select(vec![4u32, 8, 11, 13]),
        1 => any::<u32>(),
    ];
    // Few sectors, so that many requests conflict.
    let sector = prop_oneof![12 => 0..6u64, 2 => 0..260u64, 1 => any::<u64>()];
    let bytes = prop_oneof![8 => (1..4u32).prop_map(|sectors| 512 * sectors), 2 => 0..4000u32];
    let requests = vec((kind, sector, bytes), 1..6);
    (0..2usize, requests).prop_map(|(disk, requests)| Call::DiskOffer(disk, requests))
}

fn disk_done() -> impl Strategy<Value = Call> {
    let answer = prop_oneof![
        8 => Just(Answer::Done),
        1 => select(vec![
            Answer::TooLong,
            Answer::Failed,
            Answer::Unsupported,
            Answer::Unknown,
        ]),
    ];
    (any::<usize>(), answer).prop_map(|(which, answer)| Call::DiskDone { which, answer })
}

fn virtio_call() -> impl Strategy<Value = Call> {
    let size = prop_oneof![4 => Just(16u16), 1 => Just(256), 1 => any::<u16>()];
    let ring = (0..2u16, prop_oneof![4 => 0..20u16, 1 => any::<u16>()]);
    let heads = vec(prop_oneof![8 => 0..16u16, 1 => any::<u16>()], 0..20);
    prop_oneof![
        1 => (window(), size, place(), place(), place()).prop_map(
            |(base, size, descriptors, available, used)| {
                Call::BringUp { base, size, descriptors, available, used }
            }
        ),
        2 => (place(), vec(descriptor(), 1..20))
            .prop_map(|(base, table)| Call::Descriptors(base, table)),
        2 => (place(), ring, heads)
            .prop_map(|(base, (flags, index), heads)| Call::Available(base, flags, index, heads)),
        12 => offer(),
        6 => disk_offer(),
        6 => disk_done(),
        4 => (window(), 0..3u32).prop_map(|(base, queue)| Call::Notify(base, queue)),
        2 => (mmio_address(), 1..9usize).prop_map(|(address, length)| Call::MmioRead(address, length)),
        3 => (mmio_address(), vec(any::<u8>(), 1..9))
            .prop_map(|(address, data)| Call::MmioWrite(address, data)),
        3 => (0..70_000usize).prop_map(Call::Frame),
        2 => (0..6000usize).prop_map(Call::Entropy),
    ]
}

pub(super) fn call() -> impl Strategy<Value = Call> {
    let width = select(vec![1u8, 1, 1, 2, 4, 0, 255]);
    let value = prop_oneof![4 => 0..256u32, 1 => any::<u32>()];
    let wait_ns = prop_oneof![4 => 0..10_000_000u64, 2 => 0..100_000_000_000u64, 1 => any::<u64>()];
    prop_oneof![
        3 => (port(), width.clone()).prop_map(|(port, width)| Call::PortRead(port, width)),
        6 => (port(), width, value)
            .prop_map(|(port, width, value)| Call::PortWrite(port, width, value)),
        8 => virtio_call(),
        2 => wait_ns.prop_map(Call::Tick),
        2 => Just(Call::TickAtDeadline),
        1 => (0..200usize).prop_map(Call::ConsoleInput),
        2 => Just(Call::Acknowledge),
        1 => Just(Call::FlushConsole),
    ]
}
