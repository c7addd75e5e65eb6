//! A disk does what a vector of bytes does.

use proptest::prelude::*;

use super::*;

pub(super) const SECTORS: usize = 300;

pub(super) fn operations() -> impl Strategy<Value = Vec<DiskOperation>> {
    let operation =
        (0..7u8, 0..SECTORS, 1..=48usize, any::<u8>()).prop_map(|(kind, sector, sectors, fill)| {
            let sectors = sectors.min(SECTORS - sector);
            let bytes = sectors * SECTOR;
            let sector = sector as u64;
            match kind {
                0 => DiskOperation::Flush,
                1 | 2 => read(sector, sectors),
                3 | 4 => DiskOperation::Write {
                    sector,
                    data: (0..bytes).map(|index| fill ^ (index % 251) as u8).collect(),
                },
                5 => DiskOperation::Discard {
                    sector,
                    sectors: sectors as u32,
                },
                _ => DiskOperation::WriteZeroes {
                    sector,
                    sectors: sectors as u32,
                    unmap: fill & 1 == 1,
                },
            }
        });
    proptest::collection::vec(operation, 1..60)
}

/// Does it to the model and returns the answer.
fn apply(model: &mut [u8], operation: &DiskOperation) -> Vec<u8> {
    let range = operation.range().unwrap_or(0..0);
    let range = range.start as usize..range.end as usize;
    match operation {
        DiskOperation::Read { .. } => return model[range].to_vec(),
        DiskOperation::Write { data, .. } => model[range].copy_from_slice(data),
        _ => model[range].fill(0),
    }
    Vec::new()
}

/// On a granted disk of zeroes.
pub(super) fn check(rig: &Rig, operations: &[DiskOperation]) {
    let access = rig.disk.access();
    let mut model = vec![0; SECTORS * SECTOR];
    let mut under_way: Vec<&DiskOperation> = Vec::new();
    let mut expected = BTreeMap::new();
    let mut answers = BTreeMap::new();
    for (id, operation) in (0..).zip(operations) {
        if under_way.iter().any(|one| one.conflicts_with(operation)) {
            answers.append(&mut rig.answers());
            under_way.clear();
        }
        expected.insert(id, Ok(apply(&mut model, operation)));
        under_way.push(operation);
        rig.submit(id, operation.clone());
    }
    answers.append(&mut rig.answers());
    assert!(answers == expected, "{access:?}: answers differ");
    let image = std::fs::read(&rig.path).unwrap();
    assert!(image[..model.len()] == model, "{access:?}: images differ");
    assert_eq!(rig.events(), Vec::<String>::new());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn every_way_does_what_a_vector_does(operations in operations()) {
        for way in ways() {
            let rig = Rig::new(SECTORS, way);
            rig.disk.grant(alone()).unwrap();
            check(&rig, &operations);
        }
    }
}

/// What the disk says of itself is what the file system allows, asked for in another way.
#[test]
fn o_direct_is_used_where_it_is_allowed() {
    use std::os::unix::fs::OpenOptionsExt;
    for way in ways() {
        let rig = Rig::new(8, way);
        let access = rig.disk.access();
        assert_eq!(access.backend, way.0);
        let allowed = std::fs::OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_DIRECT)
            .open(&rig.path)
            .is_ok();
        eprintln!("{way:?} on {:?}: {access:?}", rig.path);
        assert!(allowed || !access.direct);
        assert!(way.1 == Direct::Auto || !access.direct);
    }
}

/// As containers' seccomp filters do it.
#[test]
fn the_threads_take_over_where_the_kernel_refuses_the_ring() {
    let refused = || {
        refuse_rings();
        let rig = Rig::new(8, (Backend::Auto, Direct::Auto));
        assert_eq!(rig.disk.access().backend, Backend::Threads);
        assert_eq!(rig.ask(read(0, 8)), Ok(vec![0; 8 * SECTOR]));
        let options = FileOptions {
            backend: Backend::Ring,
            ..rig.options
        };
        let sink = Arc::<Collector>::default();
        let error = FileDisk::open(0, &rig.path, options, sink).err().unwrap();
        assert!(error.to_string().contains("refuses io_uring"), "{error}");
    };
    std::thread::spawn(refused).join().unwrap();
}

/// From now on io_uring_setup(2) fails with EPERM in this thread and those that it starts.
fn refuse_rings() {
    // linux/filter.h, linux/seccomp.h: load the system call's number; if it is the one, fail, else allow.
    let step = |code: u32, jf, k| libc::sock_filter {
        code: code as u16,
        jt: 0,
        jf,
        k,
    };
    let number = libc::SYS_io_uring_setup as u32;
    let mut steps = [
        step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0),
        step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 1, number),
        step(
            libc::BPF_RET,
            0,
            libc::SECCOMP_RET_ERRNO | libc::EPERM as u32,
        ),
        step(libc::BPF_RET, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog {
        len: steps.len() as u16,
        filter: steps.as_mut_ptr(),
    };
    // SAFETY: the calls take numbers, and a program of four steps, which is copied before the second returns.
    let results = unsafe {
        [
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0),
            libc::prctl(
                libc::PR_SET_SECCOMP,
                libc::SECCOMP_MODE_FILTER,
                std::ptr::from_ref(&program),
            ),
        ]
    };
    assert_eq!(results, [0, 0]);
}

#[test]
fn many_threads_submit_and_each_request_ends_once() {
    for way in ways() {
        let rig = Rig::new(8 * 16, way);
        rig.disk.grant(alone()).unwrap();
        std::thread::scope(|scope| {
            for thread in 0..8u64 {
                let rig = &rig;
                scope.spawn(move || {
                    for round in 0..200 {
                        let operation = match round {
                            0..16 => write(thread * 16 + round, thread as u8 + 1, 1),
                            _ => read((thread * 61 + round * 37) % 128, 1),
                        };
                        rig.submit(thread * 1000 + round, operation);
                    }
                });
            }
        });
        let answers = rig.answers();
        assert_eq!(answers.len(), 1600);
        assert!(answers.values().all(Result::is_ok));
        let image = std::fs::read(&rig.path).unwrap();
        for (thread, part) in (1..).zip(image.chunks(16 * SECTOR)) {
            assert!(part.iter().all(|byte| *byte == thread), "{thread}");
        }
    }
}

#[test]
fn what_was_written_is_seen_by_a_read_that_follows() {
    for way in ways() {
        let rig = Rig::new(16_384, way);
        rig.disk.grant(alone()).unwrap();
        // More than is written at once where zeroes have to be made.
        assert_eq!(rig.ask(write(0, 9, 16_384)), Ok(Vec::new()));
        let zeroes = DiskOperation::WriteZeroes {
            sector: 1,
            sectors: 5001,
            unmap: false,
        };
        assert_eq!(rig.ask(zeroes), Ok(Vec::new()));
        let discard = DiskOperation::Discard {
            sector: 8003,
            sectors: 4001,
        };
        assert_eq!(rig.ask(discard), Ok(Vec::new()));
        let mut expected = vec![9; 16_384 * SECTOR];
        expected[SECTOR..5002 * SECTOR].fill(0);
        expected[8003 * SECTOR..12_004 * SECTOR].fill(0);
        assert!(rig.ask(read(0, 16_384)) == Ok(expected));
        assert_eq!(rig.ask(DiskOperation::Flush), Ok(Vec::new()));
    }
}
