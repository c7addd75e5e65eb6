//! What this host can do for lockstep, which engine `--engine auto` takes, and what would make it better.
//!
//! ```text
//!  engine::kvm::facts, host::survey ──┐
//!                                     ├─► Facts ──► Verdict::of ──► Diagnosis: a table, or JSON
//!  speed::measure (each engine) ──────┘             (pure)
//! ```

pub mod speed;
mod table;

use serde::Serialize;

use crate::{
    engine::{
        EngineKind,
        kvm::facts::{self, KvmFacts, Virtualisation},
    },
    host::{
        survey::{self, CounterFacts, NetworkFacts, Probe},
        with_causes,
    },
};

/// KVM is taken if it runs kernel code so many times as fast as the software CPU. Below that it does not run it on the processor; and the
/// software CPU lets interrupts land at exact instructions, needs no particular guest, and differs from no other host.
const WORTH_IT: f64 = 2.0;

/// Speed of an engine, or why it cannot be used.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Speed {
    /// Million instructions of guest kernel code a second.
    Mips(f64),
    /// Not here.
    Unusable(String),
}

impl Speed {
    /// Measures an engine.
    #[must_use]
    pub fn measure(kind: EngineKind) -> Self {
        match speed::measure(kind) {
            Ok(mips) => Self::Mips(mips),
            Err(error) => Self::Unusable(with_causes(&error)),
        }
    }
}

/// The speed of both engines.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Speeds {
    /// KVM.
    pub kvm: Speed,
    /// The software CPU.
    pub soft: Speed,
}

impl Speeds {
    /// Measures both.
    #[must_use]
    pub fn measure() -> Self {
        Self {
            kvm: Speed::measure(EngineKind::Kvm),
            soft: Speed::measure(EngineKind::Soft),
        }
    }
}

/// An engine, and the reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Choice {
    /// What runs the guest.
    pub engine: EngineKind,
    /// In a sentence.
    pub why: String,
}

/// What `--engine auto` takes.
#[must_use]
pub fn choose(speeds: &Speeds) -> Choice {
    let (engine, why) = match (&speeds.kvm, &speeds.soft) {
        (Speed::Mips(kvm), Speed::Mips(soft)) if *kvm >= WORTH_IT * soft => (
            EngineKind::Kvm,
            format!(
                "KVM runs guest kernel code {:.0} times as fast as the software CPU",
                kvm / soft
            ),
        ),
        (Speed::Mips(kvm), Speed::Mips(soft)) => (
            EngineKind::Soft,
            format!(
                "KVM does not run guest kernel code at the processor's speed here ({kvm:.1} million instructions a second, the software CPU {soft:.1})"
            ),
        ),
        (Speed::Unusable(why), _) => (EngineKind::Soft, format!("KVM cannot be used: {why}")),
        (Speed::Mips(_), Speed::Unusable(why)) => (
            EngineKind::Kvm,
            format!("the software CPU cannot be used: {why}"),
        ),
    };
    Choice { engine, why }
}

/// All that was found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Facts {
    /// `/dev/kvm`.
    pub kvm: KvmFacts,
    /// Hardware counters.
    pub counters: CounterFacts,
    /// The engines' speed.
    pub speed: Speeds,
    /// Tap and namespaces.
    pub network: NetworkFacts,
}

impl Facts {
    /// Looks, tries and measures; some 50 ms.
    #[must_use]
    pub fn gather() -> Self {
        Self {
            kvm: facts::survey(),
            counters: survey::counters(),
            speed: Speeds::measure(),
            network: survey::network(),
        }
    }
}

/// What KVM can count here (`--count`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Clocks {
    /// Exits alone.
    pub exits: Probe,
    /// Every instruction, by stepping over each.
    pub step: Probe,
    /// Conditional branches, by the processor's counter.
    pub hardware: Probe,
    /// Whether counting by hardware has ever been run where there is a counter.
    pub hardware_is_proven: bool,
}

impl Clocks {
    /// By what was found.
    #[must_use]
    pub fn of(kvm: &KvmFacts, counters: &CounterFacts) -> Self {
        let hardware = if !kvm.device.usable {
            kvm.device.clone()
        } else if kvm.virtualisation == Virtualisation::Pvm {
            Probe::problem("kvm-pvm emulates guest kernel code, which no counter sees")
        } else {
            counters.conditional_branches.clone()
        };
        Self {
            exits: kvm.device.clone(),
            step: kvm.device.clone(),
            hardware,
            hardware_is_proven: false,
        }
    }
}

/// Facts and what follows from them.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Diagnosis {
    /// What was found.
    #[serde(flatten)]
    pub facts: Facts,
    /// What `--engine auto` takes.
    pub auto: Choice,
    /// What KVM can count.
    pub clocks: Clocks,
    /// What to install or allow for more, a sentence each.
    pub advice: Vec<String>,
}

impl Diagnosis {
    /// What follows from `facts`.
    #[must_use]
    pub fn of(facts: Facts) -> Self {
        Self {
            auto: choose(&facts.speed),
            clocks: Clocks::of(&facts.kvm, &facts.counters),
            advice: advice(&facts),
            facts,
        }
    }
}

fn advice(facts: &Facts) -> Vec<String> {
    let mut advice: Vec<&str> = Vec::new();
    let kvm = &facts.kvm;
    if !kvm.device.usable {
        advice.push(match (kvm.present, kvm.virtualisation) {
            (true, _) => "Let this user read and write /dev/kvm: add it to the group kvm, or run as root",
            (false, Virtualisation::Vmx | Virtualisation::NestedVmx) => "Load KVM: modprobe kvm_intel",
            (false, Virtualisation::Svm | Virtualisation::NestedSvm) => "Load KVM: modprobe kvm_amd",
            (false, _) => "For KVM, switch virtualisation on in the firmware, or nested virtualisation in the hypervisor that this host runs on; the software CPU needs neither",
        });
    } else if matches!(
        kvm.virtualisation,
        Virtualisation::Pvm | Virtualisation::None
    ) {
        advice.push("KVM emulates guest kernel code on this host: one with VMX or SVM is faster; the software CPU does not depend on it");
    }
    if !facts.network.tap.usable {
        advice
            .push("For a guest on a network: modprobe tun, and run as root or with CAP_NET_ADMIN");
    }
    if !facts.network.namespaces.usable {
        advice
            .push("For `lockstep demo` and the failover tests: run as root or with CAP_SYS_ADMIN");
    }
    advice.into_iter().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests;
