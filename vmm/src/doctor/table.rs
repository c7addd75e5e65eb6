//! A diagnosis for people.

use std::fmt;

use super::{Diagnosis, Speed};
use crate::{
    engine::kvm::facts::{KvmFacts, Virtualisation},
    host::survey::Probe,
};

/// Width of the first column.
const LABEL_WIDTH: usize = 22;

impl fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let facts = &self.facts;
        let mut row = |label: &str, value: String| writeln!(f, "{label:LABEL_WIDTH$}{value}");
        row("KVM", kvm(&facts.kvm))?;
        row("kernel code on KVM", speed(&facts.speed.kvm))?;
        row("kernel code in soft", speed(&facts.speed.soft))?;
        row("counter: instructions", probe(&facts.counters.instructions))?;
        let branches = probe(&facts.counters.conditional_branches);
        row("counter: branches", branches)?;
        let clocks = &self.clocks;
        row("--count exits, step", probe(&clocks.exits))?;
        let proven = if clocks.hardware_is_proven {
            ""
        } else {
            "; never run on hardware yet: only with a simulated counter"
        };
        let hardware = probe(&clocks.hardware) + proven;
        row("--count hardware", hardware)?;
        row("tap", probe(&facts.network.tap))?;
        row("network namespaces", probe(&facts.network.namespaces))?;
        writeln!(
            f,
            "\n--engine auto takes {}: {}",
            self.auto.engine, self.auto.why
        )?;
        self.advice
            .iter()
            .try_for_each(|advice| writeln!(f, "  - {advice}"))
    }
}

fn kvm(facts: &KvmFacts) -> String {
    let kind = match facts.virtualisation {
        Virtualisation::Vmx => "VMX",
        Virtualisation::Svm => "SVM",
        Virtualisation::NestedVmx => "VMX, nested",
        Virtualisation::NestedSvm => "SVM, nested",
        Virtualisation::Pvm => "kvm-pvm, without the processor's help",
        Virtualisation::None => "no virtualisation that is known",
    };
    match facts.api_version {
        Some(version) => format!("usable, API {version}, {kind}"),
        None => format!("{}; {kind}", probe(&facts.device)),
    }
}

fn speed(speed: &Speed) -> String {
    match speed {
        Speed::Mips(mips) => format!("{mips:.1} million instructions a second"),
        Speed::Unusable(why) => format!("unusable: {why}"),
    }
}

fn probe(probe: &Probe) -> String {
    match &probe.problem {
        None => "usable".to_owned(),
        Some(problem) => format!("unusable: {problem}"),
    }
}
