//! The network between the two replicas: a TCP connection, and UDP beside it.
//!
//! TCP keeps order and content, and takes its time; a blocked direction holds its segments until it
//! heals; a cut drops what is on its way, from some segment on, and closes. UDP loses, repeats and
//! overtakes.

use std::collections::VecDeque;

use logging_channel::protocol::{Heartbeat, Message, Role};

use crate::faults::Blocked;
use crate::random::Random;
use crate::world::Micros;

pub enum Segment {
    Message(Box<Message>),
    Close,
}

#[derive(Default)]
struct Link {
    in_transit: VecDeque<Segment>,
    last_arrival: Micros,
    closed: bool,
    blocked: Option<Blocked>,
}

pub struct Network {
    /// By sender.
    links: [Link; 2],
    pub udp_blackout: bool,
    loss_percent: u64,
    repeat_percent: u64,
    spike_percent: u64,
}

pub fn index(role: Role) -> usize {
    match role {
        Role::Primary => 0,
        Role::Backup => 1,
    }
}

impl Network {
    pub fn new(random: &mut Random) -> Self {
        Self {
            links: Default::default(),
            udp_blackout: false,
            loss_percent: random.between(0, 10),
            repeat_percent: random.between(0, 10),
            spike_percent: random.between(0, 2),
        }
    }

    fn delay(&self, random: &mut Random) -> Micros {
        if random.percent(self.spike_percent) {
            return random.between(2_000, 40_000);
        }
        random.between(50, 2_000)
    }

    /// Sends on the connection. Gives the time to call [`Network::arrive`].
    pub fn send(
        &mut self,
        from: Role,
        segment: Segment,
        now: Micros,
        random: &mut Random,
    ) -> Option<Micros> {
        let delay = self.delay(random);
        let link = &mut self.links[index(from)];
        if link.closed {
            return None;
        }
        link.closed = matches!(segment, Segment::Close);
        link.in_transit.push_back(segment);
        link.last_arrival = link.last_arrival.max(now + delay);
        Some(link.last_arrival)
    }

    /// What `from` has sent and arrives now, if nothing is in its way.
    pub fn arrive(&mut self, from: Role) -> Option<Segment> {
        let link = &mut self.links[index(from)];
        if link.blocked.is_some() {
            return None;
        }
        link.in_transit.pop_front()
    }

    /// When the datagram arrives: never, once or twice.
    pub fn send_datagram(
        &self,
        from: Role,
        _heartbeat: &Heartbeat,
        now: Micros,
        random: &mut Random,
    ) -> Vec<Micros> {
        if self.udp_blackout || self.blocks_datagrams(from) || random.percent(self.loss_percent) {
            return vec![];
        }
        let copies = 1 + u64::from(random.percent(self.repeat_percent));
        let mut arrival = || {
            let late = random.percent(1);
            let extra = if late { random.between(0, 400_000) } else { 0 };
            now + extra + self.delay(random)
        };
        (0..copies).map(|_| arrival()).collect()
    }

    pub fn blocks_datagrams(&self, from: Role) -> bool {
        self.links[index(from)].blocked == Some(Blocked::Everything)
    }

    pub fn block(&mut self, from: Role, blocked: Blocked) {
        self.links[index(from)].blocked = Some(blocked);
    }

    /// Gives how many segments arrive now that were held.
    pub fn heal(&mut self, from: Role) -> usize {
        let link = &mut self.links[index(from)];
        link.blocked = None;
        link.in_transit.len()
    }

    /// The connection breaks from `from`'s side: a random tail of what is on its way is lost.
    pub fn lose_tail(&mut self, from: Role, random: &mut Random) {
        let link = &mut self.links[index(from)];
        let kept = random.between(0, link.in_transit.len() as u64);
        link.in_transit
            .truncate(usize::try_from(kept).expect("small"));
    }

    /// Nothing sent from now on gets onto the connection.
    pub fn seal(&mut self, from: Role) {
        self.links[index(from)].closed = true;
    }
}
