//! The guests to measure with, and the ways to run them.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use lockstep_tests::images;
use vmm::{
    engine::{EngineKind, kvm::CountKind},
    machine::boot::BootProtocol,
    session::setup::MachineConfig,
};

/// A guest.
#[derive(Clone, Debug)]
pub struct Guest {
    kernel: PathBuf,
    initrd: PathBuf,
    command_line: String,
}

impl Guest {
    /// This project's Linux, asked for something.
    pub fn linux(asked: &str) -> Self {
        Self {
            kernel: images::variable("LOCKSTEP_LINUX_KERNEL").into(),
            initrd: images::variable("LOCKSTEP_LINUX_INITRD").into(),
            command_line: format!("{} {asked}", images::variable("LOCKSTEP_LINUX_CMDLINE")),
        }
    }

    /// A distribution's kernel, with the same user space.
    pub fn stock(asked: &str) -> Self {
        Self {
            kernel: images::variable("LOCKSTEP_STOCK_KERNEL").into(),
            initrd: images::variable("LOCKSTEP_LINUX_INITRD").into(),
            command_line: format!("{} {asked}", images::variable("LOCKSTEP_STOCK_CMDLINE")),
        }
    }

    /// The machine that runs it on the software CPU.
    pub fn machine(&self) -> MachineConfig {
        MachineConfig {
            engine: EngineKind::Soft,
            count: CountKind::default(),
            kernel: self.kernel.clone().into(),
            boot: BootProtocol::Auto,
            initrd: Some(self.initrd.clone().into()),
            command_line: self.command_line.clone(),
            memory_bytes: 96 << 20,
            mac: None,
            disks: vec![],
        }
    }

    /// `lockstep VERB --engine ENGINE …`.
    pub fn lockstep(&self, verb: &str, engine: EngineKind) -> Command {
        let mut command = Command::new(images::lockstep());
        command.args([verb, "--engine", engine.name(), "--memory", "96M"]);
        command.args(["--cmdline", &self.command_line]);
        command.arg("--kernel").arg(&self.kernel);
        command.arg("--initrd").arg(&self.initrd);
        command
    }

    /// QEMU's software CPU, one thread. With `log` it counts instructions and records.
    pub fn qemu(&self, log: Option<&Path>) -> Command {
        let mut command = Command::new(QEMU);
        command.args(["-accel", "tcg,thread=single"]);
        // Its smallest machine, with the same interrupt controller and timer as ours: without a local APIC they are the processor's.
        command.args([
            "-M",
            "microvm,acpi=off,pic=on,pit=on,rtc=on,isa-serial=on",
            "-cpu",
            "Nehalem,-apic,-x2apic",
        ]);
        command.args(["-m", "96M", "-nodefaults", "-no-user-config", "-no-reboot"]);
        command.args(["-display", "none", "-serial", "stdio"]);
        command.arg("-kernel").arg(&self.kernel);
        command.arg("-initrd").arg(&self.initrd);
        command.args(["-append", &self.command_line]);
        if let Some(log) = log {
            let log = log.display();
            command.arg("-icount");
            command.arg(format!("shift=auto,rr=record,rrfile={log}"));
        }
        command
    }
}

const QEMU: &str = "qemu-system-x86_64";

/// QEMU's version, if it is installed.
pub fn qemu_version() -> Option<String> {
    let output = Command::new(QEMU)
        .arg("--version")
        .stderr(Stdio::null())
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Some(text.lines().next()?.to_owned())
}

/// Whether there is a KVM to compare with.
pub fn has_kvm() -> bool {
    Path::new("/dev/kvm").exists()
}
