//! The way from a replica to the disk and back.
//!
//! ```text
//!  submit ─→ Sends ─────────→ Arrives ────→ Ends ─────→ Answered
//!            the process      the socket,   the disk    the process
//!            runs             the network               runs
//! ```
//!
//! A process that is stopped sends when it wakes. What it has sent arrives even if it is killed. A connection that breaks is replaced, and what was not answered is
//! sent again: no two requests under way conflict, so doing one twice does no harm.

use std::collections::BTreeMap;

use logging_channel::protocol::Role;

use crate::bug::Bug;
use crate::checker::Checked;
use crate::disk::Link;
use crate::network::index;
use crate::process::Condition;
use crate::table::{Block, Request};
use crate::world::{Happening, Micros, TERM, World};

/// What happens to a request on its way.
#[derive(Clone)]
pub enum Step {
    /// In a replica's process, when it runs.
    AtReplica(Role, ReplicaStep),
    AtDisk(DiskStep),
}

#[derive(Clone)]
pub enum ReplicaStep {
    /// On the connection of this number.
    Sends {
        number: u64,
        id: u64,
    },
    /// On the connection of this number; with what was read, unless it failed.
    Answered {
        number: u64,
        id: u64,
        read: Option<Vec<Block>>,
    },
    Reconnects,
}

#[derive(Clone)]
pub enum DiskStep {
    Arrives(Link, Request),
    /// By its ticket.
    Ends(u64),
}

/// A replica's end of the connection.
pub struct Client {
    link: Link,
    /// The connection breaks again and again.
    flaps: bool,
    pub unanswered: BTreeMap<u64, Request>,
}

impl Client {
    pub fn new(role: Role, term: Option<u64>) -> Self {
        let number = 0;
        let link = Link { role, number, term };
        Self {
            link,
            flaps: false,
            unanswered: BTreeMap::new(),
        }
    }
}

impl World {
    fn client(&mut self, role: Role) -> &mut Client {
        &mut self.clients[index(role)]
    }

    fn replica_step(&mut self, least: Micros, most: Micros, role: Role, step: ReplicaStep) {
        let at = self.now + self.random.between(least, most);
        self.schedule(at, Happening::Disk(Step::AtReplica(role, step)));
    }

    fn disk_step(&mut self, at: Micros, step: DiskStep) {
        self.schedule(at, Happening::Disk(Step::AtDisk(step)));
    }

    fn send_soon(&mut self, role: Role, number: u64, id: u64) {
        let step = ReplicaStep::Sends { number, id };
        self.replica_step(0, self.submit_delay, role, step);
    }

    /// A replica wants a request performed.
    pub fn submit(&mut self, role: Role, request: Request) {
        self.trace(|| format!("{role} submits {request:?}"));
        let id = request.id;
        let client = self.client(role);
        let number = client.link.number;
        client.unanswered.insert(id, request);
        self.send_soon(role, number, id);
    }

    /// From now on the replica may write.
    pub fn grant(&mut self, role: Role, term: u64) {
        self.client(role).link.term = Some(term);
        if self.disk.fenced {
            self.connect(role);
        }
    }

    /// A new connection, on which everything without an answer is sent again.
    fn connect(&mut self, role: Role) {
        let client = self.client(role);
        client.link.number += 1;
        let number = client.link.number;
        let ids: Vec<u64> = client.unanswered.keys().copied().collect();
        for id in ids {
            self.send_soon(role, number, id);
        }
    }

    /// The connection breaks at the replica's end; the server may not know it yet.
    pub fn break_storage(&mut self, role: Role) {
        if self.disk.fenced {
            self.replica_step(100, 3_000, role, ReplicaStep::Reconnects);
        }
    }

    pub fn flap_storage(&mut self, role: Role, flaps: bool) {
        self.client(role).flaps = flaps;
        if flaps {
            self.break_storage(role);
        }
    }

    pub fn kill_storage(&mut self) -> Checked {
        if !self.disk.fenced {
            return Ok(());
        }
        for one in self.disk.kill(&mut self.random) {
            self.land(one.link, &one.request)?;
        }
        for role in [Role::Primary, Role::Backup] {
            let mut next = self.client(role).link;
            next.number += 1;
            self.disk.close_earlier(next);
            self.break_storage(role);
        }
        Ok(())
    }

    pub fn storage_step(&mut self, step: Step) -> Checked {
        match step {
            Step::AtDisk(DiskStep::Arrives(link, request)) => self.arrive(link, request),
            Step::AtDisk(DiskStep::Ends(ticket)) => self.end(ticket),
            Step::AtReplica(role, step) => {
                let process = self.process(role);
                match process.condition {
                    Condition::Running => self.at_replica(role, step),
                    Condition::Stopped { .. } => process.deferred.push(step),
                    Condition::Dead => {}
                }
                Ok(())
            }
        }
    }

    fn at_replica(&mut self, role: Role, step: ReplicaStep) {
        match step {
            ReplicaStep::Sends { number, id } => self.send_request(role, number, id),
            _ if self.storage_is_away(role) => self.replica_step(5_000, 20_000, role, step),
            ReplicaStep::Answered { number, id, read } => self.take_answer(role, number, id, read),
            ReplicaStep::Reconnects => {
                self.connect(role);
                if self.client(role).flaps {
                    self.replica_step(5_000, 60_000, role, step);
                }
            }
        }
    }

    fn storage_is_away(&self, role: Role) -> bool {
        self.disk.fenced && (self.arbiter_down || self.arbiter_far[index(role)])
    }

    fn send_request(&mut self, role: Role, number: u64, id: u64) {
        let client = self.client(role);
        let link = client.link;
        // If there is a new connection, it was sent again on that.
        if link.number == number
            && let Some(request) = client.unanswered.get(&id).cloned()
        {
            let at = self.now + self.random.between(50, 2_000);
            self.disk_step(at, DiskStep::Arrives(link, request));
        }
    }

    fn arrive(&mut self, link: Link, request: Request) -> Checked {
        if self.disk.fenced {
            let replaces = self.bug != Some(Bug::ReconnectsWithoutDrain);
            if self.disk.is_closed(link) || self.is_cut_off(link, &request)? {
                return Ok(());
            }
            if self.storage_is_away(link.role) {
                let at = self.now + self.random.between(5_000, 20_000);
                self.disk_step(at, DiskStep::Arrives(link, request));
                return Ok(());
            }
            if replaces {
                self.disk.close_earlier(link);
            }
            if replaces && let Some(drained) = self.disk.drained_before(link) {
                self.disk_step(drained + 1, DiskStep::Arrives(link, request));
                return Ok(());
            }
        }
        self.trace(|| format!("disk starts {} of {}", request.id, link.role));
        let (now, random) = (self.now, &mut self.random);
        let (ticket, ends_at) = self.disk.start(link, request, now, random);
        self.disk_step(ends_at, DiskStep::Ends(ticket));
        Ok(())
    }

    fn is_cut_off(&mut self, link: Link, request: &Request) -> Result<bool, String> {
        let Some(term) = link.term else {
            if request.operation.is_read() {
                return Ok(false);
            }
            return Err(format!("(b) {} writes without a term", link.role));
        };
        let cut_off = !self.arbiter.is_owner(link.role, term);
        if cut_off {
            self.trace(|| format!("disk refuses {} of {}", request.id, link.role));
            self.counts.refused += 1;
        }
        Ok(cut_off)
    }

    fn end(&mut self, ticket: u64) -> Checked {
        let Some(one) = self.disk.end(ticket) else {
            return Ok(());
        };
        let operation = &one.request.operation;
        let abandoned = !self.disk.fenced && self.process(one.link.role).is_dead();
        if abandoned && self.random.percent(30) {
            return Ok(());
        }
        let failed = operation.is_read() && self.random.percent(3);
        let read = (!failed).then(|| self.disk.read(operation));
        self.land(one.link, &one.request)?;
        let answered = ReplicaStep::Answered {
            number: one.link.number,
            id: one.request.id,
            read,
        };
        self.replica_step(50, 2_000, one.link.role, answered);
        Ok(())
    }

    /// A request takes effect.
    fn land(&mut self, link: Link, request: &Request) -> Checked {
        if request.operation.is_read() {
            return Ok(());
        }
        let role = link.role;
        self.trace(|| format!("disk has done {request:?} of {role}"));
        self.counts.landed += 1;
        self.disk.write(&request.operation);
        let alone = link.term.is_some_and(|term| term > TERM);
        self.checker.landed(role, alone, request.id)
    }

    fn take_answer(&mut self, role: Role, number: u64, id: u64, read: Option<Vec<Block>>) {
        let client = self.client(role);
        if number != client.link.number {
            return;
        }
        let Some(request) = client.unanswered.remove(&id) else {
            return;
        };
        match role {
            Role::Primary => self.primary.answers.push_back((id, read)),
            Role::Backup => self.backup_answered(request, read),
        }
    }
}
