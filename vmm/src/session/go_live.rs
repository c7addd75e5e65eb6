//! Going live: a backup's inputs, which are `Logged` until the log is used up and the term is won, and `Live` from then on.
//!
//! ```text
//!  Logged ── log used up ──► waits for the verdict ── live ──► Live, at the same position, with the same question
//!                                                  └─ closed ► stops
//! ```
//!
//! The disks' requests that the primary may not have had done are given to the disks again, in order, before anything else comes in: all that the machine has issued, but for
//! what this replica has under way itself.
//!
//! A state delta of which only a part arrived is void: the machine stands where it began. Nothing else about the machine changes. The guest's clock goes on
//! from the latest time in the log; where instructions drive it, from what it shows by then (`Live` sees to that).

use std::{sync::Arc, time::Duration};

use logging_channel::{Digest, EndReason, Position};

use super::{
    disks::Disks,
    feed::{Feed, LogFeed},
    pipe::{LogPipe, PipeRecorder},
};
use crate::{
    effect::Effect,
    engine::{Delta, Kicker},
    inputs::Situation,
    inputs::{InputError, Inputs, Live, Logged, Next, inbox::Inbox, live::HostClock},
    machine::GuestMemory,
};

/// Inputs of a backup that may go live.
pub struct BackupInputs {
    logged: Logged<Feed>,
    live: Option<Live>,
    feed: Arc<LogFeed>,
    inbox: Arc<Inbox>,
    pipe: Arc<LogPipe>,
    disks: Arc<Disks>,
    /// What this replica has issued since it is live, until the requests from before are issued again.
    issued: Option<Vec<(u8, u64)>>,
    /// For the machine once it is live.
    kicker: Option<Kicker>,
    late_limit: Option<Duration>,
}

impl BackupInputs {
    /// Inputs from `feed`; after the failover from the disks' inbox, with outputs to `pipe`.
    #[must_use]
    pub fn new(feed: Arc<LogFeed>, disks: Arc<Disks>, pipe: Arc<LogPipe>) -> Self {
        Self {
            logged: Logged::new(Feed::new(Arc::clone(&feed), Arc::clone(&disks))),
            live: None,
            feed,
            inbox: disks.inbox(),
            disks,
            issued: None,
            pipe,
            kicker: None,
            late_limit: None,
        }
    }

    /// See [`Live::with_late_limit`].
    #[must_use]
    pub fn with_late_limit(self, kicker: Option<Kicker>, late_limit: Option<Duration>) -> Self {
        Self {
            kicker,
            late_limit,
            ..self
        }
    }

    /// Asks whoever answers now; where the log ends, waits for the verdict and asks the world.
    fn ask<T>(
        &mut self,
        question: impl Fn(&mut dyn Inputs) -> Result<T, InputError>,
    ) -> Result<T, InputError> {
        if self.live.is_none() {
            match question(&mut self.logged) {
                Err(InputError::Exhausted { .. }) => self.feed.wait_verdict()?,
                answer => return answer,
            }
        }
        question(self.live())
    }

    fn live(&mut self) -> &mut Live {
        self.live.get_or_insert_with(|| {
            let clock = HostClock::starting_at(self.logged.last_time_ns());
            let (pipe, disks) = (Arc::clone(&self.pipe), Arc::clone(&self.disks));
            let recorder = Box::new(PipeRecorder::new(pipe, disks));
            self.issued = Some(Vec::new());
            Live::new(
                clock,
                Arc::clone(&self.inbox),
                recorder,
                self.logged.last_seq() + 1,
            )
            .with_late_limit(self.kicker.clone(), self.late_limit)
        })
    }

    /// Once live, and before the machine takes anything in: has done what the primary may not have had done.
    fn issue_again(&mut self, machine: &dyn Situation) {
        let Some(issued) = self.issued.take() else {
            return;
        };
        for request in machine.disk_requests() {
            if !issued.contains(&(request.disk, request.id)) && !self.disks.is_apart(&request) {
                self.disks.submit(request);
            }
        }
    }
}

impl Inputs for BackupInputs {
    fn time(&mut self, at: Position) -> Result<u64, InputError> {
        self.ask(|inputs| inputs.time(at))
    }

    fn next(&mut self, at: Position, machine: &dyn Situation) -> Result<Next, InputError> {
        if self.live.is_none() {
            match self.logged.next(at, machine) {
                Err(InputError::Exhausted { .. }) => self.feed.wait_verdict()?,
                answer => return answer,
            }
            self.live();
        }
        self.issue_again(machine);
        self.live().next(at, machine)
    }

    fn interrupted(&mut self, at: Position, vector: Option<u8>) -> Result<(), InputError> {
        self.ask(|inputs| inputs.interrupted(at, vector))
    }

    fn output(&mut self, at: Position, effect: Effect) -> Result<(), InputError> {
        self.ask(|inputs| inputs.output(at, effect.clone()))?;
        if let (Some(issued), Effect::Disk(request)) = (&mut self.issued, effect) {
            issued.push((request.disk, request.id));
        }
        Ok(())
    }

    fn digest(&mut self, at: Position, digest: Digest) -> Result<(), InputError> {
        self.ask(|inputs| inputs.digest(at, digest))
    }

    fn delta(
        &mut self,
        at: Position,
        delta: &Delta,
        memory: &GuestMemory,
    ) -> Result<(), InputError> {
        self.ask(|inputs| inputs.delta(at, delta, memory))
    }

    fn end(&mut self, at: Position, reason: EndReason, digest: Digest) -> Result<(), InputError> {
        self.ask(|inputs| inputs.end(at, reason, digest))
    }
}
