//! Linear sweeps: decoding one instruction after the other.

use iced_x86::{Code, Decoder, DecoderOptions, Instruction as Decoded, OpKind};

use super::UntrappedSites;
use super::code::Section;

/// The longest x86 instruction (SDM 2A 2.3.11).
const INSTRUCTION_MAX: u64 = 15;

/// A valid instruction, as a sweep saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// Of its first byte, prefixes included.
    pub address: u64,
    /// In bytes, prefixes included.
    pub length: usize,
    code: Code,
}

impl Instruction {
    /// Address of the first byte after it.
    pub fn end(&self) -> u64 {
        self.address + self.length as u64
    }

    /// Whether it is `rdtsc`.
    pub fn is_rdtsc(&self) -> bool {
        self.code == Code::Rdtsc
    }

    /// Whether it is `rdtscp`.
    pub fn is_rdtscp(&self) -> bool {
        self.code == Code::Rdtscp
    }
}

/// A direct jump or call to somewhere close before or after a site.
#[derive(Clone, Copy, Debug)]
pub struct Jump {
    /// The instruction.
    pub from: u64,
    /// Its target.
    pub to: u64,
}

/// What a sweep of a whole section found.
#[derive(Default)]
pub struct SectionSweep {
    /// The section's sites, each with the instruction around it, if that is valid.
    pub seen: Vec<(u64, Option<Instruction>)>,
    /// Jumps that could lead into an instruction around a site of any section.
    pub jumps: Vec<Jump>,
    /// Instructions to warn of.
    pub untrapped: UntrappedSites,
}

/// Sweeps `section` from its first byte to its last. Of the sites in all sections, `all_sites`, those in `section` are
/// `sites`. Both are sorted.
pub fn section(section: &Section, sites: &[u64], all_sites: &[u64]) -> SectionSweep {
    let mut sweep = SectionSweep::default();
    let mut sites = sites.iter().copied().peekable();
    let mut decoder = Sweep::from(section, section.address);
    while let Some(decoded) = decoder.next() {
        while let Some(site) = sites.next_if(|site| *site < decoded.next_ip()) {
            sweep.seen.push((site, valid(decoded)));
        }
        if decoded.op0_kind() == OpKind::NearBranch64
            && is_close(decoded.near_branch_target(), all_sites)
        {
            sweep.jumps.push(Jump {
                from: decoded.ip(),
                to: decoded.near_branch_target(),
            });
        }
        count(&mut sweep.untrapped, decoded.code());
    }
    sweep
}

/// Sweeps that begin at functions. Sites must be asked for in rising order: what was decoded for one
/// is not decoded again for the next, or a hostile file could keep the loader busy for days.
pub struct FunctionSweep<'a> {
    section: &'a Section<'a>,
    start: u64,
    sweep: Sweep<'a>,
    /// The last instruction, or the address at which there is no valid one: that is the end.
    last: Option<Result<Instruction, u64>>,
}

impl<'a> FunctionSweep<'a> {
    /// Nothing is decoded yet.
    pub fn of(section: &'a Section<'a>) -> Self {
        Self {
            section,
            start: section.address,
            sweep: Sweep::from(section, section.address),
            last: None,
        }
    }

    /// Sweeps from `start` to the instruction around `site`. On its way every instruction must be valid; otherwise
    /// the answer is the address of the first that is not.
    pub fn instruction_at(&mut self, start: u64, site: u64) -> Result<Instruction, u64> {
        if start != self.start {
            *self = Self {
                start,
                sweep: Sweep::from(self.section, start),
                ..Self::of(self.section)
            };
        }
        loop {
            match self.last {
                Some(Ok(last)) if last.end() <= site => {}
                Some(known) => return known,
                None => {}
            }
            self.last = Some(
                self.sweep
                    .next()
                    .map_or(Err(site), |decoded| valid(decoded).ok_or(decoded.ip())),
            );
        }
    }
}

/// Decodes from an address on; of bytes that are no instruction it skips one, and tries again.
struct Sweep<'a> {
    decoder: Decoder<'a>,
    decoded: Decoded,
}

impl<'a> Sweep<'a> {
    fn from(section: &Section<'a>, start: u64) -> Self {
        let bytes = &section.bytes[section.offset_of(start)..];
        Self {
            decoder: Decoder::with_ip(64, bytes, start, DecoderOptions::NONE),
            decoded: Decoded::default(),
        }
    }

    fn next(&mut self) -> Option<&Decoded> {
        let (position, address) = (self.decoder.position(), self.decoder.ip());
        if !self.decoder.can_decode() {
            return None;
        }
        self.decoder.decode_out(&mut self.decoded);
        if self.decoded.is_invalid() {
            self.decoded.set_len(1);
            self.decoded.set_next_ip(address + 1);
            self.decoder.set_ip(address + 1);
            self.decoder
                .set_position(position + 1)
                .expect("a position inside the section");
        }
        Some(&self.decoded)
    }
}

fn valid(decoded: &Decoded) -> Option<Instruction> {
    (!decoded.is_invalid()).then(|| Instruction {
        address: decoded.ip(),
        length: decoded.len(),
        code: decoded.code(),
    })
}

/// Whether an instruction around one of `sites` (sorted) may have `target` in its middle.
fn is_close(target: u64, sites: &[u64]) -> bool {
    let first = sites.partition_point(|site| site.saturating_add(INSTRUCTION_MAX) < target);
    sites
        .get(first)
        .is_some_and(|site| *site < target.saturating_add(INSTRUCTION_MAX))
}

fn count(untrapped: &mut UntrappedSites, code: Code) {
    match code {
        Code::Rdrand_r16 | Code::Rdrand_r32 | Code::Rdrand_r64 => untrapped.rdrand += 1,
        Code::Rdseed_r16 | Code::Rdseed_r32 | Code::Rdseed_r64 => untrapped.rdseed += 1,
        Code::Rdpmc => untrapped.rdpmc += 1,
        _ => {}
    }
}
