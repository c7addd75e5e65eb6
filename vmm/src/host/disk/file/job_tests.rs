//! Jobs on a file in memory that does as it likes: short transfers, interruptions, no zeroes of its own.

use proptest::prelude::*;

use super::*;

const SECTOR: usize = SECTOR_BYTES as usize;
const IMAGE_SECTORS: usize = 40;

/// What the file does with one step.
#[derive(Clone, Copy, Debug)]
enum Whim {
    Whole,
    /// Of a transfer, this many bytes at most.
    Short(usize),
    Interrupted,
    Again,
}

fn whims() -> impl Strategy<Value = Vec<Whim>> {
    let whim = prop_oneof![
        3 => Just(Whim::Whole),
        3 => (1..5000usize).prop_map(Whim::Short),
        1 => Just(Whim::Interrupted),
        1 => Just(Whim::Again),
    ];
    proptest::collection::vec(whim, 0..20)
}

fn shape(direct: bool) -> Shape {
    Shape {
        bytes: (IMAGE_SECTORS * SECTOR) as u64,
        direct,
        memory_alignment: 16,
    }
}

fn job(operation: DiskOperation, shape: Shape) -> Job {
    let request = DiskRequest {
        disk: 0,
        id: 5,
        operation,
    };
    Job::new(request, shape)
}

/// Which of fallocate's modes the file knows.
#[derive(Clone, Copy, Debug)]
struct Zeroes {
    punch: bool,
    zero: bool,
}

fn perform(
    step: Step,
    image: &mut [u8],
    whim: Whim,
    zeroes: Zeroes,
    direct: bool,
) -> Result<usize, Errno> {
    let most = match whim {
        Whim::Whole => usize::MAX,
        Whim::Short(bytes) => bytes,
        Whim::Interrupted => return Err(Errno::INTR),
        Whim::Again => return Err(Errno::AGAIN),
    };
    let aligned = |at: u64, bytes: usize| {
        !direct || (at.is_multiple_of(SECTOR_BYTES) && bytes.is_multiple_of(SECTOR))
    };
    match step {
        Step::Read { at, into } => {
            assert!(aligned(at, into.len()));
            let there = &image[(at as usize).min(image.len())..];
            let count = into.len().min(most).min(there.len());
            into[..count].copy_from_slice(&there[..count]);
            Ok(count)
        }
        Step::Write { at, from } => {
            assert!(aligned(at, from.len()));
            let count = from.len().min(most);
            image[at as usize..][..count].copy_from_slice(&from[..count]);
            Ok(count)
        }
        Step::Sync => Ok(0),
        Step::Allocate { mode, at, bytes } => {
            assert!(mode.contains(FallocateFlags::KEEP_SIZE));
            let known = match mode.contains(FallocateFlags::PUNCH_HOLE) {
                true => zeroes.punch,
                false => zeroes.zero,
            };
            if !known {
                return Err(Errno::OPNOTSUPP);
            }
            image[at as usize..][..bytes as usize].fill(0);
            Ok(0)
        }
    }
}

fn operations() -> impl Strategy<Value = DiskOperation> {
    let range = (0..IMAGE_SECTORS as u64)
        .prop_flat_map(|sector| (Just(sector), 0..=(IMAGE_SECTORS as u64 - sector)));
    (range, 0..5u8, any::<u8>()).prop_map(|((sector, sectors), kind, fill)| {
        let bytes = sectors as usize * SECTOR;
        let sectors = sectors as u32;
        match kind {
            0 => DiskOperation::Read {
                sector,
                bytes: bytes as u32,
            },
            1 => DiskOperation::Write {
                sector,
                data: (0..bytes).map(|index| fill ^ (index % 251) as u8).collect(),
            },
            2 => DiskOperation::Discard { sector, sectors },
            _ => DiskOperation::WriteZeroes {
                sector,
                sectors,
                unmap: kind == 3,
            },
        }
    })
}

proptest! {
    #[test]
    fn jobs_end_rightly_whatever_the_file_makes_of_their_steps(
        operation in operations(),
        whims in whims(),
        direct: bool,
        punch: bool,
        zero: bool,
    ) {
        let mut image: Vec<u8> = (0..IMAGE_SECTORS * SECTOR).map(|index| (index % 253) as u8).collect();
        let mut expected = image.clone();
        let range = operation.range().unwrap();
        let range = range.start as usize..range.end as usize;
        let mut answer = Vec::new();
        match &operation {
            DiskOperation::Read { .. } => answer = expected[range].to_vec(),
            DiskOperation::Write { data, .. } => expected[range].copy_from_slice(data),
            _ => expected[range].fill(0),
        }
        let mut job = job(operation, shape(direct));
        let mut whims = whims.into_iter();
        while let Some(step) = job.next() {
            // A direct transfer that moves less than a sector would be the file's end.
            let whim = match whims.next().unwrap_or(Whim::Whole) {
                Whim::Short(bytes) if direct && bytes < SECTOR => Whim::Short(bytes + SECTOR),
                whim => whim,
            };
            let result = perform(step, &mut image, whim, Zeroes { punch, zero }, direct);
            job.ended(result);
        }
        prop_assert_eq!(job.outcome(), Ok(answer));
        prop_assert_eq!(image, expected);
    }
}

#[test]
fn the_end_of_the_file_is_an_image_that_is_too_short() {
    for direct in [false, true] {
        let mut image = vec![1; 3 * SECTOR + 100];
        let read = DiskOperation::Read {
            sector: 1,
            bytes: 4 * SECTOR as u32,
        };
        let mut job = job(read, shape(direct));
        let both = Zeroes {
            punch: true,
            zero: true,
        };
        while let Some(step) = job.next() {
            let result = perform(step, &mut image, Whim::Whole, both, direct);
            job.ended(result);
        }
        assert_eq!(job.describe(), "a read of 2048 bytes at byte 512");
        assert_eq!(
            job.outcome(),
            Err("the image is shorter than 20480 bytes".into())
        );
    }
}

#[test]
fn a_full_disk_is_called_so_also_where_zeroes_were_to_be_made() {
    for operation in [
        DiskOperation::Write {
            sector: 0,
            data: vec![0; SECTOR].into(),
        },
        DiskOperation::WriteZeroes {
            sector: 0,
            sectors: 1,
            unmap: true,
        },
    ] {
        let mut job = job(operation, shape(false));
        while job.next().is_some() {
            job.ended(Err(Errno::NOSPC));
        }
        assert_eq!(
            job.outcome(),
            Err("no space left on the host's disk".into())
        );
    }
}

#[test]
fn a_system_that_never_does_anything_is_given_up() {
    for result in [Err(Errno::AGAIN), Err(Errno::INTR), Ok(0)] {
        let write = DiskOperation::Write {
            sector: 0,
            data: vec![0; SECTOR].into(),
        };
        let mut job = job(write, shape(false));
        let mut steps = 0;
        while job.next().is_some() {
            job.ended(result);
            steps += 1;
        }
        assert!(job.outcome().is_err());
        assert_eq!(steps, STALLS + 1);
    }
}

#[test]
fn what_lies_beyond_the_disk_or_is_no_sector_is_refused() {
    let beyond = DiskOperation::Discard {
        sector: IMAGE_SECTORS as u64 - 1,
        sectors: 2,
    };
    let odd = DiskOperation::Read {
        sector: 0,
        bytes: 100,
    };
    for operation in [beyond, odd] {
        let mut job = job(operation, shape(false));
        assert!(job.next().is_none());
        assert_eq!(
            job.outcome(),
            Err("these are no sectors of a disk of 20480 bytes".into())
        );
    }
}

#[test]
fn a_flush_is_one_step() {
    let mut job = job(DiskOperation::Flush, shape(true));
    assert!(matches!(job.next(), Some(Step::Sync)));
    job.ended(Ok(0));
    assert!(job.next().is_none());
    assert_eq!(job.describe(), "a flush");
    assert_eq!(job.outcome(), Ok(Vec::new()));
}
