//! The processor's state, and what instruction handlers do to it besides computing.
//!
//! [`Core`] is everything that an instruction can see or change. It knows nothing of blocks or of the cache of decoded code
//! ([`crate::decode`]); the loop over both is [`crate::run`].

pub(crate) mod registers;
pub(crate) mod segment;

use crate::{
    exception::Exception,
    exit::{Answer, Completion, Exit},
    flags::{self, Flags},
    isa::simd::mxcsr::Mxcsr,
    memory::{
        ram::Ram,
        tlb::{self, Tlb},
    },
};
pub(crate) use registers::Register;
pub use segment::Segment;
pub(crate) use segment::SegmentName;

/// Why a handler did not simply complete its instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Halt {
    /// It raised the exception in [`Core::pending`], and changed nothing that executing it again would not repair.
    Exception,
    /// It made the exit in [`Core::exit`].
    Exit,
    /// An iteration of a repeated string instruction, or several ([`Core::iterations`]), are done and the instruction is to go on.
    Repeat,
}

/// What waits until one more instruction has retired (SDM 3A 6.8.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Shadow {
    /// Nothing does.
    #[default]
    None,
    /// After STI: interrupts.
    Interrupts,
    /// After MOV SS and POP SS: interrupts, traps and instruction breakpoints.
    Traps,
}

/// What a handler returns.
pub(crate) type Step = Result<(), Halt>;

/// How wide code is: CS.L and CS.D.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum CodeSize {
    /// 16-bit segments.
    Bits16 = 0,
    /// 32-bit segments.
    Bits32 = 1,
    /// 64-bit mode.
    Bits64 = 2,
}

// Control bits: SDM 3A 2.5 and 2.2.1.
pub(crate) const CR0_PE: u64 = 1 << 0;
pub(crate) const CR0_MP: u64 = 1 << 1;
pub(crate) const CR0_EM: u64 = 1 << 2;
pub(crate) const CR0_TS: u64 = 1 << 3;
pub(crate) const CR0_ET: u64 = 1 << 4;
pub(crate) const CR0_NE: u64 = 1 << 5;
pub(crate) const CR0_WP: u64 = 1 << 16;
pub(crate) const CR0_AM: u64 = 1 << 18;
pub(crate) const CR0_NW: u64 = 1 << 29;
pub(crate) const CR0_CD: u64 = 1 << 30;
pub(crate) const CR0_PG: u64 = 1 << 31;
pub(crate) const CR4_TSD: u64 = 1 << 2;
pub(crate) const CR4_DE: u64 = 1 << 3;
pub(crate) const CR4_PSE: u64 = 1 << 4;
pub(crate) const CR4_PAE: u64 = 1 << 5;
pub(crate) const CR4_PGE: u64 = 1 << 7;
pub(crate) const CR4_PCE: u64 = 1 << 8;
pub(crate) const CR4_OSFXSR: u64 = 1 << 9;
pub(crate) const CR4_OSXMMEXCPT: u64 = 1 << 10;
pub(crate) const CR4_OSXSAVE: u64 = 1 << 18;
pub(crate) const CR4_SMEP: u64 = 1 << 20;
pub(crate) const CR4_SMAP: u64 = 1 << 21;
pub(crate) const EFER_SCE: u64 = 1 << 0;
pub(crate) const EFER_LME: u64 = 1 << 8;
pub(crate) const EFER_LMA: u64 = 1 << 10;
pub(crate) const EFER_NXE: u64 = 1 << 11;

/// Descriptor table register.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct DescriptorTable {
    /// Linear address of the first descriptor.
    pub base: u64,
    /// Offset of the last byte.
    pub limit: u16,
}

/// Model-specific registers that are no more than storage, or whose effects other instructions look up (SDM 4, chapter 2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[allow(missing_docs, reason = "the manual's names, in lower case")]
pub struct Msrs {
    pub star: u64,
    pub lstar: u64,
    pub cstar: u64,
    pub fmask: u64,
    pub kernel_gs_base: u64,
    pub tsc_aux: u64,
    pub sysenter_cs: u64,
    pub sysenter_esp: u64,
    pub sysenter_eip: u64,
    pub pat: u64,
    pub misc_enable: u64,
    pub apic_base: u64,
    pub mtrr_def_type: u64,
    pub spec_ctrl: u64,
}

/// The x87 (SDM 1, chapter 8). MM0 to MM7 are the mantissas.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct X87 {
    /// Of the physical registers R0 to R7; ST(i) is R((TOP + i) mod 8).
    pub mantissa: [u64; 8],
    /// Sign and exponent of the physical registers.
    pub sign_exponent: [u16; 8],
    /// Control word.
    pub control: u16,
    /// Status word, TOP included.
    pub status: u16,
    /// Bit i is set if physical register i is not empty: FXSAVE's abridged tag word.
    pub in_use: u8,
    /// Address of the last instruction that was not a control instruction.
    pub last_instruction: u64,
    /// Address of its operand.
    pub last_data: u64,
    /// The low three bits of its first byte and its second byte.
    pub last_opcode: u16,
}

impl X87 {
    /// After FNINIT.
    pub(crate) const INITIAL: Self = Self {
        mantissa: [0; 8],
        sign_exponent: [0; 8],
        control: 0x37F,
        status: 0,
        in_use: 0,
        last_instruction: 0,
        last_data: 0,
        last_opcode: 0,
    };
}

/// Step of [`Core::epoch`]: room for [`Core::fetch_mode`] below it.
pub(crate) const EPOCH: u64 = 1 << 4;

/// Everything that an instruction can see or change.
pub(crate) struct Core {
    /// General registers, and two that addresses are computed with; see [`Register`].
    pub(crate) general: [u64; Register::COUNT],
    /// Between blocks: the next instruction. Within a block: where the block will end, until a branch changes it.
    pub(crate) rip: u64,
    pub(crate) flags: Flags,
    /// The block loop stops before the instruction with this index. A store that reaches into code or page tables lowers it.
    pub(crate) block_end: usize,
    /// Instructions and iterations that may still retire: a repeated string instruction looks here.
    pub(crate) budget: u64,
    /// How many iterations a repeated string instruction did before [`Halt::Repeat`], or at its end.
    pub(crate) iterations: u64,
    pub(crate) tlb: Tlb,
    /// What is added to an offset in 64-bit mode: the bases of FS and GS, and zeros.
    pub(crate) long_bases: [u64; SegmentName::COUNT],
    pub(crate) segments: [Segment; SegmentName::COUNT],
    pub(crate) ldtr: Segment,
    pub(crate) tr: Segment,
    pub(crate) gdtr: DescriptorTable,
    pub(crate) idtr: DescriptorTable,
    pub(crate) cr0: u64,
    pub(crate) cr2: u64,
    pub(crate) cr3: u64,
    pub(crate) cr4: u64,
    pub(crate) cr8: u64,
    pub(crate) xcr0: u64,
    pub(crate) efer: u64,
    /// PAE paging's four page-directory-pointer entries, loaded with CR3.
    pub(crate) pdpte: [u64; 4],
    /// DR0 to DR3, then unused, DR6 and DR7.
    pub(crate) debug: [u64; 8],
    pub(crate) msrs: Msrs,
    pub(crate) xmm: [u128; 16],
    /// Read and written by its methods alone: see [`crate::isa::simd::mxcsr`].
    pub(crate) mxcsr: Mxcsr,
    pub(crate) x87: X87,
    /// Derived by [`Self::update_mode`].
    pub(crate) cpl: u8,
    /// Derived.
    pub(crate) code_size: CodeSize,
    /// Derived: what decoded blocks and translations of fetches depend on, CPL 3 or not and the code size, below the epoch's bits.
    pub(crate) fetch_mode: u64,
    /// Derived: which bits of RSP the stack uses.
    pub(crate) stack_mask: u64,
    /// Derived: SSE instructions raise #UD or #NM.
    pub(crate) sse_unavailable: bool,
    /// Derived: whether a data breakpoint is armed.
    pub(crate) watching: bool,
    /// Derived: whether a breakpoint on instructions is armed.
    pub(crate) breakpoints_armed: bool,
    /// Whether the last instruction ran to its end, rather than fault or be interrupted by an exit that it will be repeated after.
    pub(crate) completed: bool,
    /// The instruction that is being executed does not trap although TF was set before it.
    pub(crate) untraced: bool,
    /// What is not taken before the next instruction has retired.
    pub(crate) shadow: Shadow,
    /// A #DB to deliver before the next instruction: what goes to DR6.
    pub(crate) pending_debug: u64,
    pub(crate) pending: Option<Exception>,
    pub(crate) exit: Option<(Exit, Completion)>,
    /// Answers to the accesses that the current instruction made so far, and how many of them were used up.
    pub(crate) answers: Vec<Answer>,
    pub(crate) answers_used: usize,
    /// Physical pages whose decoded code must go.
    pub(crate) stale_code: Vec<u64>,
    /// Pages that translations were read from.
    pub(crate) translation_pages: Vec<u64>,
    /// Changes whenever a translation or decoded code may have become invalid: a multiple of [`EPOCH`].
    pub(crate) epoch: u64,
    pub(crate) ram: Ram,
}

impl Core {
    /// Raises an exception: `return Err(core.raise(…))`.
    #[cold]
    pub(crate) fn raise(&mut self, exception: Exception) -> Halt {
        self.pending = Some(exception);
        Halt::Exception
    }

    /// #GP(0), the most frequent of all.
    #[cold]
    pub(crate) fn general_protection(&mut self) -> Halt {
        self.raise(Exception::general_protection(0))
    }

    /// #UD.
    #[cold]
    pub(crate) fn invalid_opcode(&mut self) -> Halt {
        self.raise(Exception::INVALID_OPCODE)
    }

    /// Makes an exit: `return Err(core.exit(…))`.
    #[cold]
    pub(crate) fn exit(&mut self, exit: Exit, completion: Completion) -> Halt {
        self.exit = Some((exit, completion));
        Halt::Exit
    }

    /// The next answer to an access of the current instruction, if it was made before.
    pub(crate) fn next_answer(&mut self) -> Option<Answer> {
        let answer = self.answers.get(self.answers_used).copied()?;
        self.answers_used += 1;
        Some(answer)
    }

    /// Whether external interrupts can be taken.
    pub(crate) fn accepts_interrupts(&self) -> bool {
        self.flags.system(flags::IF) != 0 && self.shadow == Shadow::None && self.pending_debug == 0
    }

    /// EFER.LMA: long mode, 64-bit or compatibility.
    #[inline(always)]
    pub(crate) fn long_mode(&self) -> bool {
        self.efer & EFER_LMA != 0
    }

    /// Whether the current code is 64-bit.
    #[inline(always)]
    pub(crate) fn is_64_bit(&self) -> bool {
        self.code_size == CodeSize::Bits64
    }

    /// #GP(0) unless at CPL 0.
    #[inline]
    pub(crate) fn require_supervisor(&mut self) -> Step {
        if self.cpl == 0 {
            Ok(())
        } else {
            Err(self.general_protection())
        }
    }

    /// Works out what is derived from CS, SS, CR0, CR4, EFER, EFLAGS.AC and DR7. To be called after any of them changed.
    pub(crate) fn update_mode(&mut self) {
        let cs = self.segment(SegmentName::Cs);
        let ss = self.segment(SegmentName::Ss);
        self.code_size = if self.long_mode() && cs.long() {
            CodeSize::Bits64
        } else if cs.default_big() {
            CodeSize::Bits32
        } else {
            CodeSize::Bits16
        };
        self.stack_mask = match (self.code_size, ss.default_big()) {
            (CodeSize::Bits64, _) => u64::MAX,
            (_, true) => 0xFFFF_FFFF,
            (_, false) => 0xFFFF,
        };
        self.cpl = ss.dpl();
        self.fetch_mode = u64::from(self.cpl == 3) << 2 | self.code_size as u64;
        self.sse_unavailable = self.cr0 & (CR0_EM | CR0_TS) != 0 || self.cr4 & CR4_OSFXSR == 0;
        self.mxcsr.collect();
        self.watching = self.armed(|kind| kind != 0);
        self.breakpoints_armed = self.armed(|kind| kind == 0);
        for name in [SegmentName::Fs, SegmentName::Gs] {
            self.long_bases[name as usize] = self.segment(name).base;
        }
        self.select_bank();
    }

    /// Chooses the translations for CPL, CR4.SMAP, CR0.AM and EFLAGS.AC.
    pub(crate) fn select_bank(&mut self) {
        let bank = if self.cpl == 3 {
            if self.cr0 & CR0_AM != 0 && self.flags.system(flags::AC) != 0 {
                tlb::USER_ALIGNED
            } else {
                tlb::USER
            }
        } else if self.cr4 & CR4_SMAP != 0 && self.flags.system(flags::AC) == 0 {
            tlb::SUPERVISOR
        } else {
            tlb::SUPERVISOR_ALL
        };
        self.tlb.select(bank);
    }

    /// Whether DR7 enables a breakpoint of such a kind (SDM 3B 17.2.4).
    fn armed(&self, of_kind: impl Fn(u64) -> bool) -> bool {
        let dr7 = self.debug[7];
        if dr7 & 0xFF == 0 {
            return false;
        }
        (0..4).any(|index| dr7 >> (index * 2) & 3 != 0 && of_kind(dr7 >> (16 + index * 4) & 3))
    }

    /// Forgets every translation. The pages that they were read from become ordinary ones again.
    pub(crate) fn flush_translations(&mut self) {
        self.tlb.clear();
        for page in std::mem::take(&mut self.translation_pages) {
            self.ram.unmark(page, crate::memory::ram::HAS_TRANSLATIONS);
        }
        self.epoch += EPOCH;
    }

    /// Ends the current block after the current instruction: something changed that the rest of it may depend on.
    pub(crate) fn end_block(&mut self) {
        self.block_end = 0;
    }
}
