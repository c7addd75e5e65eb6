//! Machines and logs in the test's own process.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use logging_channel::{Entry, identity::BootChoices};
use vmm::{
    effect::Effect,
    engine::{AnyEngine, EngineKind, kvm::CountKind},
    inputs::{InputError, logged::LogSource, recorder::Recorder},
    machine::{Machine, boot::BootProtocol},
    session::setup::{MachineConfig, Prepared},
};

use crate::images;

/// A bare-metal guest's machine, about to execute its first instruction.
///
/// # Panics
/// If there can be none.
#[must_use]
pub fn machine(
    kind: EngineKind,
    guest: &str,
    options: &str,
    memory_bytes: u64,
) -> Machine<AnyEngine> {
    let config = MachineConfig {
        engine: kind,
        count: CountKind::default(),
        kernel: images::bare(guest).into(),
        boot: BootProtocol::Auto,
        initrd: None,
        command_line: options.to_owned(),
        memory_bytes,
        mac: None,
        disks: vec![],
    };
    let choices = BootChoices {
        rng_seed: [7; 32],
        unix_time_s: 1_700_000_000,
    };
    let prepared = Prepared::new(&config).expect("these tests need /dev/kvm");
    prepared.boot(&choices).expect("a machine")
}

/// A log that is kept in memory.
#[derive(Clone, Default)]
pub struct Kept(Arc<Mutex<Vec<Entry>>>);

impl Kept {
    /// What was recorded.
    ///
    /// # Panics
    /// If the recorder panicked.
    #[must_use]
    pub fn take(self) -> Vec<Entry> {
        std::mem::take(&mut *self.0.lock().expect("no panic"))
    }
}

impl Recorder for Kept {
    fn record(&mut self, entry: Entry, _effect: Option<Effect>) -> Result<(), InputError> {
        self.0.lock().expect("no panic").push(entry);
        Ok(())
    }
}

/// A log that is read from memory.
pub struct Entries(VecDeque<Entry>);

impl Entries {
    /// These entries.
    #[must_use]
    pub fn new(log: &[Entry]) -> Self {
        Self(log.to_vec().into())
    }
}

impl LogSource for Entries {
    fn next(&mut self) -> Result<Option<Entry>, InputError> {
        Ok(self.0.pop_front())
    }

    fn replayed(&mut self, _seq: u64, _suppressed: Option<Effect>) {}
}
