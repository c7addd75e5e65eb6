//! What goes wrong in a run, drawn from its seed.

use logging_channel::protocol::Role;

use crate::random::Random;
use crate::world::Micros;

/// What does not pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blocked {
    Everything,
    /// Only the connection stalls; datagrams pass.
    Connection,
}

#[derive(Clone, Debug)]
pub enum Fault {
    /// SIGKILL: the system closes its sockets after what they hold.
    KillProcess(Role),
    /// The host dies: no end of the connection ever arrives, what is on its way may be lost.
    KillHost(Role),
    /// SIGSTOP, then SIGCONT.
    Stop(Role),
    /// The connection loses its tail and closes, at both ends or at one.
    CutConnection { at_primary: bool, at_backup: bool },
    /// What these senders send does not pass until it is over.
    Partition {
        primary: Option<Blocked>,
        backup: Option<Blocked>,
    },
    /// The replica reaches neither its peer nor the arbiter.
    Isolate(Role),
    /// The arbiter is killed and started again.
    ArbiterDown,
    /// One replica does not reach the arbiter, or does, but the answer does not come back.
    ArbiterFar(Role),
    /// No datagram passes.
    DatagramBlackout,
    /// Replay takes its time.
    SlowReplay,
}

#[derive(Clone, Debug)]
pub struct Plan {
    pub at: Micros,
    pub until: Micros,
    pub fault: Fault,
}

/// Faults begin in this span, when the pair is formed in most runs.
const BEGIN: (Micros, Micros) = (20_000, 900_000);
/// Passing ones last this long.
const LENGTH: (Micros, Micros) = (1_000, 600_000);

/// None in one run of ten, one in half of them, else two to four.
pub fn plan(random: &mut Random) -> Vec<Plan> {
    let count = match random.between(0, 9) {
        0 => 0,
        1..=5 => 1,
        6 | 7 => 2,
        8 => 3,
        _ => 4,
    };
    (0..count).map(|_| plan_one(random)).collect()
}

fn plan_one(random: &mut Random) -> Plan {
    let at = random.between(BEGIN.0, BEGIN.1);
    Plan {
        at,
        until: at + random.between(LENGTH.0, LENGTH.1),
        fault: fault(random),
    }
}

fn fault(random: &mut Random) -> Fault {
    let role = if random.percent(65) {
        Role::Primary
    } else {
        Role::Backup
    };
    match random.between(0, 12) {
        0 | 1 => Fault::KillProcess(role),
        2 => Fault::KillHost(role),
        3 | 4 => Fault::Stop(role),
        5 | 6 => {
            let both = random.percent(60);
            let at_primary = random.percent(50);
            Fault::CutConnection {
                at_primary: both || at_primary,
                at_backup: both || !at_primary,
            }
        }
        7 | 8 => {
            let both = random.percent(50);
            let primary = random.percent(50);
            let mut blocked = || {
                let connection = random.percent(40);
                if connection {
                    Blocked::Connection
                } else {
                    Blocked::Everything
                }
            };
            Fault::Partition {
                primary: (both || primary).then(|| blocked()),
                backup: (both || !primary).then(|| blocked()),
            }
        }
        9 => Fault::Isolate(role),
        10 => Fault::ArbiterDown,
        11 => Fault::ArbiterFar(role),
        _ if random.percent(50) => Fault::DatagramBlackout,
        _ => Fault::SlowReplay,
    }
}
