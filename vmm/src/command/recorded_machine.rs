//! The machine of a log: what the log says of it, and what the user adds or wants to be sure of.

use std::{path::PathBuf, sync::Arc};

use anyhow::{Context, bail};
use clap::Args;
use logging_channel::{
    identity::Identity,
    log_file::{ImageKind, LogHeader, LogReader},
};
use vmm::{
    engine::{EngineKind, kvm::CountKind},
    machine::boot::BootProtocol,
    session::{
        disk_config::{self, DiskConfig},
        disk_spec::DiskSpec,
        reports::Reporter,
        setup::{ImageSource, MacAddress, MachineConfig, Prepared},
    },
};

use super::machine_args::{BootArg, CountArg, EngineArg, parse_size};

/// The recorded machine. The log says what it was: an option that is given must agree with it.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Machine, where the log does not have it or it should be checked")]
pub struct RecordedMachineArgs {
    /// What runs the guest [default: what the log was recorded on]
    #[arg(long, value_enum)]
    pub engine: Option<EngineArg>,
    /// What KVM counts [default: what the log was recorded with]
    #[arg(long, value_enum)]
    pub count: Option<CountArg>,
    /// Guest kernel, unless the log has it in itself (record --log-images)
    #[arg(long, value_name = "FILE")]
    pub kernel: Option<PathBuf>,
    /// Initial RAM disk, unless the log has it in itself
    #[arg(long, value_name = "FILE")]
    pub initrd: Option<PathBuf>,
    /// How the kernel is entered
    #[arg(long, value_enum)]
    pub boot: Option<BootArg>,
    /// Kernel command line
    #[arg(long, value_name = "TEXT")]
    pub cmdline: Option<String>,
    /// Guest memory, such as 96M or 1G
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub memory: Option<u64>,
    /// Taken so that the options of the recording can be repeated: the machine has a network card; no tap is opened
    #[arg(long, value_name = "NAME")]
    pub tap: Option<String>,
    /// Taken so that the options of the recording can be repeated: the log has what the disks did; none is opened
    #[arg(long = "disk", value_name = "DISK")]
    pub disks: Vec<DiskSpec>,
    /// The network card's Ethernet address
    #[arg(long)]
    pub mac: Option<MacAddress>,
}

impl RecordedMachineArgs {
    /// The machine that `reader`'s log was recorded on.
    pub fn config(&self, reader: &LogReader, reporter: &Reporter) -> anyhow::Result<MachineConfig> {
        let header = reader.header();
        let identity = &header.identity;
        let engine = self.engine(identity, reporter);
        let count = match self.count {
            Some(count) if count != CountArg::Auto => count.resolve(engine)?,
            _ => CountKind::of_clock(&identity.clock),
        };
        Ok(MachineConfig {
            engine,
            count,
            kernel: self.kernel(reader)?,
            boot: match self.boot {
                Some(arg) => arg.into(),
                None => protocol(identity)?,
            },
            initrd: self.initrd(reader)?,
            command_line: self
                .cmdline
                .clone()
                .unwrap_or_else(|| identity.command_line.clone()),
            memory_bytes: self.memory.unwrap_or(identity.memory_bytes),
            mac: self.mac(identity)?,
            disks: disks(identity)?,
        })
    }

    /// The engine with the log's CPU model, unless another is asked for.
    fn engine(&self, identity: &Identity, reporter: &Reporter) -> EngineKind {
        match self.engine {
            None | Some(EngineArg::Auto) if identity.cpu_model == vmm::engine::soft::MODEL => {
                EngineKind::Soft
            }
            None | Some(EngineArg::Auto) => EngineKind::Kvm,
            Some(engine) => {
                let choice = engine.resolve();
                reporter.engine(&choice);
                choice.engine
            }
        }
    }

    fn kernel(&self, reader: &LogReader) -> anyhow::Result<ImageSource> {
        if let Some(path) = &self.kernel {
            return Ok(path.clone().into());
        }
        let digest = reader.header().identity.kernel;
        match in_log(reader, ImageKind::Kernel)? {
            Some(image) => Ok(image),
            None => bail!(
                "The log has no images in it: give the kernel that it was recorded with (--kernel FILE; its BLAKE3 digest begins with {digest})"
            ),
        }
    }

    fn initrd(&self, reader: &LogReader) -> anyhow::Result<Option<ImageSource>> {
        if let Some(path) = &self.initrd {
            return Ok(Some(path.clone().into()));
        }
        let Some(digest) = reader.header().identity.initrd else {
            return Ok(None);
        };
        match in_log(reader, ImageKind::Initrd)? {
            Some(image) => Ok(Some(image)),
            None => bail!(
                "The log has no images in it: give the initial RAM disk that it was recorded with (--initrd FILE; its BLAKE3 digest begins with {digest})"
            ),
        }
    }

    fn mac(&self, identity: &Identity) -> anyhow::Result<Option<MacAddress>> {
        if self.mac.is_some() {
            return Ok(self.mac);
        }
        let mut devices = identity.devices.iter();
        let card = devices.find_map(|device| device.strip_prefix("virtio-net mac="));
        match card {
            Some(mac) => Ok(Some(mac.parse().map_err(anyhow::Error::msg)?)),
            None => Ok(self.tap.as_ref().map(|_| MacAddress::DEFAULT)),
        }
    }
}

/// Refuses a machine that is not the log's, and names every difference.
pub fn check(header: &LogHeader, prepared: &Prepared) -> anyhow::Result<()> {
    let differences = header.identity.mismatches(prepared.identity());
    if differences.is_empty() {
        return Ok(());
    }
    let differences: Vec<String> = differences
        .iter()
        .map(|difference| {
            format!(
                "{}: the log has {}, this machine {}",
                difference.field, difference.primary, difference.backup
            )
        })
        .collect();
    bail!(
        "The log was recorded on another machine: {}",
        differences.join("; ")
    )
}

fn in_log(reader: &LogReader, kind: ImageKind) -> anyhow::Result<Option<ImageSource>> {
    let mut images = reader
        .images()
        .context("Cannot read the log's images")?
        .into_iter();
    let image = images.find(|image| image.kind == kind);
    Ok(image.map(|image| ImageSource::Bytes(Arc::from(image.bytes))))
}

fn protocol(identity: &Identity) -> anyhow::Result<BootProtocol> {
    let protocol = <BootArg as clap::ValueEnum>::from_str(&identity.boot, false);
    let protocol = protocol.map_err(anyhow::Error::msg);
    Ok(protocol
        .with_context(|| format!("The log's machine is booted as {:?}", identity.boot))?
        .into())
}

/// The log's disks. What they had to say is in the log, so no file is needed.
fn disks(identity: &Identity) -> anyhow::Result<Vec<DiskConfig>> {
    let lines = identity.devices.iter();
    let lines = lines.filter(|device| device.starts_with(disk_config::PREFIX));
    let disks = lines.map(|line| line.parse()).collect::<Result<_, _>>();
    disks.context("Cannot build the log's machine")
}

#[cfg(test)]
mod tests {
    use logging_channel::{Digest, identity::FORMAT_VERSION};

    use super::*;

    fn identity(devices: &[&str]) -> Identity {
        Identity {
            format_version: FORMAT_VERSION,
            clock: String::new(),
            cpu_model: String::new(),
            memory_bytes: 0,
            command_line: String::new(),
            kernel: Digest([0; 16]),
            boot: "auto".to_owned(),
            initrd: None,
            devices: devices.iter().map(ToString::to_string).collect(),
        }
    }

    #[test]
    fn disks_come_from_the_log() {
        let lines = [
            "virtio-blk sectors=8 id=a reads=log",
            "virtio-blk sectors=16 ro id=b private copy=6f",
        ];
        let found = disks(&identity(&["virtio-rng", lines[0], lines[1]]));
        let found = found.expect("disks of this version");
        let found: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert_eq!(found, lines);
        let foreign = disks(&identity(&["virtio-blk sectors=8 shape=round"]));
        let refused = format!("{:#}", foreign.expect_err("another version's"));
        assert!(refused.contains("shape=round"), "{refused}");
    }
}
