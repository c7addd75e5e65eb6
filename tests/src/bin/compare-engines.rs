//! Runs a guest on KVM, single-stepped, and on the software CPU, in step, and shows where they first differ.
//!
//! ```text
//! compare-engines KERNEL MEMORY_BYTES LIMIT COMMAND_LINE [INITRD]
//! ```
//!
//! Time passes by a microsecond an exit. No interrupts are delivered: a guest that waits for one ends the run.

use std::error::Error;

use vm_memory::{Bytes, GuestAddress};
use vmm::{
    engine::{AnyEngine, Engine, EngineKind, Exit, Goal, Reply, Stop},
    machine::{
        GuestMemory, allocate_memory,
        boot::{self, BootImages, TscRewrite},
    },
};

/// Steps that one side may take alone, within a repeated string instruction, before that is a difference.
const PATIENCE: u32 = 100_000;

struct Side {
    engine: AnyEngine,
    memory: GuestMemory,
    exits: u64,
    last: Option<Exit>,
}

impl Side {
    fn new(kind: EngineKind, images: &BootImages, bytes: u64) -> Result<Self, Box<dyn Error>> {
        let memory = allocate_memory(bytes)?;
        let mut engine = AnyEngine::new(kind, &memory)?;
        let loaded = boot::load(&memory, images, &[7; 32], TscRewrite::Rewrite)?;
        engine.boot(&loaded.state)?;
        Ok(Self {
            engine,
            memory,
            exits: 0,
            last: None,
        })
    }

    /// One instruction; `false` if it ended the run.
    fn step(&mut self) -> Result<bool, Box<dyn Error>> {
        let goal = Goal::Instructions(self.engine.instructions() + 1);
        let Stop::Exit(exit) = self.engine.run(goal)? else {
            return Ok(true);
        };
        if exit != Exit::InjectionPoint {
            self.exits += 1;
            self.last = Some(exit);
        }
        let reply = match exit {
            Exit::PortRead { port, .. } => Reply::Port(match port {
                // The serial port is ready, and nothing else is there but time.
                0x3FD => 0x60,
                0x608 | 0xEE | 0xEF => (self.exits * 1000) as u32,
                _ => 0,
            }),
            Exit::MmioRead { .. } => Reply::Mmio([0; 8]),
            Exit::TscRead { .. } => Reply::Tsc {
                value: self.exits * 1000,
            },
            Exit::PortWrite {
                port: 0x3F8, value, ..
            } => {
                eprint!("{}", value as u8 as char);
                Reply::None
            }
            Exit::Halt | Exit::Shutdown => return Ok(false),
            _ => Reply::None,
        };
        self.engine.reply(reply)?;
        Ok(true)
    }

    fn show(&mut self, name: &str) -> Result<(), Box<dyn Error>> {
        let registers = self.engine.registers()?;
        eprintln!(
            "{name}: exits {} last {:x?}\n{registers:#x?}",
            self.exits, self.last
        );
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [kernel, bytes, limit, command_line, rest @ ..] = &arguments[..] else {
        return Err(
            "usage: compare-engines KERNEL MEMORY_BYTES LIMIT COMMAND_LINE [INITRD]".into(),
        );
    };
    let images = BootImages {
        kernel: std::fs::read(kernel)?,
        initrd: rest.first().map(std::fs::read).transpose()?,
        command_line: command_line.clone(),
        ..Default::default()
    };
    let mut kvm = Side::new(EngineKind::Kvm, &images, bytes.parse()?)?;
    let mut soft = Side::new(EngineKind::Soft, &images, bytes.parse()?)?;
    for count in 0..limit.parse::<u64>()? {
        let at = soft.engine.registers()?;
        let goes_on = (kvm.step()?, soft.step()?);
        let mut patience = PATIENCE;
        loop {
            let (a, b) = (kvm.engine.registers()?, soft.engine.registers()?);
            // After an exit KVM has not yet completed the instruction.
            if a == b || kvm.engine.instructions() == 0 {
                break;
            }
            let repeating = if a.rip == at.rip {
                Some(&mut kvm)
            } else if b.rip == at.rip {
                Some(&mut soft)
            } else {
                None
            };
            match repeating {
                Some(side) if patience > 0 => {
                    patience -= 1;
                    side.step()?;
                }
                _ => {
                    let mut code = [0; 16];
                    drop(
                        soft.memory
                            .read_slice(&mut code, GuestAddress(at.rip & 0x3FFF_FFFF)),
                    );
                    eprintln!(
                        "after {count} instructions, {:#x} {code:02x?}: before {at:#x?}",
                        at.rip
                    );
                    kvm.show("kvm")?;
                    soft.show("soft")?;
                    return Err("the engines differ".into());
                }
            }
        }
        if goes_on != (true, true) {
            eprintln!("ended after {count} instructions: {goes_on:?}");
            return Ok(());
        }
    }
    eprintln!("no difference");
    Ok(())
}
