//! (e) The bytes on the disk are those of one sequential history: that of the replica that survives.
//!
//! In: what the guests did, and the disk's blocks. A guest's history orders its requests by their ids: a read finds what the last write before it wrote, and a block
//! holds what the last completed write wrote, or one that is under way.

use std::collections::BTreeMap;

use logging_channel::protocol::Role;

use crate::checker::Checked;
use crate::guest::Did;
use crate::network::index;
use crate::table::{BLOCKS, Block, Operation, Request};

#[derive(Default)]
struct History {
    /// What was written by the last completed write, and which that is.
    settled: [(Block, Option<u64>); BLOCKS],
    /// Requests made and not completed, and the entries at which they were made.
    open: BTreeMap<u64, Open>,
}

struct Open {
    operation: Operation,
    made_at: u64,
    issued_at: Option<u64>,
    /// What it must read.
    expected: Vec<Block>,
}

impl Open {
    fn written_to(&self, block: usize) -> Option<Block> {
        match &self.operation {
            Operation::Write { first, blocks } => blocks.get(block.checked_sub(*first)?).copied(),
            Operation::Read { .. } | Operation::Flush => None,
        }
    }
}

impl History {
    fn make(&mut self, seq: u64, request: &Request) {
        let latest = |block: usize| {
            let open = self.open.values().rev();
            let written = open.filter_map(|open| open.written_to(block)).next();
            written.unwrap_or(self.settled[block].0)
        };
        let expected = match &request.operation {
            Operation::Read { range } => range.clone().map(latest).collect(),
            Operation::Write { .. } | Operation::Flush => vec![],
        };
        let open = Open {
            operation: request.operation.clone(),
            made_at: seq,
            issued_at: None,
            expected,
        };
        self.open.insert(request.id, open);
    }

    fn complete(&mut self, id: u64, read: Option<&[Block]>) -> Checked {
        let Some(open) = self.open.remove(&id) else {
            return Err(format!("(e) request {id} completes twice"));
        };
        if read.is_some_and(|read| read != open.expected) {
            return Err(format!("(e) request {id} reads what is not there"));
        }
        for block in open.operation.range() {
            let settled = &mut self.settled[block];
            if let Some(written) = open.written_to(block)
                && settled.1.is_none_or(|before| before < id)
            {
                *settled = (written, Some(id));
            }
        }
        Ok(())
    }

    fn allows(&self, block: usize, found: Block) -> bool {
        let (settled, by) = self.settled[block];
        let later = self.open.iter().filter(|&(&id, _)| Some(id) > by);
        let mut issued = later.filter(|(_, open)| open.issued_at.is_some());
        found == settled || issued.any(|(_, open)| open.written_to(block) == Some(found))
    }
}

#[derive(Default)]
pub struct DiskChecker {
    /// By replica.
    histories: [History; 2],
    /// What the primary's guest has read, until the backup's reads it.
    read: BTreeMap<u64, Option<Vec<Block>>>,
    backup_has_taken_over: bool,
    /// Something to look at.
    changed: bool,
}

impl DiskChecker {
    /// A guest did this at entry `seq`.
    pub fn did(&mut self, role: Role, seq: u64, did: &Did) -> Checked {
        let taken_over = self.backup_has_taken_over;
        let history = &mut self.histories[index(role)];
        match did {
            Did::Nothing | Did::Sent(_) => return Ok(()),
            Did::Made(request) => history.make(seq, request),
            Did::Issued(request) => {
                if let Some(open) = history.open.get_mut(&request.id) {
                    open.issued_at = Some(seq);
                }
            }
            // Nobody is ever told what a primary does that has lost.
            Did::Completed(..) if role == Role::Primary && taken_over => {}
            Did::Completed(request, read) => {
                history.complete(request.id, read.as_deref())?;
                self.compare_reads(role, request.id, read.as_ref())?;
            }
        }
        self.changed = true;
        Ok(())
    }

    fn compare_reads(&mut self, role: Role, id: u64, read: Option<&Vec<Block>>) -> Checked {
        if role == Role::Primary {
            self.read.insert(id, read.cloned());
        } else if !self.backup_has_taken_over && self.read.remove(&id) != Some(read.cloned()) {
            return Err(format!(
                "(c) the backup's request {id} reads something else"
            ));
        }
        Ok(())
    }

    /// The entry at which a request was issued that is not completed.
    pub fn issued_at(&self, role: Role, id: u64) -> Option<u64> {
        self.histories[index(role)].open.get(&id)?.issued_at
    }

    pub fn landed(&mut self) {
        self.changed = true;
    }

    /// The backup went live: its history counts from now on.
    pub fn take_over(&mut self) {
        self.backup_has_taken_over = true;
        self.changed = true;
    }

    pub fn after_step(&mut self, blocks: &[Block; BLOCKS]) -> Checked {
        if !std::mem::take(&mut self.changed) {
            return Ok(());
        }
        let role = if self.backup_has_taken_over {
            Role::Backup
        } else {
            Role::Primary
        };
        let history = &self.histories[index(role)];
        for (block, &found) in blocks.iter().enumerate() {
            if !history.allows(block, found) {
                let (settled, by) = history.settled[block];
                return Err(format!(
                    "(e) block {block} holds {found:#x}, but the {role}'s guest has {settled:#x} there (request {by:?})"
                ));
            }
        }
        Ok(())
    }

    /// Every request that `role`'s guest made up to entry `before` is completed.
    pub fn nothing_outstanding(&self, role: Role, before: u64) -> Checked {
        let mut open = self.histories[index(role)].open.iter();
        match open.find(|(_, open)| open.made_at <= before) {
            Some((id, _)) => Err(format!("(d) request {id} of {role} never completes")),
            None => Ok(()),
        }
    }
}
