//! The backup's process: its protocol core, and the session that drives it.

use std::collections::VecDeque;

use logging_channel::protocol::{Backup, BackupAction, BackupEvent, ClaimAnswer, Report, Role};
use logging_channel::{Digest, Entry, Event};

use crate::checker::Checked;
use crate::guest::Guest;
use crate::network::Segment;
use crate::primary::Mode;
use crate::process::{Input, Process};
use crate::world::{Bug, Happening, World};

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
    pub diverged: bool,
}

impl BackupProcess {
    pub fn new(process: Process, core: Backup) -> Self {
        Self {
            process,
            core,
            guest: Guest::default(),
            mode: Mode::Greeting,
            replay: VecDeque::new(),
            kept: VecDeque::new(),
            released: 0,
            draining: false,
            diverged: false,
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
        self.schedule(self.now, Happening::Vcpu(Role::Backup));
        Ok(())
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
            let Some(entry) = self.backup.replay.pop_front() else {
                break;
            };
            self.replay_entry(&entry)?;
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
        let state = match self.backup.guest.replay(entry) {
            Ok(state) => state,
            Err(description) => {
                self.backup.diverged = true;
                return self.tell_backup(BackupEvent::Diverged { description });
            }
        };
        self.checker.backup_replayed(entry, state)?;
        let Event::Output { digest, .. } = entry.event else {
            return Ok(());
        };
        if self.bug == Some(Bug::SpeaksWhileReplaying) {
            return self.checker.output(Role::Backup, true, entry.seq, digest);
        }
        // The primary may have released it long before this replica came here.
        if entry.seq > self.backup.released {
            self.backup.kept.push_back((entry.seq, digest));
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
        let end = self.guest_ends_at.is_some_and(|end| self.now >= end);
        let entry = self.backup.guest.record(&mut self.random, end);
        self.checker.backup_appended(&entry);
        if let Event::Output { digest, .. } = entry.event {
            self.checker.output(Role::Backup, true, entry.seq, digest)?;
        }
        Ok(())
    }
}
