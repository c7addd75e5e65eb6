//! The backup's process: its protocol core, and the session that drives it.

use std::collections::{BTreeMap, VecDeque};

use logging_channel::protocol::{Backup, BackupAction, BackupEvent, ClaimAnswer, Report, Role};
use logging_channel::{Digest, DiskOutcome, Entry, Event};

use crate::bug::Bug;
use crate::checker::Checked;
use crate::guest::{Answer, Did, Divergence, Guest};
use crate::network::{Segment, index};
use crate::primary::Mode;
use crate::process::{Input, Process};
use crate::table::{Block, Request};
use crate::world::{Happening, World};

pub struct BackupProcess {
    pub process: Process,
    pub core: Backup,
    pub guest: Guest,
    pub mode: Mode,
    /// Delivered, not yet replayed.
    pub replay: VecDeque<Entry>,
    /// Outputs replayed that the primary has not released, as far as known.
    pub kept: VecDeque<(u64, Digest)>,
    pub released: u64,
    pub draining: bool,
    /// What it has read for itself, until replay comes to the completion.
    own_reads: BTreeMap<u64, Vec<Block>>,
    /// Live: what the disk has answered and the guest has yet to be told.
    answers: VecDeque<Answer>,
}

impl BackupProcess {
    pub fn new(process: Process, core: Backup, guest: Guest) -> Self {
        Self {
            process,
            core,
            guest,
            mode: Mode::Greeting,
            replay: VecDeque::new(),
            kept: VecDeque::new(),
            released: 0,
            draining: false,
            own_reads: BTreeMap::new(),
            answers: VecDeque::new(),
        }
    }
}

impl World {
    pub fn tick_backup(&mut self) -> Checked {
        self.tell_backup(BackupEvent::Tick)
    }

    pub fn take_backup(&mut self, input: Input) -> Checked {
        self.tell_backup(match input {
            Input::Segment(Segment::Message(message)) => BackupEvent::Message(*message),
            Input::Segment(Segment::Close) => BackupEvent::Disconnected,
            Input::Heartbeat(heartbeat) => BackupEvent::Heartbeat(heartbeat),
            Input::Answer(answer) => BackupEvent::Claim(answer),
        })
    }

    fn tell_backup(&mut self, event: BackupEvent) -> Checked {
        let clock = self.clock(Role::Backup);
        self.backup.core.handle(event, clock);
        self.perform_backup()
    }

    pub fn perform_backup(&mut self) -> Checked {
        while let Some(action) = self.backup.core.poll() {
            self.perform_backup_action(action)?;
        }
        Ok(())
    }

    fn perform_backup_action(&mut self, action: BackupAction) -> Checked {
        const ME: Role = Role::Backup;
        match action {
            BackupAction::Transmit(message) => self.transmit(ME, message),
            BackupAction::SendHeartbeat(heartbeat) => self.send_heartbeat(ME, heartbeat),
            BackupAction::Start { .. } => self.backup.mode = Mode::Paired,
            BackupAction::Deliver(entries) => {
                let last = entries.last().expect("never empty").seq;
                self.checker.backup_received(last);
                self.backup.replay.extend(entries);
                self.check_waiting()?;
            }
            BackupAction::Released { through } => self.drop_kept(through),
            BackupAction::Drain => self.backup.draining = true,
            BackupAction::Claim { expected_term } => {
                if self.bug == Some(Bug::LiveWithoutClaim) {
                    let term = expected_term + 1;
                    let answer = ClaimAnswer::Won { term };
                    return self.tell_backup(BackupEvent::Claim(answer));
                }
                self.claim(ME, expected_term);
            }
            BackupAction::GoLive { term } => self.go_live(term)?,
            BackupAction::Report(report) => {
                self.trace(|| format!("backup: {report}"));
                if matches!(report, Report::PeerLost { .. }) {
                    self.backup.mode = Mode::Suspecting;
                    if self.closes_on_suspicion {
                        self.close(ME);
                    }
                }
            }
            BackupAction::Refused { reason, .. } => return Err(reason),
            BackupAction::Finish => {
                self.backup.mode = Mode::Finished;
                self.exit(ME);
            }
            BackupAction::Halt { .. } => {
                self.backup.mode = Mode::Halted;
                self.exit(ME);
            }
        }
        Ok(())
    }

    fn drop_kept(&mut self, through: u64) {
        self.backup.released = through;
        self.backup.kept.retain(|&(seq, _)| seq > through);
    }

    fn go_live(&mut self, term: u64) -> Checked {
        self.backup.mode = Mode::Live;
        self.checker.live(Role::Backup, term)?;
        if self.bug == Some(Bug::ForgetsKeptOutputs) {
            self.backup.kept.clear();
        }
        while let Some((seq, digest)) = self.backup.kept.pop_front() {
            self.checker.output(Role::Backup, true, seq, digest)?;
        }
        self.checker.survives(Role::Backup)?;
        self.checker.disk.take_over();
        self.grant(Role::Backup, term);
        self.reissue();
        self.schedule(self.now, Happening::Vcpu(Role::Backup));
        Ok(())
    }

    /// Every request that was issued and has no completion, in order, but for reads that this replica has under way itself.
    fn reissue(&mut self) {
        let own = std::mem::take(&mut self.backup.own_reads);
        let unanswered = &self.clients[index(Role::Backup)].unanswered;
        let issued = self.backup.guest.table.issued();
        let all = self.bug == Some(Bug::ReissuesOwnReads);
        let forgotten = |request: &&Request| {
            all || !own.contains_key(&request.id) && !unanswered.contains_key(&request.id)
        };
        let requests: Vec<Request> = issued.filter(forgotten).cloned().collect();
        let answers = own.into_iter().map(|(id, read)| (id, Some(read)));
        self.backup.answers.extend(answers);
        if self.bug == Some(Bug::LiveWithoutReissue) {
            return;
        }
        for request in requests {
            self.counts.reissued += 1;
            self.submit(Role::Backup, request);
        }
    }

    /// The disk has answered the backup.
    pub fn backup_answered(&mut self, request: Request, read: Option<Vec<Block>>) {
        if self.backup.mode == Mode::Live {
            self.backup.answers.push_back((request.id, read));
            return;
        }
        let Some(read) = read else {
            return self.submit(Role::Backup, request);
        };
        // It is not in the table any more if the primary has said that its read failed.
        if self.backup.guest.table.under_way(request.id).is_some() {
            self.counts.read_apart += 1;
            self.backup.own_reads.insert(request.id, read);
        }
    }

    /// Replay has come to the end of a read that this replica does for itself, and has yet to do.
    fn waits_for_read(&self) -> bool {
        let Some(entry) = self.backup.replay.front() else {
            return false;
        };
        matches!(&entry.event, Event::Disk { request, outcome: DiskOutcome::DoneApart { .. }, .. }
            if !self.backup.own_reads.contains_key(request))
    }

    /// The backup's vCPU replays a little of what was delivered.
    pub fn run_replay(&mut self) -> Checked {
        if self.backup.process.is_dead() || self.backup.mode == Mode::Live {
            return Ok(());
        }
        let (interval, most) = if self.slow_replay {
            (20_000, 2)
        } else {
            (8_000, 40)
        };
        let at = self.now + self.random.between(interval / 4, interval);
        self.schedule(at, Happening::Replay);
        if !self.backup.process.is_running() {
            return Ok(());
        }
        let before = self.backup.guest.last_seq;
        for _ in 0..self.random.between(1, most) {
            if self.waits_for_read() {
                break;
            }
            let Some(entry) = self.backup.replay.pop_front() else {
                break;
            };
            self.replay_entry(&entry)?;
            if self.backup.process.is_dead() {
                return Ok(());
            }
        }
        let through = self.backup.guest.last_seq;
        if through > before {
            self.tell_backup(BackupEvent::Executed { through })?;
        }
        if self.backup.draining {
            if self.bug == Some(Bug::LiveWithoutDrain) {
                self.backup.replay.clear();
            }
            if self.backup.replay.is_empty() {
                self.backup.draining = false;
                self.tell_backup(BackupEvent::Drained)?;
            }
        }
        self.pump(Role::Backup)
    }

    fn replay_entry(&mut self, entry: &Entry) -> Checked {
        let own = match &entry.event {
            Event::Disk { request, .. } => {
                // The primary may have shipped it after all.
                self.clients[index(Role::Backup)].unanswered.remove(request);
                self.backup.own_reads.remove(request)
            }
            _ => None,
        };
        let did = match self.backup.guest.replay(entry, own.as_deref()) {
            Ok(did) => did,
            Err(divergence) => {
                self.checker.diverged(&divergence)?;
                let (Divergence::Read(description) | Divergence::Entry(description)) = divergence;
                return self.tell_backup(BackupEvent::Diverged { description });
            }
        };
        let state = self.backup.guest.state();
        self.checker.backup_replayed(entry, &did, state)?;
        match did {
            Did::Issued(request) if self.reads_apart && request.operation.is_read() => {
                self.submit(Role::Backup, request);
                Ok(())
            }
            Did::Sent(digest) => self.keep(entry.seq, digest),
            _ => Ok(()),
        }
    }

    fn keep(&mut self, seq: u64, digest: Digest) -> Checked {
        if self.bug == Some(Bug::SpeaksWhileReplaying) {
            return self.checker.output(Role::Backup, true, seq, digest);
        }
        // The primary may have released it long before this replica came here.
        if seq > self.backup.released {
            self.backup.kept.push_back((seq, digest));
        }
        Ok(())
    }

    /// The live backup's vCPU runs on by itself; its outputs leave at once.
    pub fn run_backup_vcpu(&mut self) -> Checked {
        if self.backup.process.is_dead() || self.backup.guest.ended {
            return Ok(());
        }
        let at = self.now
            + self
                .random
                .between(self.vcpu_interval / 2, self.vcpu_interval * 2);
        self.schedule(at, Happening::Vcpu(Role::Backup));
        if !self.backup.process.is_running() {
            return Ok(());
        }
        for _ in 0..self.random.between(1, 5) {
            if self.backup.guest.ended {
                break;
            }
            let end = self.guest_ends_at.is_some_and(|end| self.now >= end);
            let (guest, answers) = (&mut self.backup.guest, &mut self.backup.answers);
            let recorded = guest.record(&mut self.random, answers, end);
            let (entry, did) = recorded.map_err(|divergence| format!("{divergence:?}"))?;
            self.checker.backup_appended(&entry, &did)?;
            match did {
                Did::Sent(digest) => self.checker.output(Role::Backup, true, entry.seq, digest)?,
                Did::Issued(request) => self.submit(Role::Backup, request),
                _ => {}
            }
        }
        Ok(())
    }
}
