//! `MACHINE…`: the options that describe a machine and its world, the same for every command.

use std::{path::PathBuf, sync::Arc};

use clap::{Args, ValueEnum};
use vmm::{
    doctor::{self, Choice, Speeds},
    engine::{EngineKind, kvm::CountKind},
    host::{Console, EventSink, RawTerminal, Tap},
    machine::boot::BootProtocol,
    session::{
        disk_fault::DiskFault,
        disk_spec::DiskSpec,
        open_disks::{DiskUser, OpenDisks},
        reports::Reporter,
        setup::{MacAddress, MachineConfig},
        world::World,
    },
};

/// Values of `--engine`.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub enum EngineArg {
    /// KVM if it runs kernel code at the processor's speed here, else the software CPU: measured, see `lockstep doctor`
    #[default]
    Auto,
    /// KVM
    Kvm,
    /// The software CPU
    Soft,
}

impl EngineArg {
    /// The engine that is meant; for `auto` it is measured.
    pub fn resolve(self) -> Choice {
        let asked = |engine| Choice {
            engine,
            why: "it was asked for".to_owned(),
        };
        match self {
            Self::Auto => doctor::choose(&Speeds::measure()),
            Self::Kvm => asked(EngineKind::Kvm),
            Self::Soft => asked(EngineKind::Soft),
        }
    }
}

/// Values of `--count`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum CountArg {
    /// Exits
    #[default]
    Auto,
    /// Exits alone: full speed; a guest that computes without one is stopped for late inputs (--late-input-limit)
    Exits,
    /// Every instruction, by stepping over each: exact, and a thousand times slower
    Step,
    /// Conditional branches, by the processor's counter: full speed. Not run on hardware yet
    Hardware,
}

impl CountArg {
    /// What is meant on `engine`.
    pub fn resolve(self, engine: EngineKind) -> anyhow::Result<CountKind> {
        if engine != EngineKind::Kvm && self != Self::Auto {
            anyhow::bail!(
                "--count chooses what KVM counts, and the guest would run on the software CPU, which counts every instruction: give --engine kvm as well, or no --count"
            );
        }
        Ok(match self {
            Self::Auto | Self::Exits => CountKind::Exits,
            Self::Step => CountKind::Step,
            Self::Hardware => CountKind::Hardware,
        })
    }
}

/// Values of `--boot`.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub enum BootArg {
    /// Linux's 64-bit protocol where the kernel has it, else PVH
    #[default]
    Auto,
    /// Linux's 64-bit boot protocol
    Linux64,
    /// PVH: the 32-bit entry point of an ELF file's note
    Pvh,
}

impl From<BootArg> for BootProtocol {
    fn from(arg: BootArg) -> Self {
        match arg {
            BootArg::Auto => Self::Auto,
            BootArg::Linux64 => Self::Linux64,
            BootArg::Pvh => Self::Pvh,
        }
    }
}

/// The machine.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Machine")]
pub struct MachineArgs {
    /// What runs the guest
    #[arg(long, value_enum, default_value_t)]
    pub engine: EngineArg,
    /// What KVM counts, and so where it takes interrupts
    #[arg(long, value_enum, default_value_t)]
    pub count: CountArg,
    /// Guest kernel: a bzImage (vmlinuz), an ELF vmlinux, or a bare-metal guest
    #[arg(long, value_name = "FILE")]
    pub kernel: PathBuf,
    /// How the kernel is entered
    #[arg(long, value_enum, default_value_t)]
    pub boot: BootArg,
    /// Initial RAM disk
    #[arg(long, value_name = "FILE")]
    pub initrd: Option<PathBuf>,
    /// Kernel command line; the virtio devices are appended
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub cmdline: String,
    /// Guest memory, such as 96M or 1G
    #[arg(long, value_name = "SIZE", default_value = "96M", value_parser = parse_size)]
    pub memory: u64,
    /// Network card on this TAP device, which is made if it does not exist
    #[arg(long, value_name = "NAME")]
    pub tap: Option<String>,
    /// The network card's Ethernet address [default: 52:54:00:6c:73:01]
    #[arg(long)]
    pub mac: Option<MacAddress>,
    /// A disk: a raw image, a block device or nbd://HOST:PORT/NAME, then any of ,ro ,id=NAME ,reads=log|self ,private ,timeout=SECONDS; up to four times
    #[arg(long = "disk", value_name = "DISK")]
    pub disks: Vec<DiskSpec>,
    /// Where the serial console goes: stdio, none, or a file
    #[arg(long, value_name = "stdio|none|FILE", default_value = "stdio")]
    pub console: Console,
    /// Write what happens to this file, as JSON lines
    #[arg(long, value_name = "FILE")]
    pub events: Option<PathBuf>,
}

impl MachineArgs {
    /// The host's disks for the machine of this replica.
    pub fn open_disks(
        &self,
        user: DiskUser,
        reporter: &Reporter,
        fault: Option<DiskFault>,
    ) -> anyhow::Result<OpenDisks> {
        Ok(OpenDisks::open(&self.disks, user, reporter, fault)?)
    }

    /// The machine itself, with these disks; tells which engine will run it.
    pub fn config(&self, reporter: &Reporter, disks: &OpenDisks) -> anyhow::Result<MachineConfig> {
        let choice = self.engine.resolve();
        let count = self.count.resolve(choice.engine)?;
        reporter.engine(&choice);
        let card = self.mac.or(self.tap.as_ref().map(|_| MacAddress::DEFAULT));
        Ok(MachineConfig {
            engine: choice.engine,
            count,
            kernel: self.kernel.clone().into(),
            boot: self.boot.into(),
            initrd: self.initrd.clone().map(Into::into),
            command_line: self.cmdline.clone(),
            memory_bytes: self.memory,
            mac: card,
            disks: disks.configs.clone(),
        })
    }

    /// What the machine meets in the world. Must be called in a tokio runtime.
    pub fn world(&self, disks: &OpenDisks) -> anyhow::Result<World> {
        let tap = self.tap.as_deref().map(Tap::open).transpose()?;
        Ok(World::new(tap, &self.console, Arc::clone(&disks.disks))?)
    }

    /// The terminal in raw mode, if it is the console.
    pub fn raw_terminal(&self) -> anyhow::Result<Option<RawTerminal<'static>>> {
        Ok(if self.console == Console::Stdio {
            RawTerminal::enter()?
        } else {
            None
        })
    }

    /// Where events go.
    pub fn event_sink(&self) -> anyhow::Result<EventSink> {
        Ok(match &self.events {
            Some(path) => EventSink::open(path)?,
            None => EventSink::none(),
        })
    }
}

/// Bytes, with an optional K, M or G (powers of 1024).
pub fn parse_size(text: &str) -> Result<u64, String> {
    let (digits, shift) = match text.as_bytes().last() {
        Some(b'K' | b'k') => (&text[..text.len() - 1], 10),
        Some(b'M' | b'm') => (&text[..text.len() - 1], 20),
        Some(b'G' | b'g') => (&text[..text.len() - 1], 30),
        _ => (text, 0),
    };
    let wrong = || {
        format!("{text:?} is not a size: give a number of bytes, or one with K, M or G such as 96M")
    };
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    number
        .checked_shl(shift)
        .filter(|bytes| bytes >> shift == number)
        .ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::parse_size;

    #[test]
    fn sizes_are_read_and_refused() {
        assert_eq!(parse_size("4096"), Ok(4096));
        assert_eq!(parse_size("64K"), Ok(65536));
        assert_eq!(parse_size("96M"), Ok(96 << 20));
        assert_eq!(parse_size("3G"), Ok(3 << 30));
        for bad in ["", "M", "-1", "1.5G", "12Q", "99999999999G"] {
            assert!(parse_size(bad).is_err(), "{bad}");
        }
    }
}
