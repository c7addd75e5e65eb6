//! What goes wrong in a run, drawn from its seed.

use logging_channel::protocol::Role;

use crate::bug::Bug;
use crate::checker::Checked;
use crate::primary::Mode;
use crate::process::Condition;
use crate::random::Random;
use crate::storage::Step;
use crate::world::{Happening, Micros, World};

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
    /// The replica's connection to the disk breaks, again and again.
    CutDisk(Role),
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
    match random.between(0, 14) {
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
                primary: (both || primary).then(&mut blocked),
                backup: (both || !primary).then(blocked),
            }
        }
        9 => Fault::Isolate(role),
        10 => Fault::ArbiterDown,
        11 => Fault::ArbiterFar(role),
        12 | 13 => Fault::CutDisk(role),
        _ if random.percent(50) => Fault::DatagramBlackout,
        _ => Fault::SlowReplay,
    }
}

impl World {
    pub fn begin_fault(&mut self, index: usize) -> Checked {
        let fault = self.faults[index].fault.clone();
        self.trace(|| format!("FAULT {fault:?}"));
        if index == 0 {
            self.formed_before_faults =
                self.primary.mode != Mode::Greeting && self.backup.mode != Mode::Greeting;
        }
        match fault {
            Fault::KillProcess(role) => {
                if !self.process(role).is_dead() {
                    self.exit(role);
                }
            }
            Fault::KillHost(role) => {
                self.network.lose_tail(role, &mut self.random);
                self.network.seal(role);
                self.process(role).condition = Condition::Dead;
            }
            Fault::Stop(role) => {
                let since = self.now;
                if self.process(role).is_running() {
                    self.process(role).condition = Condition::Stopped { since };
                }
            }
            Fault::CutConnection {
                at_primary,
                at_backup,
            } => self.cut(at_primary, at_backup),
            Fault::Partition { primary, backup } => {
                for (role, blocked) in [(Role::Primary, primary), (Role::Backup, backup)] {
                    if let Some(blocked) = blocked {
                        self.network.block(role, blocked);
                    }
                }
            }
            Fault::Isolate(role) => {
                self.network.block(Role::Primary, Blocked::Everything);
                self.network.block(Role::Backup, Blocked::Everything);
                self.arbiter_far[usize::from(role == Role::Backup)] = true;
            }
            Fault::ArbiterDown => {
                self.arbiter_down = true;
                self.kill_storage()?;
            }
            Fault::CutDisk(role) => self.flap_storage(role, true),
            Fault::ArbiterFar(role) => {
                self.arbiter_far[usize::from(role == Role::Backup)] = true;
            }
            Fault::DatagramBlackout => self.network.udp_blackout = true,
            Fault::SlowReplay => self.slow_replay = true,
        }
        Ok(())
    }

    fn cut(&mut self, at_primary: bool, at_backup: bool) {
        self.checker.network_cut = true;
        for role in [Role::Primary, Role::Backup] {
            self.network.lose_tail(role, &mut self.random);
        }
        // Who hears of it gets the end of what the other has sent.
        if at_primary {
            self.close(Role::Backup);
        }
        if at_backup {
            self.close(Role::Primary);
        }
        self.network.seal(Role::Primary);
        self.network.seal(Role::Backup);
    }

    pub fn end_fault(&mut self, index: usize) -> Checked {
        let fault = self.faults[index].fault.clone();
        self.trace(|| format!("over: {fault:?}"));
        match fault {
            Fault::Stop(role) => self.resume(role)?,
            Fault::Partition { .. } => self.heal(),
            Fault::Isolate(role) => {
                self.heal();
                self.arbiter_far[usize::from(role == Role::Backup)] = false;
            }
            Fault::ArbiterDown => self.arbiter_down = false,
            Fault::CutDisk(role) => self.flap_storage(role, false),
            Fault::ArbiterFar(role) => {
                self.arbiter_far[usize::from(role == Role::Backup)] = false;
            }
            Fault::DatagramBlackout => self.network.udp_blackout = false,
            Fault::SlowReplay => self.slow_replay = false,
            Fault::KillProcess(_) | Fault::KillHost(_) | Fault::CutConnection { .. } => {}
        }
        Ok(())
    }

    fn resume(&mut self, role: Role) -> Checked {
        let (now, bug) = (self.now, self.bug);
        let process = self.process(role);
        let Condition::Stopped { since } = process.condition else {
            return Ok(());
        };
        process.condition = Condition::Running;
        if bug == Some(Bug::ClockStopsWithProcess) && role == Role::Primary {
            process.clock_lost += now - since;
        }
        for step in std::mem::take(&mut process.deferred) {
            let at = now + self.random.between(0, 2_000);
            self.schedule(at, Happening::Disk(Step::AtReplica(role, step)));
        }
        // Its timers, its threads and its sockets all wait; which comes first is chance.
        if self.random.percent(50) {
            self.tick(role)?;
        }
        self.pump(role)
    }

    fn heal(&mut self) {
        for from in [Role::Primary, Role::Backup] {
            for _ in 0..self.network.heal(from) {
                let at = self.now + self.random.between(50, 5_000);
                self.schedule(at, Happening::Arrival { from });
            }
        }
    }
}
