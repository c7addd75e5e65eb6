//! The disk that the replicas share: blocks behind a server, which is the arbiter too, or a plain file.
//!
//! In: requests, by connection. Out: when they end. A request takes its time, several are under way at once and end in any order. Always, on the server:
//! - what is under way on a connection that was bound to an older term ends before a claim is answered as won, and nothing of it starts any more;
//! - likewise for a connection that its replica has replaced by another.
//!
//! A plain file knows neither: what was asked for is done, whoever runs the guest by then.

use std::collections::BTreeMap;

use logging_channel::protocol::Role;

use crate::network::index;
use crate::random::Random;
use crate::table::{BLOCKS, Block, Operation, Request};
use crate::world::Micros;

/// A connection.
#[derive(Clone, Copy, Debug)]
pub struct Link {
    pub role: Role,
    /// A replica's next connection has the next number.
    pub number: u64,
    /// Without one, only reads.
    pub term: Option<u64>,
}

pub struct UnderWay {
    pub link: Link,
    pub request: Request,
    ends_at: Micros,
}

pub struct Disk {
    pub blocks: [Block; BLOCKS],
    /// It is a server, no plain file.
    pub fenced: bool,
    under_way: BTreeMap<u64, UnderWay>,
    started: u64,
    slow_percent: u64,
    /// By replica: its connections below this one are closed.
    oldest: [u64; 2],
}

impl Disk {
    pub fn new(fenced: bool, random: &mut Random) -> Self {
        Self {
            blocks: [0; BLOCKS],
            fenced,
            under_way: BTreeMap::new(),
            started: 0,
            slow_percent: random.between(0, 20),
            oldest: [0; 2],
        }
    }

    pub fn is_closed(&self, link: Link) -> bool {
        link.number < self.oldest[index(link.role)]
    }

    /// Nothing that comes on an earlier connection of this replica starts any more.
    pub fn close_earlier(&mut self, link: Link) {
        let oldest = &mut self.oldest[index(link.role)];
        *oldest = link.number.max(*oldest);
    }

    /// Starts it. Gives its ticket and when it ends.
    pub fn start(
        &mut self,
        link: Link,
        request: Request,
        now: Micros,
        random: &mut Random,
    ) -> (u64, Micros) {
        let slow = random.percent(self.slow_percent);
        let most = if slow { 100_000 } else { 6_000 };
        let ends_at = now + random.between(50, most);
        self.started += 1;
        let under_way = UnderWay {
            link,
            request,
            ends_at,
        };
        self.under_way.insert(self.started, under_way);
        (self.started, ends_at)
    }

    /// What ends now, unless it has ended before.
    pub fn end(&mut self, ticket: u64) -> Option<UnderWay> {
        self.under_way.remove(&ticket)
    }

    pub fn read(&self, operation: &Operation) -> Vec<Block> {
        match operation {
            Operation::Read { range } => self.blocks[range.clone()].to_vec(),
            Operation::Write { .. } | Operation::Flush => vec![],
        }
    }

    pub fn write(&mut self, operation: &Operation) {
        if let Operation::Write { first, blocks } = operation {
            self.blocks[*first..first + blocks.len()].copy_from_slice(blocks);
        }
    }

    /// When the last of those has ended that began in a term before `term`.
    pub fn drained_below(&self, term: u64) -> Option<Micros> {
        self.last_end(|link| link.term.is_some_and(|bound| bound < term))
    }

    /// When the last of those has ended that came on an earlier connection of the same replica.
    pub fn drained_before(&self, link: Link) -> Option<Micros> {
        self.last_end(|other| other.role == link.role && other.number < link.number)
    }

    fn last_end(&self, of: impl Fn(Link) -> bool) -> Option<Micros> {
        let those = self.under_way.values().filter(|one| of(one.link));
        those.map(|one| one.ends_at).max()
    }

    /// The server is killed: of what is under way, chance decides what was done. No answer is given.
    pub fn kill(&mut self, random: &mut Random) -> Vec<UnderWay> {
        let under_way = std::mem::take(&mut self.under_way);
        let mut landed: Vec<UnderWay> = under_way.into_values().collect();
        landed.retain_mut(|one| {
            // Half of a write may have been done.
            if let Operation::Write { blocks, .. } = &mut one.request.operation {
                let kept = random.between(0, blocks.len() as u64);
                blocks.truncate(usize::try_from(kept).expect("small"));
            }
            random.percent(50)
        });
        landed
    }
}
