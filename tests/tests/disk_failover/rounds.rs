//! Rounds: the primary is killed at each named point of a request's way to the disk, and at random times; the backup goes on with the disk.

use std::time::Duration;

use lockstep_tests::{
    disk::{Kill, Round},
    engines::EngineKind,
    random::Random,
};
use vmm::{
    demo::DiskAccess,
    session::{disk_config::Reads, disk_fault::DiskPoint},
};

/// Kills come within so many passages of a point.
const PASSAGES: u64 = 60;
/// And within so long.
const MILLISECONDS: u64 = 250;

/// So many rounds at each named point, with different counts and windows.
fn at_each_point(engine: EngineKind, access: DiskAccess, rounds: u64) {
    let mut random = Random::of_kills();
    for point in DiskPoint::ALL {
        for _ in 0..rounds {
            let kill = Kill::At {
                point,
                count: 1 + random.below(PASSAGES),
            };
            let window = 1 + random.below(6);
            Round {
                engine,
                access,
                kill,
                window,
            }
            .play();
        }
    }
}

fn at_random_times(engine: EngineKind, access: DiskAccess, rounds: u64) {
    let mut random = Random::of_kills();
    for _ in 0..rounds {
        let kill = Kill::After(Duration::from_millis(random.below(MILLISECONDS)));
        let window = 1 + random.below(6);
        Round {
            engine,
            access,
            kill,
            window,
        }
        .play();
    }
}

const LOG: DiskAccess = DiskAccess::File { reads: Reads::Log };
const SELF: DiskAccess = DiskAccess::File {
    reads: Reads::SelfRead,
};

mod soft {
    use super::*;

    const SOFT: EngineKind = EngineKind::Soft;

    #[test]
    fn at_each_point_reading_the_log() {
        at_each_point(SOFT, LOG, 8);
    }

    #[test]
    fn at_each_point_reading_for_itself() {
        at_each_point(SOFT, SELF, 8);
    }

    #[test]
    fn at_random_times_reading_the_log() {
        at_random_times(SOFT, LOG, 10);
    }

    #[test]
    fn at_random_times_reading_for_itself() {
        at_random_times(SOFT, SELF, 10);
    }
}

mod kvm {
    use super::*;

    const KVM: EngineKind = EngineKind::Kvm;

    #[test]
    fn at_each_point_reading_the_log() {
        at_each_point(KVM, LOG, 2);
    }

    #[test]
    fn at_each_point_reading_for_itself() {
        at_each_point(KVM, SELF, 2);
    }

    #[test]
    fn at_random_times_either_way() {
        at_random_times(KVM, LOG, 2);
        at_random_times(KVM, SELF, 2);
    }
}
