//! The whole state of a processor as a value: [`Cpu::save`] and [`Cpu::restore`].
//!
//! What always holds: a restored processor goes on exactly as the saved one would have. Caches are not part of it, because they
//! cannot be seen ([`crate::memory::tlb`], [`crate::decode::cache`]); memory is saved by whoever owns it.

use serde::{Deserialize, Serialize};

use crate::{
    cpu::{
        CR0_ET, CR0_NE, CR0_PE, CodeSize, Core, DescriptorTable, Msrs, Register, Segment,
        SegmentName, Shadow, X87,
    },
    exit::{Answer, Completion, Exit},
    flags::Flags,
    isa::simd::mxcsr::Mxcsr,
    memory::{ram::Ram, tlb::Tlb},
    run::Cpu,
};

/// Version of [`State`]. Any change of its fields or their meaning changes it.
pub const STATE_VERSION: u32 = 1;

/// Everything that a processor's future depends on, except memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// [`STATE_VERSION`] of whoever saved it.
    pub version: u32,
    /// RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8 to R15: the hardware's order.
    pub general: [u64; 16],
    /// Instruction pointer.
    pub rip: u64,
    /// RFLAGS.
    pub rflags: u64,
    /// ES, CS, SS, DS, FS, GS. CPL is SS's DPL.
    pub segments: [Segment; SegmentName::COUNT],
    /// LDTR.
    pub ldtr: Segment,
    /// TR.
    pub tr: Segment,
    /// GDTR.
    pub gdtr: DescriptorTable,
    /// IDTR.
    pub idtr: DescriptorTable,
    /// Control register 0.
    pub cr0: u64,
    /// Control register 2.
    pub cr2: u64,
    /// Control register 3.
    pub cr3: u64,
    /// Control register 4.
    pub cr4: u64,
    /// Control register 8.
    pub cr8: u64,
    /// Extended control register 0.
    pub xcr0: u64,
    /// IA32_EFER.
    pub efer: u64,
    /// PAE paging's page-directory-pointer entries.
    pub pdpte: [u64; 4],
    /// DR0 to DR7; DR4 and DR5 are unused.
    pub debug: [u64; 8],
    /// Other model-specific registers.
    pub msrs: Msrs,
    /// XMM0 to XMM15.
    pub xmm: [u128; 16],
    /// SSE control and status.
    pub mxcsr: u32,
    /// The x87.
    pub x87: X87,
    /// What waits for one more instruction.
    pub shadow: Shadow,
    /// What a debug trap that waits to be delivered leaves in DR6; 0 if none does.
    pub pending_debug: u64,
    /// Instructions since the last exit.
    pub since_exit: u64,
    /// Instructions since the beginning.
    pub retired: u64,
    /// Where the dialogue stands.
    pub dialogue: Dialogue,
}

/// Exits in progress.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dialogue {
    pub(crate) unanswered: Option<(Exit, Completion)>,
    pub(crate) next_exit: Option<(Exit, Completion)>,
    pub(crate) answers: Vec<Answer>,
}

/// A state that cannot be restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownVersion {
    /// The state's version.
    pub version: u32,
}

impl std::fmt::Display for UnknownVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "The saved CPU state has version {}; this version of lockstep reads {STATE_VERSION}",
            self.version
        )
    }
}

impl std::error::Error for UnknownVersion {}

impl Default for State {
    /// Protected mode without paging, flat 32-bit segments, interrupts off, everything else as after power-on (SDM 3A 9.1).
    fn default() -> Self {
        let data = Segment {
            selector: 0x10,
            base: 0,
            limit: u32::MAX,
            access: 0xC093,
        };
        let code = Segment {
            selector: 0x08,
            access: 0xC09B,
            ..data
        };
        let system = |kind: u16| Segment {
            selector: 0,
            base: 0,
            limit: 0xFFFF,
            access: 0x80 | kind,
        };
        Self {
            version: STATE_VERSION,
            general: [0; 16],
            rip: 0xFFF0,
            rflags: 2,
            segments: [data, code, data, data, data, data],
            ldtr: system(2),
            tr: system(11),
            gdtr: DescriptorTable {
                base: 0,
                limit: 0xFFFF,
            },
            idtr: DescriptorTable {
                base: 0,
                limit: 0xFFFF,
            },
            cr0: CR0_PE | CR0_ET | CR0_NE,
            cr2: 0,
            cr3: 0,
            cr4: 0,
            cr8: 0,
            xcr0: 1,
            efer: 0,
            pdpte: [0; 4],
            debug: [0, 0, 0, 0, 0, 0, 0xFFFF_0FF0, 0x400],
            msrs: Msrs {
                pat: 0x0007_0406_0007_0406,
                misc_enable: 1,
                ..Msrs::default()
            },
            xmm: [0; 16],
            mxcsr: 0x1F80,
            x87: X87::INITIAL,
            shadow: Shadow::None,
            pending_debug: 0,
            since_exit: 0,
            retired: 0,
            dialogue: Dialogue::default(),
        }
    }
}

impl Cpu {
    /// The state as of now.
    #[must_use]
    pub fn save(&self) -> State {
        let core = &self.core;
        let mut general = [0; 16];
        general.copy_from_slice(&core.general[..16]);
        State {
            version: STATE_VERSION,
            general,
            rip: core.rip,
            rflags: core.flags.get(),
            segments: core.segments,
            ldtr: core.ldtr,
            tr: core.tr,
            gdtr: core.gdtr,
            idtr: core.idtr,
            cr0: core.cr0,
            cr2: core.cr2,
            cr3: core.cr3,
            cr4: core.cr4,
            cr8: core.cr8,
            xcr0: core.xcr0,
            efer: core.efer,
            pdpte: core.pdpte,
            debug: core.debug,
            msrs: core.msrs,
            xmm: core.xmm,
            mxcsr: core.mxcsr.settled(),
            x87: core.x87,
            shadow: core.shadow,
            pending_debug: core.pending_debug,
            since_exit: self.since_exit,
            retired: self.retired,
            dialogue: Dialogue {
                unanswered: self.unanswered,
                next_exit: self.next_exit,
                answers: core.answers.clone(),
            },
        }
    }

    /// Puts the processor into a saved state. Memory must already be that state's.
    ///
    /// # Errors
    /// If the state is of another version.
    pub fn restore(&mut self, state: &State) -> Result<(), UnknownVersion> {
        if state.version != STATE_VERSION {
            return Err(UnknownVersion {
                version: state.version,
            });
        }
        self.core.restore(state);
        self.cache.clear(&mut self.core.ram);
        self.since_exit = state.since_exit;
        self.retired = state.retired;
        self.unanswered = state.dialogue.unanswered;
        self.next_exit = state.dialogue.next_exit;
        Ok(())
    }
}

impl Core {
    /// A core in the default state.
    pub(crate) fn new(ram: Ram) -> Self {
        let mut core = Self {
            general: [0; Register::COUNT],
            rip: 0,
            flags: Flags::default(),
            block_end: 0,
            budget: 0,
            iterations: 0,
            tlb: Tlb::new(),
            long_bases: [0; SegmentName::COUNT],
            segments: [Segment::default(); SegmentName::COUNT],
            ldtr: Segment::default(),
            tr: Segment::default(),
            gdtr: DescriptorTable::default(),
            idtr: DescriptorTable::default(),
            cr0: 0,
            cr2: 0,
            cr3: 0,
            cr4: 0,
            cr8: 0,
            xcr0: 0,
            efer: 0,
            pdpte: [0; 4],
            debug: [0; 8],
            msrs: Msrs::default(),
            xmm: [0; 16],
            mxcsr: Mxcsr::default(),
            x87: X87::INITIAL,
            cpl: 0,
            code_size: CodeSize::Bits32,
            fetch_mode: 0,
            stack_mask: 0,
            sse_unavailable: false,
            watching: false,
            breakpoints_armed: false,
            completed: false,
            untraced: false,
            shadow: Shadow::None,
            pending_debug: 0,
            pending: None,
            exit: None,
            answers: Vec::new(),
            answers_used: 0,
            stale_code: Vec::new(),
            translation_pages: Vec::new(),
            epoch: crate::cpu::EPOCH,
            ram,
        };
        core.restore(&State::default());
        core
    }

    fn restore(&mut self, state: &State) {
        self.general[..16].copy_from_slice(&state.general);
        self.rip = state.rip;
        self.flags.set(state.rflags);
        self.segments = state.segments;
        self.ldtr = state.ldtr;
        self.tr = state.tr;
        self.gdtr = state.gdtr;
        self.idtr = state.idtr;
        self.cr0 = state.cr0;
        self.cr2 = state.cr2;
        self.cr3 = state.cr3;
        self.cr4 = state.cr4;
        self.cr8 = state.cr8;
        self.xcr0 = state.xcr0;
        self.efer = state.efer;
        self.pdpte = state.pdpte;
        self.debug = state.debug;
        self.msrs = state.msrs;
        self.xmm = state.xmm;
        self.mxcsr.set(state.mxcsr);
        self.x87 = state.x87;
        self.shadow = state.shadow;
        self.pending_debug = state.pending_debug;
        self.pending = None;
        self.exit = None;
        self.iterations = 0;
        self.answers = state.dialogue.answers.clone();
        self.answers_used = 0;
        self.stale_code.clear();
        self.flush_translations();
        self.update_mode();
    }
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
