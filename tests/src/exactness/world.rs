//! A world without a host: inputs that know the guest's own clock alone, and whose randomness is a seed's.
//!
//! In: the machine's questions. Out: corrections of its clock, ticks, entropy, typed bytes and interrupts, at instruction counts that the seed chooses, and the log
//! of it all. What always holds: the same guest and the same seed make the same log, on every host and at every load.

use logging_channel::{Digest, EndReason, Entry, Event, Position};
use vmm::{
    effect::Effect,
    engine::Goal,
    inputs::{InputError, Inputs, Next, Situation},
};

use super::random::Random;

/// Guest time that an instruction takes, about, picoseconds. Slower than any processor, so that a timer interrupts often in few instructions.
const INSTRUCTION_PS: u32 = 200_000;
/// Once in so many slices and exits the guest's clock is corrected: by a step forward of up to so much, and to a rate near the above.
const CORRECTION_ONE_IN: u64 = 16;
const CORRECTION_NS: u64 = 50_000;
/// The longest stretch after which the guest is given what has arrived.
const SLICE_INSTRUCTIONS: u64 = 20_000;
/// Slices and exits from one digest to the next.
const DIGEST_TURNS: u32 = 64;
/// What a guest prints when it takes input.
const PROMPT: &[u8] = b"ready";

/// The world of one run.
pub struct World {
    random: Random,
    log: Vec<Entry>,
    /// Where the clock was corrected last.
    corrected_at: Option<Position>,
    turns: u32,
    printed: Vec<u8>,
    to_type: Vec<u8>,
}

impl World {
    /// The seed's world. Somebody types `to_type` once the guest is ready for it.
    #[must_use]
    pub fn new(seed: u64, to_type: &str) -> Self {
        Self {
            random: Random::new(seed),
            log: Vec::new(),
            corrected_at: None,
            turns: 0,
            printed: Vec::new(),
            to_type: to_type.into(),
        }
    }

    /// What happened so far, as a log.
    #[must_use]
    pub fn log(&self) -> &[Entry] {
        &self.log
    }

    /// What the guest printed so far.
    #[must_use]
    pub fn printed(&self) -> String {
        String::from_utf8_lossy(&self.printed).into_owned()
    }

    fn record(&mut self, at: Position, event: Event) {
        let seq = self.log.len() as u64 + 1;
        self.log.push(Entry { seq, at, event });
    }

    fn input(&mut self, at: Position, event: Event) -> Next {
        self.record(at, event.clone());
        Next::Apply(event)
    }

    /// A correction of the clock: the first thing of all, and now and then.
    fn correction(&mut self, at: Position, machine: &dyn Situation) -> Option<Event> {
        let due = self
            .corrected_at
            .is_none_or(|last| last != at && self.random.once_in(CORRECTION_ONE_IN));
        if !due {
            return None;
        }
        self.corrected_at = Some(at);
        let step_ns = self.random.up_to(CORRECTION_NS) - 1;
        let rate = u64::from(INSTRUCTION_PS) / 2 + self.random.up_to(u64::from(INSTRUCTION_PS));
        Some(Event::Clock {
            guest_ns: machine.time_ns() + step_ns,
            ps_per_instruction: rate as u32,
        })
    }

    /// What somebody types now, if the guest has asked and has room.
    fn typed(&mut self, room: usize) -> Option<Event> {
        let asked = self
            .printed
            .windows(PROMPT.len())
            .any(|text| text == PROMPT);
        let count = room.min(self.to_type.len());
        if !asked || count == 0 {
            return None;
        }
        let count = self.random.up_to(count as u64) as usize;
        let bytes = self.to_type.drain(..count).collect();
        Some(Event::ConsoleInput { bytes })
    }

    /// What has arrived and the guest would take.
    fn arrived(&mut self, machine: &dyn Situation) -> Option<Event> {
        if let Some(count) = machine.entropy_bytes() {
            let bytes = (0..count).map(|_| self.random.number() as u8).collect();
            return Some(Event::Entropy { bytes });
        }
        if !self.to_type.is_empty()
            && let Some(event) = self.typed(machine.console_input_room())
        {
            return Some(event);
        }
        if !machine.halted() {
            return None;
        }
        // Nothing happens until then.
        let guest_ns = machine.deadline_ns()?;
        Some(Event::Tick { guest_ns })
    }
}

impl Inputs for World {
    fn time(&mut self, at: Position) -> Result<u64, InputError> {
        panic!("the machine at {at} knows its time")
    }

    fn next(&mut self, at: Position, machine: &dyn Situation) -> Result<Next, InputError> {
        if self.turns >= DIGEST_TURNS {
            self.turns = 0;
            return Ok(Next::Digest);
        }
        if machine.interrupt_pending() && machine.accepts_interrupts() {
            return Ok(Next::Interrupt);
        }
        if let Some(event) = self.correction(at, machine) {
            return Ok(self.input(at, event));
        }
        if let Some(event) = self.arrived(machine) {
            return Ok(self.input(at, event));
        }
        if machine.halted() {
            // No timer runs, and nobody else is there.
            return Err(InputError::Closed);
        }
        self.turns += 1;
        let limit = at.instructions + self.random.up_to(SLICE_INSTRUCTIONS);
        Ok(Next::Run(if machine.interrupt_pending() {
            Goal::Interruptible { limit }
        } else {
            Goal::Instructions(limit)
        }))
    }

    fn interrupted(&mut self, at: Position, vector: Option<u8>) -> Result<(), InputError> {
        let vector = vector.expect("it was asked for where it is pending and accepted");
        self.record(at, Event::Interrupt { vector });
        Ok(())
    }

    fn output(&mut self, at: Position, effect: Effect) -> Result<(), InputError> {
        let event = Event::Output {
            kind: effect.kind(),
            digest: effect.digest(),
        };
        self.record(at, event);
        if let Effect::Print(bytes) = effect {
            self.printed.extend(bytes);
        }
        Ok(())
    }

    fn digest(&mut self, at: Position, digest: Digest) -> Result<(), InputError> {
        self.record(at, Event::Digest { digest });
        Ok(())
    }

    fn end(&mut self, at: Position, reason: EndReason, digest: Digest) -> Result<(), InputError> {
        self.record(at, Event::End { reason, digest });
        Ok(())
    }
}
