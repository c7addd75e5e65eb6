//! Instructions about the processor itself: HLT, CPUID, RDTSC, RDTSCP, RDPMC, SWAPGS, UD0 to UD2, and those that only hint.

use iced_x86::{Code, Instruction, Mnemonic};

use crate::{
    cpu::{CR4_OSXSAVE, CR4_PCE, CR4_TSD, Core, Register, SegmentName, Step},
    decode::op::{Op, Selected},
    exit::{Completion, Exit},
    memory::Access,
    model,
};

fn hlt(core: &mut Core, _op: &Op) -> Step {
    core.require_supervisor()?;
    Err(core.exit(Exit::Halt, Completion::Retired))
}

fn cpuid(core: &mut Core, _op: &Op) -> Step {
    let (leaf, subleaf) = (core.get(Register::Rax), core.get(Register::Rcx));
    let [a, b, mut c, d] = model::cpuid(leaf, subleaf);
    if leaf == 1 && core.cr4 & CR4_OSXSAVE != 0 {
        c |= model::OSXSAVE;
    }
    core.put(Register::Rax, a);
    core.put(Register::Rbx, b);
    core.put(Register::Rcx, c);
    core.put(Register::Rdx, d);
    Ok(())
}

fn read_time(core: &mut Core, with_aux: bool) -> Step {
    if core.cpl != 0 && core.cr4 & CR4_TSD != 0 {
        return Err(core.general_protection());
    }
    Err(core.exit(Exit::TscRead { with_aux }, Completion::TimeStamp))
}

fn rdtsc(core: &mut Core, _op: &Op) -> Step {
    read_time(core, false)
}

fn rdtscp(core: &mut Core, _op: &Op) -> Step {
    read_time(core, true)
}

/// There are two general counters, as on every processor of the family since the Pentium, and they never count.
fn rdpmc(core: &mut Core, _op: &Op) -> Step {
    if (core.cpl != 0 && core.cr4 & CR4_PCE == 0) || core.get::<u32>(Register::Rcx) > 1 {
        return Err(core.general_protection());
    }
    core.put_wide_accumulator(0);
    Ok(())
}

fn swapgs(core: &mut Core, _op: &Op) -> Step {
    if !core.is_64_bit() {
        return Err(core.invalid_opcode());
    }
    core.require_supervisor()?;
    let gs = SegmentName::Gs as usize;
    std::mem::swap(&mut core.msrs.kernel_gs_base, &mut core.segments[gs].base);
    core.long_bases[gs] = core.segments[gs].base;
    Ok(())
}

/// Fences have nothing to order, hints nothing to improve.
#[allow(clippy::unnecessary_wraps, reason = "handlers can fail")]
fn nothing(_core: &mut Core, _op: &Op) -> Step {
    Ok(())
}

/// CLFLUSH: no cache to flush, but the address is checked as a load's is.
fn clflush(core: &mut Core, op: &Op) -> Step {
    let linear = core.linear(op, 1, Access::Read)?;
    core.probe_read(linear, 1, op.segment)
}

/// Finds the handler for an instruction of this file.
pub(super) fn select(instruction: &Instruction) -> Option<Selected> {
    match instruction.code() {
        Code::Hlt => Selected::last(hlt),
        Code::Cpuid => Selected::anywhere(cpuid),
        Code::Rdtsc => Selected::last(rdtsc),
        Code::Rdtscp => Selected::last(rdtscp),
        Code::Rdpmc => Selected::anywhere(rdpmc),
        Code::Swapgs => Selected::anywhere(swapgs),
        Code::Clflush_m8 => Selected::anywhere(clflush),
        _ if only_hints(instruction.mnemonic()) => Selected::anywhere(nothing),
        // UD0, UD1, UD2 and whatever CPUID does not announce: #UD, as for every instruction that nobody knows.
        _ => None,
    }
}

/// Instructions without effect, among them those that a processor without their feature takes for NOPs because their encodings are
/// reserved for hints: ENDBR, RDSSP, PREFETCHW, CLDEMOTE.
fn only_hints(mnemonic: Mnemonic) -> bool {
    matches!(
        mnemonic,
        Mnemonic::Nop
            | Mnemonic::Reservednop
            | Mnemonic::Pause
            | Mnemonic::Endbr32
            | Mnemonic::Endbr64
            | Mnemonic::Rdsspd
            | Mnemonic::Rdsspq
            | Mnemonic::Lfence
            | Mnemonic::Mfence
            | Mnemonic::Sfence
            | Mnemonic::Cldemote
            | Mnemonic::Prefetchnta
            | Mnemonic::Prefetcht0
            | Mnemonic::Prefetcht1
            | Mnemonic::Prefetcht2
            | Mnemonic::Prefetch
            | Mnemonic::Prefetchw
            | Mnemonic::Prefetchwt1
            | Mnemonic::Prefetchit0
            | Mnemonic::Prefetchit1
    )
}

#[cfg(test)]
#[path = "machine_tests.rs"]
mod tests;
