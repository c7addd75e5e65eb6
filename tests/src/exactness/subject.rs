//! The guests of these runs, and their machines.

use logging_channel::identity::BootChoices;
use vmm::{
    devices::DevicesConfig,
    engine::{Engine, soft::SoftEngine},
    machine::{
        GuestMemory, Machine, allocate_memory,
        boot::{self, BootImages, BootProtocol, TscRewrite},
        layout,
    },
};

use crate::images;

/// Seed of the guest's random number generator, and what its clock shows at first.
const CHOICES: BootChoices = BootChoices {
    rng_seed: [7; 32],
    unix_time_s: 1_700_000_000,
};

/// A guest.
pub struct Subject {
    images: BootImages,
    memory_bytes: u64,
    /// Typed on its console once it is ready.
    pub(super) to_type: &'static str,
    /// What it prints if all went well.
    pub(super) expected: &'static str,
}

impl Subject {
    /// A bare-metal guest.
    #[must_use]
    pub fn bare(name: &str, options: &str, expected: &'static str) -> Self {
        let kernel = images::bare(name);
        Self::new(kernel.to_str(), None, options, 16 << 20, expected)
    }

    /// Our Linux.
    #[must_use]
    pub fn linux(run: &str, expected: &'static str) -> Self {
        let command_line = images::variable("LOCKSTEP_LINUX_CMDLINE");
        Self::new(
            Some(&images::variable("LOCKSTEP_LINUX_KERNEL")),
            Some(&images::variable("LOCKSTEP_LINUX_INITRD")),
            &format!("{command_line} lockstep.run={run}"),
            64 << 20,
            expected,
        )
    }

    /// A distribution's kernel.
    #[must_use]
    pub fn stock(run: &str, expected: &'static str) -> Self {
        let command_line = images::variable("LOCKSTEP_STOCK_CMDLINE");
        Self::new(
            Some(&images::variable("LOCKSTEP_STOCK_KERNEL")),
            Some(&images::variable("LOCKSTEP_LINUX_INITRD_SHELL")),
            &format!("{command_line} lockstep.run={run}"),
            96 << 20,
            expected,
        )
    }

    fn new(
        kernel: Option<&str>,
        initrd: Option<&str>,
        command_line: &str,
        memory_bytes: u64,
        expected: &'static str,
    ) -> Self {
        let read = |path: &str| {
            std::fs::read(path).unwrap_or_else(|error| panic!("cannot read {path}: {error}"))
        };
        Self {
            images: BootImages {
                kernel: read(kernel.expect("images have plain names")),
                protocol: BootProtocol::Auto,
                initrd: initrd.map(read),
                command_line: format!(
                    "{command_line} virtio_mmio.device=4K@{:#x}:{}",
                    layout::RNG_MMIO,
                    layout::RNG_IRQ
                ),
            },
            memory_bytes,
            to_type: "",
            expected,
        }
    }

    /// The same guest; somebody types this on its console once it is ready.
    #[must_use]
    pub fn hears(self, to_type: &'static str) -> Self {
        Self { to_type, ..self }
    }

    /// The same guest with CPUID, by which it tells engines apart, made a no-operation of the same length.
    ///
    /// # Panics
    /// If it has none.
    #[must_use]
    pub fn without_cpuid(mut self) -> Self {
        const CPUID: [u8; 2] = [0x0F, 0xA2];
        const NOP: [u8; 2] = [0x66, 0x90];
        let kernel = &mut self.images.kernel;
        let found: Vec<usize> = (0..kernel.len() - 1)
            .filter(|at| kernel[*at..*at + 2] == CPUID)
            .collect();
        assert!(!found.is_empty(), "it does not execute CPUID");
        for at in found {
            kernel[at..at + 2].copy_from_slice(&NOP);
        }
        self
    }

    pub(crate) fn to_type(&self) -> &'static str {
        self.to_type
    }

    pub(crate) fn expected(&self) -> &'static str {
        self.expected
    }

    /// Its machine, about to execute the first instruction.
    ///
    /// # Panics
    /// If there can be none.
    #[must_use]
    pub fn machine(&self) -> Machine<SoftEngine> {
        self.machine_on(TscRewrite::Leave, |memory| {
            SoftEngine::new(memory).expect("the software CPU runs everywhere")
        })
    }

    /// Its machine on the engine that `engine` makes of the memory.
    ///
    /// # Panics
    /// If there can be none.
    #[must_use]
    pub fn machine_on<E: Engine>(
        &self,
        tsc: TscRewrite,
        engine: impl FnOnce(&GuestMemory) -> E,
    ) -> Machine<E> {
        let memory = allocate_memory(self.memory_bytes).expect("memory");
        let loaded = boot::load(&memory, &self.images, &CHOICES.rng_seed, tsc)
            .expect("a guest that can be loaded");
        let engine = engine(&memory);
        let devices = DevicesConfig {
            unix_time_s: CHOICES.unix_time_s,
            mac: None,
            memory_bytes: self.memory_bytes,
            disks: vec![],
        };
        Machine::new(engine, memory, &devices, &loaded.state).expect("a machine")
    }
}
