//! Property tests: any guest, any memory, any inputs.

mod calls;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use virtio_bindings::virtio_mmio as register;
use vm_memory::{Bytes, GuestAddress};

use super::*;
use calls::{Answer, Call, Descriptor, call};

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

/// A guest and its devices.
struct Run {
    devices: Devices,
    memory: GuestMemory,
    now_ns: u64,
    /// Whether the fair driver has the card, the entropy device and the disks, until somebody else takes it.
    fair: [bool; 4],
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
            fair: [false; 4],
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
                self.fair = [false; 4];
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
            Call::DiskOffer(disk, requests) => self.disk_offer(*disk, requests),
            Call::DiskDone { which, answer } => self.disk_done(*which, *answer),
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
        assert!(effects.iter().all(|effect| match effect {
            Effect::Disk(request) =>
                request.operation.data_bytes() <= virtio::block::REQUEST_LIMIT_BYTES.into(),
            other => other.bytes().len() <= virtio::net::FRAME_LIMIT_BYTES,
        }));
        self.see(effects);
        self.check_disks();
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

    /// Requests are bounded, lie within their disks, do not conflict, and are found by their names.
    fn check_disks(&self) {
        let requests = self.devices.disk_requests();
        let bytes: u64 = requests.iter().map(|r| r.operation.data_bytes()).sum();
        assert!(requests.len() <= 2 * virtio::block::table::MAX_REQUESTS);
        assert!(bytes <= 2 * virtio::block::table::OUTSTANDING_LIMIT_BYTES);
        for (index, request) in requests.iter().enumerate() {
            let DiskRequest {
                disk,
                id,
                operation,
            } = request;
            assert_eq!(self.devices.disk_request(*disk, *id), Some(operation));
            assert!(operation.range().is_none_or(|range| range.end <= 256 * 512));
            assert!(*disk == 0 || operation.is_read(), "the second is read-only");
            let mut before = requests[..index].iter();
            assert!(
                before
                    .all(|other| other.disk != *disk || !other.operation.conflicts_with(operation))
            );
        }
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

    /// Each disk has a quarter of the second region: rings, headers, and data that all requests share.
    fn disk_offer(&mut self, disk: usize, requests: &[(u32, u64, u32)]) {
        let (base, place) = (disk_mmio(disk), SECOND_REGION + 0x8000 * disk as u64);
        let rings = [place, place + 0x1000, place + 0x2000];
        if self.status(base) != 15 || !self.fair[2 + disk] {
            self.fair[2 + disk] = true;
            self.memory.write_obj(0u32, GuestAddress(rings[1])).unwrap();
            self.bring_up(base, 16, [rings, rings]);
        }
        let index_at = GuestAddress(rings[1] + 2);
        let mut index: u16 = self.memory.read_obj(index_at).unwrap();
        let mut table = Vec::new();
        for (request, (kind, sector, bytes)) in (0u16..).zip(requests) {
            let (header, data) = (place + 0x3000 + 32 * u64::from(request), place + 0x4000);
            let mut words = u64::from(*kind).to_le_bytes().to_vec();
            words.extend(sector.to_le_bytes());
            self.memory
                .write_slice(&words, GuestAddress(header))
                .unwrap();
            let writes = if matches!(kind, 0 | 8) { 2 } else { 0 };
            let bytes = match kind {
                4 => 0,
                8 => 20,
                11 | 13 => 16,
                _ => *bytes,
            };
            table.push((header, 16, 1, 3 * request + 1));
            table.push((data, bytes, 1 | writes, 3 * request + 2));
            table.push((header + 16, 1, 2, 0));
            let slot = rings[1] + 4 + 2 * u64::from(index % 16);
            self.memory
                .write_obj(3 * request, GuestAddress(slot))
                .unwrap();
            index = index.wrapping_add(1);
        }
        self.write_descriptors(rings[0], &table);
        self.memory.write_obj(index, index_at).unwrap();
        self.write_register(base, register::VIRTIO_MMIO_QUEUE_NOTIFY, 0);
    }

    fn disk_done(&mut self, which: usize, answer: Answer) {
        let requests = self.devices.disk_requests();
        let (mut disk, mut id, mut bytes) = (0, u64::MAX, 512);
        if let Some(request) = requests.get(which % requests.len().max(1))
            && !matches!(answer, Answer::Unknown)
        {
            (disk, id) = (request.disk, request.id);
            bytes = request.operation.read_bytes() as usize;
        }
        let read = vec![0x3C; bytes + usize::from(matches!(answer, Answer::TooLong))];
        let answer = match answer {
            Answer::Failed => DiskAnswer::Failed,
            Answer::Unsupported => DiskAnswer::Unsupported,
            _ => DiskAnswer::Done(&read),
        };
        self.devices.disk_done(disk, id, answer, &self.memory);
        assert_eq!(self.devices.disk_request(disk, id), None);
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
    let (mut asked, mut waited, mut done) = (0, 0, 0);
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
            let under_way = |devices: &Devices| devices.disk_requests().len();
            asked += usize::from(under_way(&run.devices) > under_way(&before));
            let ended = changed && matches!(call, Call::DiskDone { .. });
            done += usize::from(ended && under_way(&run.devices) < under_way(&before));
            // One left, and another took its place.
            waited += usize::from(ended && under_way(&run.devices) >= under_way(&before));
            received += usize::from(changed && matches!(call, Call::Frame(_)));
            answered += usize::from(changed && matches!(call, Call::Entropy(_)));
            let bases = [NET_MMIO, RNG_MMIO, disk_mmio(0), disk_mmio(1)];
            let status = bases
                .map(|base| run.status(base))
                .into_iter()
                .fold(0, |all, one| all | one);
            let notified = matches!(call, Call::Notify(..) | Call::Offer { .. });
            faults += usize::from(notified && changed && status & 0x40 != 0);
        }
    }
    let reached = [sent, received, answered, faults, asked, waited, done];
    assert!(
        reached.iter().all(|count| *count >= 20),
        "sent, received, answered, faults, asked of disks, waited, done: {reached:?}"
    );
}
