//! From a machine's description to a machine that is about to run.
//!
//! ```text
//!  MachineConfig ── Prepared::new ──► files read, memory mapped, engine made, identity known
//!                                       │ BootChoices (from the primary)
//!                                       └─ boot ──► Machine
//! ```

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use logging_channel::{
    Digest,
    identity::{BootChoices, FORMAT_VERSION, Identity},
    log_file::{Image, ImageKind},
};

use crate::{
    devices::DevicesConfig,
    engine::{AnyEngine, Engine, EngineError, EngineKind, kvm::CountKind},
    machine::{
        GuestMemory, Machine, MemoryError, allocate_memory,
        boot::{self, BootError, BootImages, BootProtocol, TscRewrite},
        layout::{self, MAX_DISKS},
    },
    session::disk_config::{DiskConfig, DiskConfigError},
    symbols::Symbols,
};

/// An Ethernet address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MacAddress(pub [u8; 6]);

impl MacAddress {
    /// What a machine with a tap has if nothing else is asked for: locally administered.
    pub const DEFAULT: Self = Self([0x52, 0x54, 0x00, 0x6C, 0x73, 0x01]);
}

impl std::fmt::Display for MacAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl std::str::FromStr for MacAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "{text:?} is not an Ethernet address such as {}",
                Self::DEFAULT
            )
        };
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part = parts
                .next()
                .filter(|part| part.len() == 2)
                .ok_or_else(wrong)?;
            *byte = u8::from_str_radix(part, 16).map_err(|_| wrong())?;
        }
        if parts.next().is_some() {
            return Err(wrong());
        }
        if bytes[0] & 1 != 0 {
            return Err(format!(
                "{text} is a multicast address; a network card needs a unicast one"
            ));
        }
        Ok(Self(bytes))
    }
}

/// Where an image comes from.
#[derive(Clone, Debug)]
pub enum ImageSource {
    /// A file.
    File(PathBuf),
    /// A log that has the image in it.
    Bytes(Arc<[u8]>),
}

impl From<PathBuf> for ImageSource {
    fn from(path: PathBuf) -> Self {
        Self::File(path)
    }
}

impl ImageSource {
    fn read(&self, what: &'static str) -> Result<Vec<u8>, SetupError> {
        match self {
            Self::File(path) => read(what, path),
            Self::Bytes(bytes) => Ok(bytes.to_vec()),
        }
    }
}

/// A machine as the user describes it. Both replicas of a pair are given the same.
#[derive(Clone, Debug)]
pub struct MachineConfig {
    /// What runs it.
    pub engine: EngineKind,
    /// What KVM counts, if that is what runs it.
    pub count: CountKind,
    /// A bzImage, or an ELF file: `vmlinux`, or a bare-metal guest.
    pub kernel: ImageSource,
    /// How the kernel is entered.
    pub boot: BootProtocol,
    /// Initial RAM disk.
    pub initrd: Option<ImageSource>,
    /// Kernel command line, without the devices', which are added.
    pub command_line: String,
    /// Guest memory, bytes.
    pub memory_bytes: u64,
    /// A network card with this address, if any.
    pub mac: Option<MacAddress>,
    /// The disks, in order of their numbers.
    pub disks: Vec<DiskConfig>,
}

/// A machine cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// A file cannot be read.
    #[error("Cannot read the {what} {path}", path = path.display())]
    Read {
        /// Which file.
        what: &'static str,
        /// Its path.
        path: PathBuf,
        /// The host's answer.
        source: std::io::Error,
    },
    /// See [`MemoryError`].
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// See [`EngineError`].
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The guest that measures an engine did something else.
    #[error("Cannot measure the engine: its guest stopped with {stop}")]
    Unmeasurable {
        /// How it stopped.
        stop: String,
    },
    /// See [`BootError`].
    #[error(transparent)]
    Boot(#[from] BootError),
    /// See [`DiskConfigError`].
    #[error(transparent)]
    Disk(#[from] DiskConfigError),
    /// More disks than a machine has room for.
    #[error("The machine cannot have {count} disks: it takes {MAX_DISKS} at most")]
    TooManyDisks {
        /// How many are wanted.
        count: usize,
    },
}

/// A machine whose files are read and whose engine exists.
pub struct Prepared {
    engine: AnyEngine,
    kind: EngineKind,
    memory: GuestMemory,
    images: BootImages,
    mac: Option<MacAddress>,
    disks: Vec<DiskConfig>,
    identity: Identity,
}

impl Prepared {
    /// Reads the images and makes memory and engine.
    ///
    /// # Errors
    /// See [`SetupError`].
    pub fn new(config: &MachineConfig) -> Result<Self, SetupError> {
        check_disks(&config.disks)?;
        let kernel = config.kernel.read("kernel")?;
        let initrd = config.initrd.as_ref();
        let initrd = initrd.map(|image| image.read("initial RAM disk"));
        let initrd = initrd.transpose()?;
        let memory = allocate_memory(config.memory_bytes)?;
        let engine = AnyEngine::counting(config.engine, config.count, &memory)?;
        let identity = Identity {
            format_version: FORMAT_VERSION,
            clock: engine.clock(),
            cpu_model: engine.cpu_model(),
            memory_bytes: config.memory_bytes,
            command_line: config.command_line.clone(),
            kernel: Digest::of(&kernel),
            boot: config.boot.to_string(),
            initrd: initrd.as_deref().map(Digest::of),
            devices: devices(config),
        };
        let images = BootImages {
            kernel,
            protocol: config.boot,
            initrd,
            command_line: full_command_line(config),
        };
        Ok(Self {
            engine,
            kind: config.engine,
            memory,
            images,
            mac: config.mac,
            disks: config.disks.clone(),
            identity,
        })
    }

    /// What must match between replicas.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The images, for a log that keeps them.
    #[must_use]
    pub fn log_images(&self) -> Vec<Image> {
        let kernel = (ImageKind::Kernel, Some(&self.images.kernel));
        let initrd = (ImageKind::Initrd, self.images.initrd.as_ref());
        let images = [kernel, initrd].into_iter().filter_map(|(kind, bytes)| {
            let bytes = bytes?.clone();
            Some(Image { kind, bytes })
        });
        images.collect()
    }

    /// The functions of the kernel, if its file names them.
    #[must_use]
    pub fn symbols(&self) -> Symbols {
        Symbols::of_elf(&self.images.kernel)
    }

    /// The network card's address, if there is one.
    #[must_use]
    pub fn mac(&self) -> Option<MacAddress> {
        self.mac
    }

    /// The disks, in order of their numbers.
    #[must_use]
    pub fn disks(&self) -> &[DiskConfig] {
        &self.disks
    }

    /// Loads the guest and makes the machine.
    ///
    /// # Errors
    /// See [`SetupError`].
    pub fn boot(self, choices: &BootChoices) -> Result<Machine<AnyEngine>, SetupError> {
        let tsc = match self.kind {
            // KVM cannot hand the instruction to the VMM.
            EngineKind::Kvm => TscRewrite::Rewrite,
            EngineKind::Soft => TscRewrite::Leave,
        };
        let loaded = boot::load(&self.memory, &self.images, &choices.rng_seed, tsc)?;
        let disks = self.disks.iter().map(|disk| disk.block.clone());
        let devices = DevicesConfig {
            unix_time_s: choices.unix_time_s,
            mac: self.mac.map(|mac| mac.0),
            memory_bytes: self.identity.memory_bytes,
            disks: disks.collect(),
        };
        Ok(Machine::new(
            self.engine,
            self.memory,
            &devices,
            &loaded.state,
        )?)
    }
}

fn read(what: &'static str, path: &Path) -> Result<Vec<u8>, SetupError> {
    std::fs::read(path).map_err(|source| SetupError::Read {
        what,
        path: path.to_owned(),
        source,
    })
}

fn check_disks(disks: &[DiskConfig]) -> Result<(), SetupError> {
    let count = disks.len();
    if count > MAX_DISKS {
        return Err(SetupError::TooManyDisks { count });
    }
    Ok(disks.iter().try_for_each(DiskConfig::check)?)
}

/// The machine's optional and configurable devices.
fn devices(config: &MachineConfig) -> Vec<String> {
    let net = config.mac.map(|mac| format!("virtio-net mac={mac}"));
    let always = net.into_iter().chain(["virtio-rng".to_owned()]);
    let disks = config.disks.iter().map(ToString::to_string);
    always.chain(disks).collect()
}

/// The user's command line and, as nothing else tells the guest, where its virtio devices are.
fn full_command_line(config: &MachineConfig) -> String {
    let net = config.mac.map(|_| (layout::NET_MMIO, layout::NET_IRQ));
    let rng = (layout::RNG_MMIO, layout::RNG_IRQ);
    let disks = (0..config.disks.len()).map(layout::disk_mmio);
    let disks = disks.zip(layout::DISK_IRQS);
    let devices = net.into_iter().chain([rng]).chain(disks);
    let words = devices.map(|(address, irq)| format!(" virtio_mmio.device=4K@{address:#x}:{irq}"));
    config.command_line.clone() + &words.collect::<String>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ethernet_addresses_are_read_and_refused() {
        let mac: MacAddress = "52:54:00:6c:73:01".parse().expect("a good address");
        assert_eq!(mac, MacAddress::DEFAULT);
        assert_eq!(mac.to_string(), "52:54:00:6c:73:01");
        for bad in [
            "",
            "52:54:00:6c:73",
            "52:54:00:6c:73:01:02",
            "52:54:00:6c:73:zz",
            "5:254:00:6c:73:01",
            "01:00:5e:00:00:01",
        ] {
            assert!(bad.parse::<MacAddress>().is_err(), "{bad}");
        }
    }

    /// A machine that is never made.
    fn config(mac: Option<MacAddress>, disks: &[&str]) -> MachineConfig {
        MachineConfig {
            engine: EngineKind::Soft,
            count: CountKind::Exits,
            kernel: ImageSource::Bytes(Arc::from([])),
            boot: BootProtocol::Auto,
            initrd: None,
            command_line: "quiet".to_owned(),
            memory_bytes: 0,
            mac,
            disks: disks
                .iter()
                .map(|line| line.parse().expect("a disk"))
                .collect(),
        }
    }

    #[test]
    fn the_guest_is_told_where_its_devices_are() {
        let line = "virtio-blk sectors=8 id=a reads=log";
        let all = config(Some(MacAddress::DEFAULT), &[line; 4]);
        assert_eq!(
            full_command_line(&all),
            "quiet virtio_mmio.device=4K@0xd0000000:10 virtio_mmio.device=4K@0xd0001000:11 \
             virtio_mmio.device=4K@0xd0002000:14 virtio_mmio.device=4K@0xd0003000:15 \
             virtio_mmio.device=4K@0xd0004000:9 virtio_mmio.device=4K@0xd0005000:5"
        );
        assert_eq!(
            full_command_line(&config(None, &[])),
            "quiet virtio_mmio.device=4K@0xd0001000:11"
        );
    }

    #[test]
    fn replicas_agree_on_their_disks() {
        let lines = [
            "virtio-blk sectors=8 id=a reads=log",
            "virtio-blk sectors=16 ro id=b reads=self",
        ];
        let devices = devices(&config(None, &lines));
        assert_eq!(devices, ["virtio-rng", lines[0], lines[1]]);
    }

    #[test]
    fn disks_that_cannot_be_are_refused_before_anything_is_made() {
        let line = "virtio-blk sectors=8 id=a reads=log";
        let five = Prepared::new(&config(None, &[line; 5])).err();
        assert!(matches!(five, Some(SetupError::TooManyDisks { count: 5 })));
        let mut spaced = config(None, &[line]);
        spaced.disks[0].block.id = "a b".to_owned();
        let refused = Prepared::new(&spaced).err();
        assert!(matches!(refused, Some(SetupError::Disk(_))));
    }
}
