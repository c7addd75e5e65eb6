//! Rounds: the primary is killed at each named point of a request's way to the disk, and either replica at random times; the other one goes on with the disk.

use std::time::Duration;

use lockstep_tests::{
    disk::{self, Kill, Round},
    engines::EngineKind,
};
use vmm::{
    demo::{DiskAccess, Member},
    session::{disk_config::Reads, disk_fault::DiskPoint},
};

/// Kills come within so many passages of a point.
const PASSAGES: u64 = 60;
/// And within so long.
const MILLISECONDS: u64 = 250;

/// So many rounds at each named point, with different counts and windows.
fn at_each_point(engine: EngineKind, access: DiskAccess, rounds: u64) {
    let mut random = disk::kills();
    for point in DiskPoint::ALL {
        for _ in 0..rounds {
            let kill = Kill::At {
                point,
                count: random.up_to(PASSAGES),
            };
            let window = random.up_to(6);
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

/// So many rounds for each victim.
fn at_random_times(engine: EngineKind, access: DiskAccess, rounds: u64) {
    let mut random = disk::kills();
    let victims = [Member::Primary, Member::Backup].repeat(rounds as usize);
    for victim in victims {
        let time = Duration::from_millis(random.up_to(MILLISECONDS));
        let kill = Kill::After { victim, time };
        let window = random.up_to(6);
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

const SERVER: DiskAccess = DiskAccess::Server { reads: Reads::Log };
const SERVER_SELF: DiskAccess = DiskAccess::Server {
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

mod soft_on_a_disk_server {
    use super::*;

    const SOFT: EngineKind = EngineKind::Soft;

    #[test]
    fn at_each_point_reading_the_log() {
        at_each_point(SOFT, SERVER, 4);
    }

    #[test]
    fn at_each_point_reading_for_itself() {
        at_each_point(SOFT, SERVER_SELF, 4);
    }

    #[test]
    fn at_random_times_either_way() {
        at_random_times(SOFT, SERVER, 5);
        at_random_times(SOFT, SERVER_SELF, 5);
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
        for access in [LOG, SELF, SERVER, SERVER_SELF] {
            at_random_times(KVM, access, 2);
        }
    }
}
