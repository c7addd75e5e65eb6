//! What both replicas' processes have in common: life and death, sockets, a clock.

use std::collections::VecDeque;
use std::time::Duration;

use logging_channel::protocol::{ClaimAnswer, Heartbeat};

use crate::network::Segment;
use crate::random::Random;
use crate::storage::ReplicaStep;
use crate::world::Micros;

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    Running,
    /// SIGSTOP. Its sockets still fill.
    Stopped {
        since: Micros,
    },
    /// Killed, or exited by itself.
    Dead,
}

pub struct Process {
    pub condition: Condition,
    pub connection: VecDeque<Segment>,
    pub datagrams: VecDeque<Heartbeat>,
    pub answers: VecDeque<ClaimAnswer>,
    /// What it will do with the disk when it wakes.
    pub deferred: Vec<ReplicaStep>,
    /// A timer was set for then.
    pub timer: Option<Micros>,
    /// The origin of its clock is its own.
    clock_offset: Micros,
    /// How far its clock is behind: for a bug to be found, the time it was stopped.
    pub clock_lost: Micros,
}

/// A socket's receive buffer for datagrams.
const DATAGRAM_BUFFER: usize = 64;

/// Which input of a running process is taken next.
pub enum Input {
    Segment(Segment),
    Heartbeat(Heartbeat),
    Answer(ClaimAnswer),
}

impl Process {
    pub fn new(random: &mut Random) -> Self {
        Self {
            condition: Condition::Running,
            connection: VecDeque::new(),
            datagrams: VecDeque::new(),
            answers: VecDeque::new(),
            deferred: Vec::new(),
            timer: None,
            clock_offset: random.between(0, 1_000_000_000),
            clock_lost: 0,
        }
    }

    pub fn is_running(&self) -> bool {
        self.condition == Condition::Running
    }

    pub fn is_dead(&self) -> bool {
        self.condition == Condition::Dead
    }

    pub fn clock(&self, now: Micros) -> Duration {
        Duration::from_micros(now + self.clock_offset - self.clock_lost)
    }

    /// The time at which its clock shows `clock`.
    pub fn when(&self, clock: Duration) -> Micros {
        let micros = u64::try_from(clock.as_nanos().div_ceil(1000)).expect("small");
        (micros + self.clock_lost).saturating_sub(self.clock_offset)
    }

    pub fn take_datagram(&mut self, heartbeat: Heartbeat) {
        if self.datagrams.len() < DATAGRAM_BUFFER {
            self.datagrams.push_back(heartbeat);
        }
    }

    /// One of the inputs that wait; which socket is looked at first is chance.
    pub fn next_input(&mut self, reads_connection: bool, random: &mut Random) -> Option<Input> {
        let first = random.between(0, 2);
        for turn in 0..3 {
            let input = match (first + turn) % 3 {
                0 if reads_connection => self.connection.pop_front().map(Input::Segment),
                1 => self.datagrams.pop_front().map(Input::Heartbeat),
                2 => self.answers.pop_front().map(Input::Answer),
                _ => None,
            };
            if input.is_some() {
                return input;
            }
        }
        None
    }
}
