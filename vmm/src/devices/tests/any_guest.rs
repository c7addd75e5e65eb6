//! Property tests: any guest, any memory, any inputs.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::ValueTree;
use virtio_bindings::virtio_mmio as register;
use vm_memory::{Bytes, GuestAddress};

use super::*;

/// Two regions with a hole between them.
const REGION_BYTES: usize = 0x2_0000;
const SECOND_REGION: u64 = 0x4_0000;
/// Where rings and buffers lie; they overlap on purpose.
const PLACES: [u64; 8] = [
    0x1000,
    0x1100,
    0x2000,
    0x1_0000,
    0x1_FF00,
    0x2_0000,
    SECOND_REGION,
    SECOND_REGION + 0x1_FFF0,
];

/// A descriptor of a hostile driver: address, length, flags, next.
type Descriptor = (u64, u32, u16, u16);

#[derive(Clone, Debug)]
enum Call {
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
    Acknowledge,
    FlushConsole,
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
    select(vec![NET_MMIO, RNG_MMIO])
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
        4 => (window(), 0..3u32).prop_map(|(base, queue)| Call::Notify(base, queue)),
        2 => (mmio_address(), 1..9usize).prop_map(|(address, length)| Call::MmioRead(address, length)),
        3 => (mmio_address(), vec(any::<u8>(), 1..9))
            .prop_map(|(address, data)| Call::MmioWrite(address, data)),
        3 => (0..70_000usize).prop_map(Call::Frame),
        2 => (0..6000usize).prop_map(Call::Entropy),
    ]
}

fn call() -> impl Strategy<Value = Call> {
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

/// A guest and its devices.
struct Run {
    devices: Devices,
    memory: GuestMemory,
    now_ns: u64,
    /// Whether the fair driver has the card, and the entropy device, until somebody else takes it.
    fair: [bool; 2],
    /// What the guest and the world saw.
    seen: Vec<String>,
}

impl Run {
    fn new() -> Self {
        let regions = [
            (GuestAddress(0), REGION_BYTES),
            (GuestAddress(SECOND_REGION), REGION_BYTES),
        ];
        let memory = GuestMemory::from_ranges(&regions).unwrap();
        let mut devices = devices();
        set_up_pic(&mut devices);
        Self {
            devices,
            memory,
            now_ns: 0,
            fair: [false; 2],
            seen: Vec::new(),
        }
    }

    fn see(&mut self, what: impl std::fmt::Debug) {
        self.seen.push(format!("{what:x?}"));
    }

    fn make(&mut self, call: &Call) {
        let (devices, memory) = (&mut self.devices, &self.memory);
        match call {
            Call::PortRead(port, width) => {
                let value = devices.port_read(*port, *width, self.now_ns);
                self.see(value);
            }
            Call::PortWrite(port, width, value) => {
                devices.port_write(*port, *width, *value, self.now_ns);
            }
            Call::MmioRead(address, length) => {
                let mut data = vec![0; *length];
                devices.mmio_read(*address, &mut data);
                self.see(data);
            }
            Call::MmioWrite(address, data) => devices.mmio_write(*address, data, memory),
            Call::BringUp {
                base,
                size,
                descriptors,
                available,
                used,
            } => {
                self.fair = [false; 2];
                let rings = [*descriptors, *available, *used];
                self.bring_up(*base, *size, [rings, rings]);
            }
            Call::Descriptors(base, table) => self.write_descriptors(*base, table),
            Call::Available(base, flags, index, heads) => {
                let words = [&[*flags, *index], heads.as_slice()].concat();
                let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
                let _ = memory.write_slice(&bytes, GuestAddress(*base));
            }
            Call::Notify(base, queue) => {
                self.write_register(*base, register::VIRTIO_MMIO_QUEUE_NOTIFY, *queue);
            }
            Call::Offer {
                base,
                queue,
                table,
                heads,
            } => self.offer(*base, *queue, table, heads),
            Call::Tick(wait_ns) => self.tick(self.now_ns.saturating_add(*wait_ns)),
            Call::TickAtDeadline => {
                let deadline_ns = devices.wants(memory).deadline_ns;
                self.tick(deadline_ns.unwrap_or(self.now_ns).max(self.now_ns));
            }
            Call::Frame(length) => devices.receive_frame(&vec![0x5A; *length], memory),
            Call::ConsoleInput(length) => devices.console_input(&vec![b'a'; *length]),
            Call::Entropy(length) => devices.entropy(&vec![0xA5; *length], memory),
            Call::Acknowledge => {
                let vector = devices.acknowledge_interrupt();
                self.see(vector);
            }
            Call::FlushConsole => devices.flush_console(),
        }
        self.check();
    }

    fn tick(&mut self, now_ns: u64) {
        self.now_ns = now_ns;
        self.devices.tick(now_ns);
        let deadline_ns = self.devices.wants(&self.memory).deadline_ns;
        assert!(deadline_ns.is_none_or(|deadline_ns| deadline_ns > now_ns));
    }

    /// What holds after every call.
    fn check(&mut self) {
        let effects = self.devices.take_effects();
        assert!(effects.len() <= 256);
        assert!(
            effects
                .iter()
                .all(|effect| effect.bytes().len() <= virtio::net::FRAME_LIMIT_BYTES)
        );
        self.see(effects);
        let wants = self.devices.wants(&self.memory);
        assert!(wants.console_input_room <= serial::RECEIVE_FIFO_BYTES);
        let entropy_limit = virtio::rng::ENTROPY_LIMIT_BYTES;
        assert!(
            wants
                .entropy_bytes
                .is_none_or(|bytes| (1..=entropy_limit).contains(&bytes))
        );
        let interrupt = (
            self.devices.interrupt_pending(),
            self.devices.other_interrupt_pending(),
        );
        self.see((wants, interrupt, self.devices.reset_requested()));
    }

    fn write_register(&mut self, base: u64, register: u32, value: u32) {
        let address = base + u64::from(register);
        self.devices
            .mmio_write(address, &value.to_le_bytes(), &self.memory);
    }

    fn status(&mut self, base: u64) -> u8 {
        let mut data = [0; 4];
        self.devices
            .mmio_read(base + u64::from(register::VIRTIO_MMIO_STATUS), &mut data);
        data[0]
    }

    fn bring_up(&mut self, base: u64, size: u16, rings: [[u64; 3]; 2]) {
        let mut steps = vec![
            (register::VIRTIO_MMIO_STATUS, 0),
            (register::VIRTIO_MMIO_STATUS, 3),
            (register::VIRTIO_MMIO_DRIVER_FEATURES_SEL, 1),
            (register::VIRTIO_MMIO_DRIVER_FEATURES, 1),
            (register::VIRTIO_MMIO_STATUS, 11),
        ];
        for queue in 0..2 {
            steps.push((register::VIRTIO_MMIO_QUEUE_SEL, queue));
            steps.push((register::VIRTIO_MMIO_QUEUE_NUM, size.into()));
            for (index, address) in rings[queue as usize].into_iter().enumerate() {
                let low = register::VIRTIO_MMIO_QUEUE_DESC_LOW + 0x10 * index as u32;
                steps.push((low, address as u32));
                steps.push((low + 4, (address >> 32) as u32));
            }
            steps.push((register::VIRTIO_MMIO_QUEUE_READY, 1));
        }
        steps.push((register::VIRTIO_MMIO_STATUS, 15));
        for (register, value) in steps {
            self.write_register(base, register, value);
        }
    }

    /// Where the fair driver keeps the rings of a queue.
    fn fair_rings(base: u64, queue: u64) -> [u64; 3] {
        let start = 0x1000 + 0x3000 * (2 * u64::from(base == RNG_MMIO) + queue);
        [start, start + 0x1000, start + 0x2000]
    }

    fn offer(&mut self, base: u64, queue: u64, table: &[Descriptor], heads: &[u16]) {
        let device = usize::from(base == RNG_MMIO);
        if self.status(base) != 15 || !self.fair[device] {
            self.fair[device] = true;
            let rings = [Self::fair_rings(base, 0), Self::fair_rings(base, 1)];
            for [_, available, _] in rings {
                self.memory
                    .write_obj(0u32, GuestAddress(available))
                    .unwrap();
            }
            self.bring_up(base, 16, rings);
        }
        let [descriptors, available, _] = Self::fair_rings(base, queue);
        self.write_descriptors(descriptors, table);
        let mut index: u16 = self.memory.read_obj(GuestAddress(available + 2)).unwrap();
        for head in heads {
            let slot = available + 4 + 2 * u64::from(index % 16);
            self.memory.write_obj(*head, GuestAddress(slot)).unwrap();
            index = index.wrapping_add(1);
        }
        self.memory
            .write_obj(index, GuestAddress(available + 2))
            .unwrap();
        self.write_register(base, register::VIRTIO_MMIO_QUEUE_NOTIFY, queue as u32);
    }

    fn write_descriptors(&self, base: u64, table: &[Descriptor]) {
        let mut bytes = Vec::new();
        for (address, length, flags, next) in table {
            bytes.extend(address.to_le_bytes());
            bytes.extend(length.to_le_bytes());
            bytes.extend(flags.to_le_bytes());
            bytes.extend(next.to_le_bytes());
        }
        let _ = self.memory.write_slice(&bytes, GuestAddress(base));
    }

    fn digest(&self) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new();
        self.devices.digest_into(&mut hasher);
        for base in [0, SECOND_REGION] {
            let mut bytes = vec![0; REGION_BYTES];
            self.memory
                .read_slice(&mut bytes, GuestAddress(base))
                .unwrap();
            hasher.update(&bytes);
        }
        hasher.finalize()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// No panic, every bound kept, and the same calls make the same machine: state, memory, effects.
    #[test]
    fn any_guest_is_harmless_and_deterministic(calls in vec(call(), 1..80)) {
        let (mut first, mut second) = (Run::new(), Run::new());
        for call in &calls {
            first.make(call);
        }
        for call in &calls {
            second.make(call);
        }
        prop_assert_eq!(first.seen, second.seen);
        prop_assert_eq!(first.devices.clone(), second.devices.clone());
    }

    #[test]
    fn digests_agree(calls in vec(call(), 1..80)) {
        let (mut first, mut second) = (Run::new(), Run::new());
        for call in &calls {
            first.make(call);
            second.make(call);
        }
        prop_assert_eq!(first.digest(), second.digest());
    }

    /// A snapshot in the middle, through bytes, goes on as the original does.
    #[test]
    fn snapshots_go_on_alike(before in vec(call(), 1..40), after in vec(call(), 1..40)) {
        let mut original = Run::new();
        for call in &before {
            original.make(call);
        }
        let bytes = serde_json::to_vec(&original.devices.state()).unwrap();
        let restored: Devices = serde_json::from_slice(&bytes).unwrap();
        prop_assert_eq!(&restored, &original.devices);
        let mut restarted = Run::new();
        for call in &before {
            restarted.make(call);
        }
        restarted.devices = restored;
        for call in &after {
            original.make(call);
            restarted.make(call);
        }
        prop_assert_eq!(original.seen, restarted.seen);
        prop_assert_eq!(original.devices, restarted.devices);
    }
}

/// The properties above say little if no call ever reaches a ring.
#[test]
fn the_calls_reach_the_rings() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let (mut sent, mut received, mut answered, mut faults) = (0, 0, 0, 0);
    for _ in 0..400 {
        let calls = vec(call(), 80).new_tree(&mut runner).unwrap().current();
        let mut run = Run::new();
        for call in &calls {
            let before = run.devices.clone();
            run.make(call);
            sent += usize::from(
                run.seen
                    .iter()
                    .rev()
                    .take(2)
                    .any(|seen| seen.contains("SendFrame")),
            );
            let changed = run.devices != before;
            received += usize::from(changed && matches!(call, Call::Frame(_)));
            answered += usize::from(changed && matches!(call, Call::Entropy(_)));
            let status = run.status(NET_MMIO) | run.status(RNG_MMIO);
            let notified = matches!(call, Call::Notify(..) | Call::Offer { .. });
            faults += usize::from(notified && changed && status & 0x40 != 0);
        }
    }
    let reached = [sent, received, answered, faults];
    assert!(
        reached.iter().all(|count| *count >= 20),
        "sent, received, answered, faults: {reached:?}"
    );
}
