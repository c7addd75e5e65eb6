//! A machine alone: live inputs, and outputs that leave at once.
//!
//! ```text
//!  World ──► Inbox ──► Live ──► Replica ──► LogPipe ──► World
//! ```
//!
//! This is also how a pair's survivor goes on ([`go_on`]).

use std::{sync::Arc, time::Duration};

use super::{
    SessionError,
    black_box::BlackBox,
    pipe::{LogPipe, PipeRecorder},
    replica::Ending,
    vcpu::VcpuThread,
    world::World,
};
use crate::{
    engine::Engine,
    inputs::{Live, live::HostClock, recorder::Recorder},
    machine::Machine,
};

/// When inputs come.
#[derive(Clone, Copy, Debug, Default)]
pub struct InputTiming {
    /// How long an input waits for a guest that does not exit; `None`: for ever.
    pub late_limit: Option<Duration>,
    /// Varies it at random.
    pub jitter_seed: Option<u64>,
}

/// Runs `machine` to its guest's end. `log` records besides, if given.
///
/// # Errors
/// See [`SessionError`].
pub async fn run<E: Engine + Send + 'static>(
    machine: Machine<E>,
    world: &mut World,
    log: Option<Box<dyn Recorder>>,
    timing: InputTiming,
) -> Result<Ending, SessionError> {
    let pipe = LogPipe::new();
    let to_pipe = Box::new(PipeRecorder::new(Arc::clone(&pipe), world.disks()));
    let recorder: Box<dyn Recorder> = match log {
        Some(log) => Box::new(Both(log, to_pipe)),
        None => to_pipe,
    };
    let inputs = Live::new(HostClock::starting_at(0), world.inbox(), recorder, 1)
        .with_jitter(timing.jitter_seed)
        .with_late_limit(machine.kicker(), timing.late_limit);
    let mut vcpu = VcpuThread::spawn(machine, inputs);
    world.connect();
    let mut black_box = BlackBox::none();
    go_on(world, &pipe, &mut black_box, &mut vcpu).await
}

/// Serves a live machine whose outputs wait for nobody. Its entries go into the black box.
///
/// # Errors
/// See [`SessionError`].
pub async fn go_on(
    world: &mut World,
    pipe: &LogPipe,
    black_box: &mut BlackBox,
    vcpu: &mut VcpuThread,
) -> Result<Ending, SessionError> {
    loop {
        tokio::select! {
            biased;
            () = pipe.wait() => perform(world, pipe, black_box)?,
            ending = vcpu.ended() => {
                perform(world, pipe, black_box)?;
                return Ok(ending?);
            }
            received = world.receive() => received?,
        }
    }
}

fn perform(
    world: &mut World,
    pipe: &LogPipe,
    black_box: &mut BlackBox,
) -> Result<(), SessionError> {
    let taken = pipe.take();
    black_box.keep(&taken.entries);
    Ok(world.perform_all(&taken.outputs)?)
}

/// Records into a log first, then passes on.
struct Both(Box<dyn Recorder>, Box<PipeRecorder>);

impl Recorder for Both {
    fn record(
        &mut self,
        entry: logging_channel::Entry,
        effect: Option<crate::effect::Effect>,
    ) -> Result<(), crate::inputs::InputError> {
        self.0.record(entry.clone(), None)?;
        self.1.record(entry, effect)
    }
}
