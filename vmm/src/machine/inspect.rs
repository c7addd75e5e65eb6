//! A machine that is looked at from outside: registers and memory as the guest's code sees them, and addresses to stop at.
//!
//! In: a machine between two turns. Out: values; [`View`] prints as a table. What always holds: looking changes nothing.

use std::fmt;

use logging_channel::Digest;

use super::{Machine, linear::Paging};
use crate::engine::{
    CpuMode, EngineError, FloatingPoint, Inspect, Registers, inspect::SystemState,
};

/// A vCPU's registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    /// What digests cover.
    pub registers: Registers,
    /// What kind of code it executes.
    pub mode: CpuMode,
    /// The rest.
    pub system: SystemState,
}

impl<E: Inspect> Machine<E> {
    /// The registers as of now.
    ///
    /// # Errors
    /// If the engine cannot read them.
    pub fn view(&mut self) -> Result<View, EngineError> {
        Ok(View {
            registers: self.engine.registers()?,
            mode: self.engine.mode()?,
            system: self.engine.system_state()?,
        })
    }

    /// The x87 and SSE registers as of now.
    ///
    /// # Errors
    /// If the engine cannot read them.
    pub fn floating_point(&mut self) -> Result<FloatingPoint, EngineError> {
        self.engine.floating_point()
    }

    /// Reads guest memory from a linear address on, as far as it is mapped; returns how much that is, bytes.
    ///
    /// # Errors
    /// If the engine cannot read its registers.
    pub fn read_linear(&mut self, linear: u64, data: &mut [u8]) -> Result<usize, EngineError> {
        let paging = self.view()?.paging();
        Ok(paging.read(&self.memory, linear, data))
    }

    /// Stops at these linear addresses from now on, if the engine can: see [`Inspect::set_breakpoints`].
    pub fn set_breakpoints(&mut self, addresses: &[u64]) -> bool {
        self.engine.set_breakpoints(addresses)
    }

    /// Whether it has just come to one of them.
    #[must_use]
    pub fn at_breakpoint(&self) -> bool {
        self.engine.at_breakpoint()
    }
}

impl View {
    /// What paging depends on.
    #[must_use]
    pub fn paging(&self) -> Paging {
        let [cr0, _, cr3, cr4] = self.registers.control;
        Paging {
            cr0,
            cr3,
            cr4,
            efer: self.system.efer,
        }
    }

    /// The linear address of the next instruction.
    #[must_use]
    pub fn linear_rip(&self) -> u64 {
        if self.mode.bits == 64 {
            self.registers.rip
        } else {
            self.registers.rip.wrapping_add(self.system.code_base) & 0xFFFF_FFFF
        }
    }
}

/// Flags of RFLAGS by their letters (SDM 1 3.4.3), the highest first.
const FLAGS: [(u32, &str); 16] = [
    (21, "ID"),
    (20, "VIP"),
    (19, "VIF"),
    (18, "AC"),
    (17, "VM"),
    (16, "RF"),
    (14, "NT"),
    (11, "OF"),
    (10, "DF"),
    (9, "IF"),
    (8, "TF"),
    (7, "SF"),
    (6, "ZF"),
    (4, "AF"),
    (2, "PF"),
    (0, "CF"),
];

fn flags(rflags: u64) -> String {
    let set = FLAGS.iter().filter(|(bit, _)| rflags >> bit & 1 == 1);
    let names: Vec<&str> = set.map(|(_, name)| *name).collect();
    names.join(" ")
}

impl fmt::Display for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Registers {
            general,
            rip,
            rflags,
            control: [cr0, cr2, cr3, cr4],
            segment_bases: [fs, gs],
        } = self.registers;
        let named: Vec<(&str, u64)> = Registers::GENERAL_NAMES.into_iter().zip(general).collect();
        for row in named.chunks(4) {
            let cells: Vec<String> = row
                .iter()
                .map(|(name, value)| format!("{name:<4} {value:016x}"))
                .collect();
            writeln!(f, "{}", cells.join("  "))?;
        }
        writeln!(f, "RIP  {rip:016x}  {}", self.mode)?;
        let iopl = rflags >> 12 & 3;
        writeln!(f, "RFLAGS {rflags:08x}  {}, IOPL {iopl}", flags(rflags))?;
        writeln!(
            f,
            "CR0 {cr0:08x}  CR2 {cr2:016x}  CR3 {cr3:016x}  CR4 {cr4:08x}  EFER {:08x}",
            self.system.efer
        )?;
        let [es, cs, ss, ds, fs_selector, gs_selector] = self.system.selectors;
        write!(
            f,
            "CS {cs:04x}  SS {ss:04x}  DS {ds:04x}  ES {es:04x}  FS {fs_selector:04x} at {fs:016x}  GS {gs_selector:04x} at {gs:016x}"
        )
    }
}

/// A digest and the registers, where a replay was stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inspection {
    /// The registers.
    pub view: View,
    /// Of registers, devices and all of memory.
    pub digest: Digest,
}

impl<E: Inspect> Machine<E> {
    /// All that there is to see.
    ///
    /// # Errors
    /// If the engine cannot read its registers.
    pub fn inspect(&mut self) -> Result<Inspection, EngineError> {
        Ok(Inspection {
            view: self.view()?,
            digest: self.full_digest()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_names_what_is_set() {
        let mut general = [0; 16];
        general[6] = 0xFFFF_8880_0000_1000;
        let view = View {
            registers: Registers {
                general,
                rip: 0xFFFF_FFFF_8100_0000,
                rflags: 0x246,
                control: [0x8005_0033, 0, 0x1000, 0x20],
                segment_bases: [0, 0x55],
            },
            mode: CpuMode {
                privilege: 0,
                bits: 64,
            },
            system: SystemState {
                selectors: [0, 0x10, 0x18, 0, 0, 0],
                code_base: 0,
                efer: 0xD01,
            },
        };
        let text = view.to_string();
        assert!(text.contains("RSP  ffff888000001000"), "{text}");
        assert!(
            text.contains("RIP  ffffffff81000000  64-bit kernel mode"),
            "{text}"
        );
        assert!(text.contains("RFLAGS 00000246  IF ZF PF, IOPL 0"), "{text}");
        assert!(text.contains("CR0 80050033"), "{text}");
        assert!(text.contains("GS 0000 at 0000000000000055"), "{text}");
    }
}
