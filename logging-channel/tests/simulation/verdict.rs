//! What must hold of a whole run: bounded queues at any time, and a survivor at the end.

use logging_channel::Entry;
use logging_channel::protocol::Role;

use crate::checker::Checked;
use crate::primary::Mode;
use crate::world::World;

impl World {
    /// Every queue of the sessions is bounded by the cores' limits.
    pub fn check_bounds(&self) -> Checked {
        const ONE_APPEND: usize = 8;
        let held = self.primary.held.len();
        if held > self.limits.kept_outputs + ONE_APPEND {
            return Err(format!("primary holds {held} outputs"));
        }
        let kept = self.backup.kept.len();
        if kept > 2 * self.limits.kept_outputs {
            return Err(format!("backup keeps {kept} outputs"));
        }
        Ok(())
    }

    pub fn check_waiting(&self) -> Checked {
        let waiting: u64 = self.backup.replay.iter().map(Entry::size_bytes).sum();
        if waiting > self.limits.undelivered_bytes + self.limits.batch_bytes {
            return Err(format!("{waiting} bytes of entries wait for replay"));
        }
        Ok(())
    }

    pub fn check_end(&self) -> Checked {
        let harmless = self.faults.is_empty();
        if !harmless && (self.faults.len() > 1 || !self.formed_before_faults) {
            return Ok(());
        }
        if self.primary.mode == Mode::Finished {
            return self.checker.nothing_lost(Role::Primary, u64::MAX);
        }
        self.check_one_survives(harmless)
    }

    fn check_one_survives(&self, harmless: bool) -> Checked {
        let (primary, backup) = (self.primary.mode, self.backup.mode);
        if harmless && (primary, backup) != (Mode::Paired, Mode::Paired) {
            return Err(format!(
                "nothing failed, but primary is {primary:?}, backup {backup:?}"
            ));
        }
        let at_primary =
            self.primary.process.is_running() && matches!(primary, Mode::Paired | Mode::Live);
        let at_backup = self.backup.process.is_running() && backup == Mode::Live;
        let (role, guest, before) = match (at_primary, at_backup) {
            (true, false) => (Role::Primary, &self.primary.guest, self.settled_seq[0]),
            (false, true) => (Role::Backup, &self.backup.guest, self.settled_seq[1]),
            both => {
                return Err(format!(
                    "one fault, but (primary, backup) live: {both:?}, {primary:?}, {backup:?}"
                ));
            }
        };
        if !guest.ended && guest.last_seq <= before {
            return Err(format!("{role} survives, but its guest stands at {before}"));
        }
        if !guest.ended {
            self.checker.disk.nothing_outstanding(role, before)?;
        }
        self.checker.nothing_lost(role, before)
    }
}
