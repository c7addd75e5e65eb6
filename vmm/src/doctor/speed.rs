//! How fast an engine runs guest kernel code here: a loop in a throwaway virtual machine, timed.
//!
//! ```text
//!  guest                                            this file
//!  start: in eax, 0x80  ───── exit, asks ─────────►  so many rounds
//!         mov ecx, eax   ◄──── reply ──────────────  takes the time
//!  again: add, store, load, xor, dec, jnz again
//!         jmp start      ───── in eax, 0x80 ──────►  takes the time
//! ```
//!
//! The loop grows until one pass takes long enough to be measured; the whole takes some 30 ms, whatever the speed.

use std::time::{Duration, Instant};

use vm_memory::{Bytes, GuestAddress};

use crate::{
    engine::{AnyEngine, Engine, EngineKind, Exit, Goal, Reply, Stop},
    machine::{MIN_MEMORY_BYTES, allocate_memory, boot},
    session::setup::SetupError,
};

/// Where the code lies.
const CODE: u64 = 0x10_0000;
/// The port where the guest asks.
const PORT: u16 = 0x80;
/// The guest's program; what a kernel does most: arithmetic, a store, a load, a branch.
const PROGRAM: [u8; 31] = [
    0xE5, 0x80, // start: in eax, 0x80
    0x89, 0xC1, // mov ecx, eax
    0xBE, 0x00, 0x00, 0x20, 0x00, // mov esi, 0x200000
    0x48, 0x01, 0xCB, // again: add rbx, rcx
    0x48, 0x89, 0x5E, 0x08, // mov [rsi + 8], rbx
    0x48, 0x8B, 0x46, 0x08, // mov rax, [rsi + 8]
    0x48, 0x31, 0xC3, // xor rbx, rax
    0xFF, 0xC9, // dec ecx
    0x75, 0xEE, // jnz again
    0xEB, 0xE3, // jmp start
    0xF4, 0xF4, // never reached
];
/// Instructions of the loop.
const LOOP_INSTRUCTIONS: u32 = 6;
/// The first pass, rounds: some milliseconds where KVM emulates.
const FIRST_ROUNDS: u32 = 1_000;
/// A pass of this length is good enough.
const LONG_ENOUGH: Duration = Duration::from_millis(5);
/// The fastest of so many counts: on a busy host a short pass can wait for the processor longer than it computes.
const PASSES: u32 = 3;
/// And one of so many rounds as well, whatever the clock says.
const MOST_ROUNDS: u32 = 1 << 23;

/// Million instructions of guest kernel code a second.
///
/// # Errors
/// If the engine cannot be had here, or does not run the program.
///
/// # Panics
/// If a virtual machine of minimal size cannot hold the program.
pub fn measure(kind: EngineKind) -> Result<f64, SetupError> {
    let memory = allocate_memory(MIN_MEMORY_BYTES)?;
    let mut engine = AnyEngine::new(kind, &memory)?;
    memory
        .write_slice(&PROGRAM, GuestAddress(CODE))
        .expect("the program fits");
    engine.boot(&boot::begin_at(&memory, CODE)?)?;
    to_question(&mut engine)?;
    let mut rounds = FIRST_ROUNDS;
    loop {
        let mut took = Duration::MAX;
        for _ in 0..PASSES {
            let begun = Instant::now();
            engine.reply(Reply::Port(rounds))?;
            to_question(&mut engine)?;
            took = took.min(begun.elapsed());
        }
        if took >= LONG_ENOUGH || rounds >= MOST_ROUNDS {
            let instructions = f64::from(rounds) * f64::from(LOOP_INSTRUCTIONS);
            let mips = instructions / took.as_secs_f64().max(1e-9) / 1e6;
            return Ok((mips * 10.0).round() / 10.0);
        }
        rounds *= 2;
    }
}

/// Runs the guest until it asks how often to go round.
fn to_question(engine: &mut AnyEngine) -> Result<(), SetupError> {
    let asks = Exit::PortRead {
        port: PORT,
        width: 4,
    };
    match engine.run(Goal::Exit)? {
        Stop::Exit(exit) if exit == asks => Ok(()),
        stop => Err(SetupError::Unmeasurable {
            stop: format!("{stop:?}"),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_engine_is_measured() {
        for kind in [EngineKind::Kvm, EngineKind::Soft] {
            let speed = measure(kind).expect("these tests need /dev/kvm");
            assert!((0.1..1e6).contains(&speed), "{kind}: {speed}");
        }
    }
}
