//! Makes a kernel's time-stamp reads trap under KVM, which cannot hand RDTSC to user space.
//!
//! In: the bytes of an ELF file. Out: the same file, where each `rdtsc` (0F 31) is `in eax, 0xEE` and each
//! `rdtscp` (0F 01 F9) is `in eax, 0xEF; nop`, which take as many bytes and exit. What always holds: no byte that is
//! not certainly a part of such an instruction changes; where that is uncertain, the kernel is refused.
//!
//! Every occurrence of the two byte patterns in an executable section (by flag: `.text`, `.init.text`,
//! `.altinstr_replacement` and all others) is looked at from three sides:
//!
//! 1. a linear sweep of the whole section from its first byte on;
//! 2. a linear sweep from the nearest code symbol before it (from the section's start if there is none);
//! 3. the jumps and symbols that lead into the middle of the instruction that the sweeps saw there.
//!
//! Both sweeps must see the same valid instruction, the second without an invalid one on its way, and nothing may lead
//! into its middle. Then it is either the time-stamp read and is rewritten, or the pattern is part of
//! another instruction's immediate or displacement and is left alone.
//!
//! Not covered: code in data sections (the vDSO's image, which runs in user space) and code that the guest loads
//! or generates later.

mod code;
mod sweep;

#[cfg(test)]
mod tests;

use std::borrow::Cow;

use self::code::{Code, Section};
use self::sweep::{FunctionSweep, Instruction, Jump, SectionSweep};
use super::BootError;
use crate::machine::layout::{RDTSC_PORT, RDTSCP_PORT};

/// `in eax, imm8` (SDM 2A, "IN").
const IN_EAX_IMM8: u8 = 0xE5;
const NOP: u8 = 0x90;

/// A kernel whose time-stamp reads trap.
#[derive(Debug)]
pub struct Rewritten<'a> {
    /// The file's bytes; borrowed if there was nothing to rewrite.
    pub image: Cow<'a, [u8]>,
    /// How many instructions were rewritten.
    pub sites: usize,
    /// What else depends on the host.
    pub untrapped: UntrappedSites,
}

/// Instructions in a kernel's executable sections that read something of the host and are not rewritten:
/// the CPU model must hide them, or the guest be told not to use them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UntrappedSites {
    /// `rdrand`.
    pub rdrand: usize,
    /// `rdseed`.
    pub rdseed: usize,
    /// `rdpmc`.
    pub rdpmc: usize,
}

/// Bytes that go into the file in the place of as many others.
struct Patch {
    file_offset: usize,
    bytes: Vec<u8>,
}

/// Rewrites the time-stamp reads in the executable sections of the ELF file `image`.
pub fn rewrite(image: &[u8]) -> Result<Rewritten<'_>, BootError> {
    let code = Code::parse(image)?;
    let sites: Vec<Vec<u64>> = code.sections().iter().map(patterns).collect();
    let mut all_sites = sites.concat();
    all_sites.sort_unstable();
    let sweeps: Vec<_> = (code.sections().iter().zip(&sites))
        .map(|(section, sites)| sweep::section(section, sites, &all_sites))
        .collect();
    let mut jumps: Vec<Jump> = sweeps
        .iter()
        .flat_map(|sweep| sweep.jumps.iter().copied())
        .collect();
    jumps.sort_unstable_by_key(|jump| jump.to);

    let mut patches = Vec::new();
    for (section, sweep) in code.sections().iter().zip(&sweeps) {
        let mut functions = FunctionSweep::of(section);
        for (site, seen) in &sweep.seen {
            let instruction =
                judge(&code, section, &mut functions, *site, *seen, &jumps).map_err(|why| {
                    BootError::AmbiguousSite {
                        address: *site,
                        symbol: code.describe(section, *site),
                        why,
                    }
                })?;
            patches.extend(patch(section, instruction));
        }
    }
    let mut image = Cow::Borrowed(image);
    for patch in &patches {
        image.to_mut()[patch.file_offset..][..patch.bytes.len()].copy_from_slice(&patch.bytes);
    }
    Ok(Rewritten {
        image,
        sites: patches.len(),
        untrapped: total(&sweeps),
    })
}

/// Addresses at which the bytes of a `rdtsc` or `rdtscp` stand, whatever they mean there.
fn patterns(section: &Section) -> Vec<u64> {
    let rest = |at: usize| &section.bytes[at + 1..];
    (0..section.bytes.len())
        .filter(|at| {
            section.bytes[*at] == 0x0F && matches!(rest(*at), [0x31, ..] | [0x01, 0xF9, ..])
        })
        .map(|at| section.address + at as u64)
        .collect()
}

/// The instruction that certainly stands at `site`, or why that is not certain. `jumps` are sorted by target.
fn judge(
    code: &Code,
    section: &Section,
    functions: &mut FunctionSweep,
    site: u64,
    from_section: Option<Instruction>,
    jumps: &[Jump],
) -> Result<Instruction, String> {
    let start = code.symbol_before(section, site).unwrap_or(section.address);
    let from_symbol = functions.instruction_at(start, site).map_err(|invalid| {
        format!("there is no valid instruction at {invalid:#x}, on the way to it from {start:#x}")
    })?;
    if from_section != Some(from_symbol) {
        return Err(format!(
            "decoded from {start:#x} on, they are in the instruction at {:#x}; decoded from the section's start, {:#x}, they are not",
            from_symbol.address, section.address
        ));
    }
    let inside = from_symbol.address + 1..from_symbol.end();
    let first_jump = jumps.partition_point(|jump| jump.to < inside.start);
    if let Some(jump) = jumps
        .get(first_jump)
        .filter(|jump| inside.contains(&jump.to))
    {
        return Err(format!(
            "a jump at {:#x} leads to {:#x}, into the middle of an instruction",
            jump.from, jump.to
        ));
    }
    if let Some(symbol) = code
        .symbol_before(section, from_symbol.end() - 1)
        .filter(|symbol| inside.contains(symbol))
    {
        return Err(format!(
            "a symbol at {symbol:#x} is in the middle of an instruction"
        ));
    }
    Ok(from_symbol)
}

/// What replaces `instruction`; nothing, if it reads no time stamp. Prefixes, which mean nothing to
/// the time-stamp reads but much to `in`, become NOPs.
fn patch(section: &Section, instruction: Instruction) -> Option<Patch> {
    let opcode = if instruction.is_rdtsc() {
        vec![IN_EAX_IMM8, port(RDTSC_PORT)]
    } else if instruction.is_rdtscp() {
        vec![IN_EAX_IMM8, port(RDTSCP_PORT), NOP]
    } else {
        return None;
    };
    let mut bytes = vec![NOP; instruction.length - opcode.len()];
    bytes.extend(opcode);
    Some(Patch {
        file_offset: section.file_offset_of(instruction.address),
        bytes,
    })
}

fn port(port: u16) -> u8 {
    u8::try_from(port).expect("an immediate port is below 256")
}

fn total(sweeps: &[SectionSweep]) -> UntrappedSites {
    sweeps
        .iter()
        .fold(UntrappedSites::default(), |total, sweep| UntrappedSites {
            rdrand: total.rdrand + sweep.untrapped.rdrand,
            rdseed: total.rdseed + sweep.untrapped.rdseed,
            rdpmc: total.rdpmc + sweep.untrapped.rdpmc,
        })
}
