//! What each processor can count exactly, and how late it tells.
//!
//! Conditional branches that retired: of all events the one that processors are exact about, which is why the debugger rr counts them too. A count of
//! *instructions* is not: processors add interrupts and faults to it, and an instruction that leaves the guest is counted or not, by model. Besides,
//! a branch is never emulated: what KVM or the VMM executes in the guest's place does not have to be added.
//!
//! The price: a position between two exits is the first instruction boundary after so many conditional branches. Interrupts can land there and nowhere else. A guest
//! that computes without any is interrupted at exits only.
//!
//! Events: Intel's *Performance Monitoring Events* by model (`BR_INST_RETIRED.COND`, at first called `.CONDITIONAL`); AMD's *Processor Programming
//! References* of families 17h to 1Ah, PMCx0D1. How late their interrupts come no manual says: these are the margins that rr has found over the years
//! (its `src/PerfCounters.cc`), for a program and not for a guest. Of AMD's it says that they are exceeded in rare cases.

/// A counter that some processor has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BranchCounter {
    /// Event and unit mask, as in the low 16 bits of IA32_PERFEVTSELx.
    pub event: u64,
    /// Its interrupt comes fewer events late than this.
    pub margin: u64,
    /// The clock's name: two processors that count alike have the same.
    pub clock: &'static str,
}

/// How the names of these clocks begin.
pub const CLOCKS: &str = "conditional-branches";
const INTEL: &str = "conditional-branches-intel";
const AMD: &str = "conditional-branches-amd";

impl BranchCounter {
    /// That of the processor which `/proc/cpuinfo` describes, if it is known.
    #[must_use]
    pub fn of(cpuinfo: &str) -> Option<Self> {
        let field = |name: &str| {
            let mut lines = cpuinfo.lines().filter_map(|line| line.split_once(':'));
            let found = lines.find(|(key, _)| key.trim() == name);
            found.map(|(_, value)| value.trim().to_owned())
        };
        let number = |name| field(name)?.parse::<u32>().ok();
        match (field("vendor_id")?.as_str(), number("cpu family")?) {
            ("GenuineIntel", 6) => Self::of_intel(number("model")?),
            // Zen to Zen 5.
            ("AuthenticAMD", 0x17 | 0x19 | 0x1A) => Some(Self {
                event: 0x00D1,
                margin: 10_000,
                clock: AMD,
            }),
            _ => None,
        }
    }

    fn of_intel(model: u32) -> Option<Self> {
        let (event, margin) = match model {
            // Silvermont, Airmont, Goldmont, Goldmont Plus, Tremont.
            0x37 | 0x4C | 0x4D | 0x5C | 0x5F | 0x7A | 0x9C => (0x7EC4, 100),
            // Nehalem, Westmere, Sandy Bridge, Ivy Bridge, Haswell, Broadwell, Skylake, Kaby Lake, Comet Lake.
            0x1A | 0x1E | 0x2E | 0x25 | 0x2C | 0x2F | 0x2A | 0x2D | 0x3A | 0x3E | 0x3C | 0x3F
            | 0x45 | 0x46 | 0x3D | 0x47 | 0x4F | 0x56 | 0x4E | 0x55 | 0x5E | 0x8E | 0x9E | 0xA5
            | 0xA6 => (0x01C4, 100),
            // Ice Lake, Tiger Lake, Rocket Lake.
            0x6A | 0x6C | 0x7D | 0x7E | 0x8C | 0x8D | 0xA7 => (0x11C4, 100),
            // Alder Lake, Raptor Lake, Sapphire Rapids, Emerald Rapids.
            0x97 | 0x9A | 0xB7 | 0xBA | 0xBF | 0x8F | 0xCF => (0x11C4, 125),
            _ => return None,
        };
        Some(Self {
            event,
            margin,
            clock: INTEL,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(vendor: &str, family: u32, model: u32) -> Option<BranchCounter> {
        BranchCounter::of(&format!(
            "processor\t: 0\nvendor_id\t: {vendor}\ncpu family\t: {family}\nmodel\t\t: {model}\nmodel name\t: it : has a name\n"
        ))
    }

    #[test]
    fn processors_are_told_apart_by_vendor_family_and_model() {
        let skylake = of("GenuineIntel", 6, 0x55).expect("it is known");
        let ice_lake = of("GenuineIntel", 6, 0x6A).expect("it is known");
        let zen = of("AuthenticAMD", 0x19, 1).expect("it is known");
        assert_eq!((skylake.event, skylake.margin), (0x01C4, 100));
        assert_eq!((ice_lake.event, ice_lake.clock), (0x11C4, skylake.clock));
        assert_eq!((zen.event, zen.margin), (0xD1, 10_000));
        assert_ne!(
            zen.clock, skylake.clock,
            "what one counts, the other may not"
        );
        for unknown in [
            of("GenuineIntel", 6, 0xFF),
            of("GenuineIntel", 15, 2),
            of("AuthenticAMD", 0x15, 1),
            of("Somebody", 6, 0x55),
            BranchCounter::of(""),
        ] {
            assert_eq!(unknown, None);
        }
    }
}
