//! What must hold, whatever fails, whenever (docs/failures.md). The checker sees what the replicas *do*,
//! never what they believe.

use std::collections::BTreeMap;

use logging_channel::protocol::Role;
use logging_channel::{Digest, Entry, Event, OutputKind};

use crate::disk_checker::DiskChecker;
use crate::guest::{Did, Divergence};
use crate::table::{BLOCKS, Block};

/// A broken invariant, in words.
pub type Violation = String;
pub type Checked = Result<(), Violation>;

#[derive(Default)]
pub struct Checker {
    /// The primary's state after each entry; the entry `n` is at `n - 1`.
    primary_states: Vec<u64>,
    /// Frames of each replica's history, by their entries.
    primary_outputs: BTreeMap<u64, Digest>,
    backup_outputs: BTreeMap<u64, Digest>,
    backup_received: u64,
    backup_replayed: u64,
    /// What the outside world has seen.
    world: BTreeMap<u64, Digest>,
    /// Terms the arbiter gave away.
    granted: BTreeMap<u64, Role>,
    /// Terms in which a replica runs alone.
    live: BTreeMap<u64, Role>,
    /// The network itself closed the connection: then the backup may give up a primary that does
    /// not know it yet, and whose last outputs, all acknowledged, overlap with the backup's.
    pub network_cut: bool,
    pub disk: DiskChecker,
    pub outputs: u64,
    pub repeated: u64,
}

impl Checker {
    pub fn primary_appended(&mut self, entry: &Entry, did: &Did, state: u64) -> Checked {
        self.primary_states.push(state);
        self.did(Role::Primary, entry, did)
    }

    /// The session of the backup holds everything up to `seq` for replay.
    pub fn backup_received(&mut self, seq: u64) {
        self.backup_received = seq;
    }

    /// (c) The backup's state is always a prefix of the primary's.
    pub fn backup_replayed(&mut self, entry: &Entry, did: &Did, state: u64) -> Checked {
        let seq = entry.seq;
        let expected = seq.checked_sub(1).and_then(|index| {
            let index = usize::try_from(index).ok()?;
            self.primary_states.get(index).copied()
        });
        if expected != Some(state) {
            return Err(format!(
                "(c) backup's state after entry {seq} is not the primary's"
            ));
        }
        self.backup_replayed = seq;
        self.did(Role::Backup, entry, did)
    }

    /// (c) A replay that parts from its log is none. One excuse: the primary runs alone, and has written over what this late copy was to read.
    pub fn diverged(&self, divergence: &Divergence) -> Checked {
        match divergence {
            Divergence::Read(_) if self.granted.values().any(|&role| role == Role::Primary) => {
                Ok(())
            }
            Divergence::Read(what) | Divergence::Entry(what) => {
                Err(format!("(c) the backup diverged: {what}"))
            }
        }
    }

    /// The live backup records entries of its own.
    pub fn backup_appended(&mut self, entry: &Entry, did: &Did) -> Checked {
        self.did(Role::Backup, entry, did)
    }

    fn did(&mut self, role: Role, entry: &Entry, did: &Did) -> Checked {
        if let Event::Output {
            kind: OutputKind::Frame,
            digest,
        } = entry.event
        {
            let history = match role {
                Role::Primary => &mut self.primary_outputs,
                Role::Backup => &mut self.backup_outputs,
            };
            history.insert(entry.seq, digest);
        }
        self.disk.did(role, entry.seq, did)
    }

    /// A write of `role`, which is `alone` or not, takes effect.
    pub fn landed(&mut self, role: Role, alone: bool, request: u64) -> Checked {
        self.disk.landed();
        if alone {
            return Ok(());
        }
        if role == Role::Backup {
            return Err(format!(
                "(b) the backup's request {request} is done, but it is not live"
            ));
        }
        let issued_at = self.disk.issued_at(role, request);
        if issued_at.is_some_and(|seq| seq > self.backup_received) {
            return Err(format!(
                "(a) request {request} is done, but the backup has only {} entries",
                self.backup_received
            ));
        }
        Ok(())
    }

    pub fn granted(&mut self, term: u64, role: Role) -> Checked {
        match self.granted.insert(term, role) {
            Some(other) if other != role => {
                Err(format!("(b) the arbiter gave term {term} to both replicas"))
            }
            _ => Ok(()),
        }
    }

    /// (b) Never two live replicas in one term, and none that did not win its term.
    pub fn live(&mut self, role: Role, term: u64) -> Checked {
        if self.granted.get(&term) != Some(&role) {
            return Err(format!(
                "(b) {role} goes live in term {term}, which it has not won"
            ));
        }
        self.live.insert(term, role);
        if self.live.values().any(|&other| other != role) {
            return Err(format!("(b) both replicas went live: {:?}", self.live));
        }
        Ok(())
    }

    /// After a replica went live and released what it kept: (d) nothing that its history contains is
    /// lost, and nothing that the world has seen is missing from its history.
    pub fn survives(&self, role: Role) -> Checked {
        let history = self.history(role);
        for (seq, digest) in &self.world {
            if history.get(seq) != Some(digest) {
                return Err(format!(
                    "(d) output {seq} was seen, but live {role} has another past"
                ));
            }
        }
        self.nothing_lost(role, u64::MAX)
    }

    /// (d) Every output of `role`'s history up to `through` was seen.
    pub fn nothing_lost(&self, role: Role, through: u64) -> Checked {
        for seq in self.history(role).range(..=through).map(|(seq, _)| seq) {
            if !self.world.contains_key(seq) {
                return Err(format!("(d) output {seq} of {role} is lost"));
            }
        }
        Ok(())
    }

    /// `role`, which is `alone` or not, lets an output into the world.
    pub fn output(&mut self, role: Role, alone: bool, seq: u64, digest: Digest) -> Checked {
        if !alone && seq > self.backup_received {
            return Err(format!(
                "(a) output {seq} is released, but the backup has only {} entries",
                self.backup_received
            ));
        }
        let other_is_live = self.live.values().any(|&live| live != role);
        if other_is_live && (alone || !self.network_cut) {
            return Err(format!(
                "(b) {role} releases output {seq} while the other replica is live"
            ));
        }
        if self.history(role).get(&seq) != Some(&digest) {
            return Err(format!("(d) output {seq} is not of {role}'s history"));
        }
        self.outputs += 1;
        match self.world.insert(seq, digest) {
            Some(before) if before != digest => {
                Err(format!("(d) output {seq} contradicts what was seen"))
            }
            Some(_) => {
                self.repeated += 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// What holds between any two steps.
    pub fn after_step(&mut self, blocks: &[Block; BLOCKS]) -> Checked {
        if self.backup_replayed > self.backup_received {
            return Err("(c) the backup replayed what it never received".to_owned());
        }
        if self.backup_received > self.primary_states.len() as u64 {
            return Err("(c) the backup received what was never recorded".to_owned());
        }
        self.disk.after_step(blocks)
    }

    fn history(&self, role: Role) -> &BTreeMap<u64, Digest> {
        match role {
            Role::Primary => &self.primary_outputs,
            Role::Backup => &self.backup_outputs,
        }
    }
}
