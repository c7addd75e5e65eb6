//! The next instruction: fetched, decoded, and how it is to be stepped over.
//!
//! In: registers and memory. Out: an [`Instruction`], its [`Manner`], and the exceptions it may raise. Looking changes nothing that the guest could see.

use iced_x86::{
    Code, CpuidFeature, Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic, OpKind,
};
use kvm_bindings::{kvm_regs, kvm_sregs};
use vm_memory::{Bytes, GuestAddress};

use crate::{engine::kvm::paging, machine::GuestMemory};

/// SDM 2A 2.3.11.
const MAX_INSTRUCTION_BYTES: usize = 15;
const PAGE_BYTES: u64 = 4096;
/// EFER: SYSCALL enable.
const EFER_SCE: u64 = 1 << 0;
/// CR0: the x87 is emulated, or its state is another task's.
const CR0_EM_TS: u64 = 1 << 2 | 1 << 3;
const RFLAGS_AC: u64 = 1 << 18;
const RFLAGS_ZF: u64 = 1 << 6;

/// The exceptions by their vectors (SDM 3A, table 6-1).
pub mod vector {
    pub const DIVIDE: u8 = 0;
    pub const BREAKPOINT: u8 = 3;
    pub const OVERFLOW: u8 = 4;
    pub const BOUND: u8 = 5;
    pub const INVALID_OPCODE: u8 = 6;
    pub const NO_FPU: u8 = 7;
    pub const DOUBLE_FAULT: u8 = 8;
    pub const NOT_PRESENT: u8 = 11;
    pub const STACK: u8 = 12;
    pub const PROTECTION: u8 = 13;
    pub const PAGE_FAULT: u8 = 14;
    pub const X87: u8 = 16;
    pub const ALIGNMENT: u8 = 17;
    pub const SIMD: u8 = 19;
}

/// Where the processor stands.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    pub regs: kvm_regs,
    pub sregs: kvm_sregs,
}

impl Place {
    /// Current privilege level.
    pub fn level(&self) -> u8 {
        self.sregs.cs.selector as u8 & 3
    }

    /// The linear address of an offset in the code segment.
    pub fn linear(&self, rip: u64) -> u64 {
        if self.sregs.cs.l != 0 {
            rip
        } else {
            u64::from((self.sregs.cs.base.wrapping_add(rip)) as u32)
        }
    }

    fn bits(&self) -> u32 {
        match (self.sregs.cs.l, self.sregs.cs.db) {
            (0, 0) => 16,
            (0, _) => 32,
            _ => 64,
        }
    }

    /// Decodes the next instruction; `None` if its bytes are not mapped.
    pub fn fetch(&self, memory: &GuestMemory) -> Option<Instruction> {
        let mut bytes = [0; MAX_INSTRUCTION_BYTES];
        let begin = self.linear(self.regs.rip);
        let on_first = (PAGE_BYTES - begin % PAGE_BYTES).min(bytes.len() as u64) as usize;
        read(memory, &self.sregs, begin, &mut bytes[..on_first])?;
        let next_page = begin.wrapping_add(on_first as u64);
        let there = if read(memory, &self.sregs, next_page, &mut bytes[on_first..]).is_some() {
            bytes.len()
        } else {
            on_first
        };
        let mut decoder = Decoder::with_ip(
            self.bits(),
            &bytes[..there],
            self.regs.rip,
            DecoderOptions::NONE,
        );
        let instruction = decoder.decode();
        // What lacks bytes is a page fault, not an invalid opcode.
        let cut = decoder.last_error() == iced_x86::DecoderError::NoMoreBytes;
        (!cut).then_some(instruction)
    }
}

/// Reads `bytes.len()` bytes that do not cross a page.
pub fn read(memory: &GuestMemory, sregs: &kvm_sregs, linear: u64, bytes: &mut [u8]) -> Option<()> {
    let physical = paging::physical(memory, sregs, linear)?;
    memory.read_slice(bytes, GuestAddress(physical)).ok()
}

/// A repeated string instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repetition {
    /// Bits of RCX that count (SDM 2B, REP).
    mask: u64,
    /// REPE and REPNE of CMPS and SCAS end with this ZF.
    ends_with_zf: Option<bool>,
    /// INS and OUTS: each iteration is an exit.
    pub ports: bool,
}

impl Repetition {
    /// Iterations to go.
    pub fn count(&self, regs: &kvm_regs) -> u64 {
        regs.rcx & self.mask
    }

    /// Sets them.
    pub fn set(&self, regs: &mut kvm_regs, count: u64) {
        regs.rcx = match self.mask {
            0xFFFF => regs.rcx & !self.mask | count,
            // 32-bit results fill the register.
            _ => count,
        };
    }

    /// Whether the iteration that left these flags was the last one, whatever RCX says.
    pub fn ended(&self, regs: &kvm_regs) -> bool {
        self.ends_with_zf
            .is_some_and(|zf| (regs.rflags & RFLAGS_ZF != 0) == zf)
    }
}

/// How an instruction is stepped over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// As it is.
    Plain,
    /// HLT: run.
    Halt,
    /// SYSCALL: done here.
    SystemCall,
    /// To an address that is known beforehand: run, with a breakpoint there.
    Return(Return),
    /// Shortened to as many iterations as are wanted.
    Repeated(Repetition),
    /// PUSHF: what it pushed has the trap flag of whoever steps.
    PushFlags,
    /// POPF: it may set the trap flag.
    PopFlags,
}

/// IRET or SYSRET.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Return {
    /// IRET; operands of so many bytes.
    Interrupt {
        /// 2, 4 or 8.
        bytes: u8,
    },
    /// SYSRET; whether to 64-bit code.
    SystemCall {
        /// REX.W.
        wide: bool,
    },
}

/// See [`Manner`].
pub fn manner(place: &Place, instruction: &Instruction) -> Manner {
    match instruction.code() {
        Code::Hlt => Manner::Halt,
        Code::Syscall if place.sregs.cs.l != 0 && place.sregs.efer & EFER_SCE != 0 => {
            Manner::SystemCall
        }
        Code::Iretw => Manner::Return(Return::Interrupt { bytes: 2 }),
        Code::Iretd => Manner::Return(Return::Interrupt { bytes: 4 }),
        Code::Iretq => Manner::Return(Return::Interrupt { bytes: 8 }),
        Code::Sysretd => Manner::Return(Return::SystemCall { wide: false }),
        Code::Sysretq => Manner::Return(Return::SystemCall { wide: true }),
        Code::Pushfw | Code::Pushfd | Code::Pushfq => Manner::PushFlags,
        Code::Popfw | Code::Popfd | Code::Popfq => Manner::PopFlags,
        _ => repetition(instruction).map_or(Manner::Plain, Manner::Repeated),
    }
}

fn repetition(instruction: &Instruction) -> Option<Repetition> {
    let repeats = instruction.has_rep_prefix() || instruction.has_repne_prefix();
    if !repeats || !instruction.is_string_instruction() {
        return None;
    }
    let compares = matches!(
        instruction.mnemonic(),
        Mnemonic::Cmpsb
            | Mnemonic::Cmpsw
            | Mnemonic::Cmpsd
            | Mnemonic::Cmpsq
            | Mnemonic::Scasb
            | Mnemonic::Scasw
            | Mnemonic::Scasd
            | Mnemonic::Scasq
    );
    let ports = matches!(
        instruction.mnemonic(),
        Mnemonic::Insb
            | Mnemonic::Insw
            | Mnemonic::Insd
            | Mnemonic::Outsb
            | Mnemonic::Outsw
            | Mnemonic::Outsd
    );
    Some(Repetition {
        mask: address_mask(instruction),
        ends_with_zf: compares.then(|| instruction.has_repne_prefix()),
        ports,
    })
}

/// The address size shows in the operands: [RSI] and [RDI], [ESI] and [EDI], or [SI] and [DI].
fn address_mask(instruction: &Instruction) -> u64 {
    let kinds = (0..instruction.op_count()).map(|operand| instruction.op_kind(operand));
    for kind in kinds {
        match kind {
            OpKind::MemorySegSI | OpKind::MemorySegDI | OpKind::MemoryESDI => return 0xFFFF,
            OpKind::MemorySegESI | OpKind::MemorySegEDI | OpKind::MemoryESEDI => {
                return 0xFFFF_FFFF;
            }
            _ => {}
        }
    }
    u64::MAX
}

/// Where control may be after the instruction, besides in a handler; `None` where that is not known beforehand.
pub fn successors(instruction: &Instruction) -> Option<[u64; 2]> {
    let next = instruction.next_ip();
    match instruction.flow_control() {
        FlowControl::Next | FlowControl::XbeginXabortXend | FlowControl::Interrupt => {
            Some([next, next])
        }
        FlowControl::ConditionalBranch | FlowControl::UnconditionalBranch | FlowControl::Call
            if instruction.op0_kind() != OpKind::FarBranch16
                && instruction.op0_kind() != OpKind::FarBranch32 =>
        {
            Some([next, instruction.near_branch_target()])
        }
        _ => None,
    }
}

/// The exceptions that the instruction may raise; those that only some instructions raise come before those that few programs rely on.
/// `None` is an instruction that could not be fetched.
pub fn exceptions(place: &Place, instruction: Option<&Instruction>) -> [u8; 4] {
    use vector::*;
    let Some(instruction) = instruction else {
        return [PAGE_FAULT, PROTECTION, INVALID_OPCODE, STACK];
    };
    let (third, fourth) = match instruction.mnemonic() {
        Mnemonic::Div | Mnemonic::Idiv | Mnemonic::Aam => (STACK, DIVIDE),
        Mnemonic::Int3 => (STACK, BREAKPOINT),
        Mnemonic::Int => (NOT_PRESENT, instruction.immediate8()),
        Mnemonic::Into => (STACK, OVERFLOW),
        Mnemonic::Bound => (INVALID_OPCODE, BOUND),
        _ if loads_segment(instruction) => (STACK, NOT_PRESENT),
        _ if place.level() == 3 && place.regs.rflags & RFLAGS_AC != 0 => (STACK, ALIGNMENT),
        _ => match float_exception(place, instruction) {
            Some(exception) => (INVALID_OPCODE, exception),
            None => (STACK, INVALID_OPCODE),
        },
    };
    [PAGE_FAULT, PROTECTION, third, fourth]
}

fn loads_segment(instruction: &Instruction) -> bool {
    let to_segment = instruction.op0_kind() == OpKind::Register
        && instruction.op0_register().is_segment_register()
        && instruction.mnemonic() != Mnemonic::Push;
    to_segment
        || matches!(
            instruction.mnemonic(),
            Mnemonic::Lss
                | Mnemonic::Lds
                | Mnemonic::Les
                | Mnemonic::Lfs
                | Mnemonic::Lgs
                | Mnemonic::Ltr
                | Mnemonic::Lldt
                | Mnemonic::Retf
        )
        || matches!(
            instruction.op0_kind(),
            OpKind::FarBranch16 | OpKind::FarBranch32
        )
}

/// What x87, MMX and SSE instructions raise besides.
fn float_exception(place: &Place, instruction: &Instruction) -> Option<u8> {
    use CpuidFeature::{FPU, FPU287, FPU387, MMX, SSE, SSE2, SSE3, SSE4_1, SSE4_2, SSSE3};
    let of = |features: &[CpuidFeature]| {
        let its = instruction.cpuid_features();
        its.iter().any(|feature| features.contains(feature))
    };
    let exception = if of(&[FPU, FPU287, FPU387, MMX]) {
        vector::X87
    } else if of(&[SSE, SSE2, SSE3, SSSE3, SSE4_1, SSE4_2]) {
        vector::SIMD
    } else {
        return None;
    };
    let switched_off = place.sregs.cr0 & CR0_EM_TS != 0;
    Some(if switched_off {
        vector::NO_FPU
    } else {
        exception
    })
}
