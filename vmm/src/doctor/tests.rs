use super::*;
use crate::host::survey::Probe;

/// A host where nothing is missing.
fn good_host() -> Facts {
    Facts {
        kvm: KvmFacts {
            present: true,
            device: Probe::USABLE,
            api_version: Some(12),
            virtualisation: Virtualisation::Vmx,
        },
        counters: CounterFacts {
            instructions: Probe::USABLE,
            conditional_branches: Probe::USABLE,
        },
        speed: Speeds {
            kvm: Speed::Mips(4_000.0),
            soft: Speed::Mips(160.0),
        },
        network: NetworkFacts {
            tap: Probe::USABLE,
            namespaces: Probe::USABLE,
        },
    }
}

fn speeds(kvm: Speed, soft: Speed) -> Speeds {
    Speeds { kvm, soft }
}

#[test]
fn kvm_is_taken_where_it_is_worth_it_and_the_software_cpu_elsewhere() {
    let engine = |kvm, soft| choose(&speeds(kvm, soft)).engine;
    let (mips, unusable) = (Speed::Mips, || Speed::Unusable("no".into()));
    assert_eq!(engine(mips(4_000.0), mips(160.0)), EngineKind::Kvm);
    assert_eq!(engine(mips(320.0), mips(160.0)), EngineKind::Kvm);
    assert_eq!(engine(mips(319.0), mips(160.0)), EngineKind::Soft);
    assert_eq!(engine(mips(1.2), mips(160.0)), EngineKind::Soft);
    assert_eq!(engine(unusable(), mips(160.0)), EngineKind::Soft);
    assert_eq!(engine(unusable(), unusable()), EngineKind::Soft);
    assert_eq!(engine(mips(1.2), unusable()), EngineKind::Kvm);
}

#[test]
fn the_reason_has_the_figures_or_the_hosts_own_words() {
    let emulated = choose(&speeds(Speed::Mips(1.25), Speed::Mips(160.0)));
    assert_eq!(
        emulated.why,
        "KVM does not run guest kernel code at the processor's speed here (1.2 million instructions a second, the software CPU 160.0)"
    );
    let missing = Speed::Unusable("Cannot open /dev/kvm: No such file".into());
    let choice = choose(&speeds(missing, Speed::Mips(160.0)));
    assert!(choice.why.ends_with("/dev/kvm: No such file"), "{choice:?}");
}

#[test]
fn a_good_host_needs_no_advice() {
    assert_eq!(Diagnosis::of(good_host()).advice, [""; 0]);
}

#[test]
fn advice_names_what_is_in_the_way() {
    let mut facts = good_host();
    facts.kvm.device = Probe::problem("Permission denied");
    facts.network.tap = Probe::problem("no");
    facts.network.namespaces = Probe::problem("no");
    let advice = advice(&facts);
    for (line, word) in advice
        .iter()
        .zip(["group kvm", "CAP_NET_ADMIN", "CAP_SYS_ADMIN"])
    {
        assert!(line.contains(word), "{line}");
    }
    assert_eq!(advice.len(), 3);

    let missing = |virtualisation| {
        let mut facts = good_host();
        facts.kvm.device = Probe::problem("No such file");
        (facts.kvm.present, facts.kvm.virtualisation) = (false, virtualisation);
        super::advice(&facts).concat()
    };
    assert!(missing(Virtualisation::Vmx).contains("kvm_intel"));
    assert!(missing(Virtualisation::NestedSvm).contains("kvm_amd"));
    assert!(missing(Virtualisation::None).contains("firmware"));

    let mut pvm = good_host();
    pvm.kvm.virtualisation = Virtualisation::Pvm;
    assert!(super::advice(&pvm).concat().contains("emulates"));
}

#[test]
fn the_table_has_a_row_for_each_fact() {
    let mut facts = good_host();
    facts.counters.instructions = Probe::problem("Operation not supported");
    facts.speed.soft = Speed::Mips(160.04);
    let text = Diagnosis::of(facts).to_string();
    assert_eq!(
        text,
        "\
KVM                   usable, API 12, VMX
kernel code on KVM    4000.0 million instructions a second
kernel code in soft   160.0 million instructions a second
counter: instructions unusable: Operation not supported
counter: branches     usable
--count exits, step   usable
--count hardware      usable; never run on hardware yet: only with a simulated counter
tap                   usable
network namespaces    usable

--engine auto takes kvm: KVM runs guest kernel code 25 times as fast as the software CPU
"
    );
}

#[test]
fn the_names_in_the_json_are_fixed() {
    let mut facts = good_host();
    facts.speed.kvm = Speed::Unusable("why".into());
    let json = serde_json::to_value(Diagnosis::of(facts)).expect("plain data");
    assert_eq!(json["kvm"]["virtualisation"], "vmx");
    assert_eq!(json["kvm"]["device"]["usable"], true);
    assert_eq!(json["kvm"]["api_version"], 12);
    assert_eq!(json["counters"]["conditional_branches"]["usable"], true);
    assert_eq!(json["speed"]["kvm"]["unusable"], "why");
    assert_eq!(json["speed"]["soft"]["mips"], 160.0);
    assert_eq!(json["network"]["tap"]["problem"], serde_json::Value::Null);
    assert_eq!(json["network"]["namespaces"]["usable"], true);
    assert_eq!(json["auto"]["engine"], "soft");
    assert_eq!(json["advice"], serde_json::json!([]));
    assert_eq!(json["clocks"]["step"]["usable"], true);
    assert_eq!(json["clocks"]["hardware"]["usable"], true);
    assert_eq!(json["clocks"]["hardware_is_proven"], false);
}

#[test]
fn hardware_counts_where_there_is_a_counter_and_kvm_runs_kernel_code_on_the_processor() {
    let clocks = |change: fn(&mut Facts)| {
        let mut facts = good_host();
        change(&mut facts);
        Clocks::of(&facts.kvm, &facts.counters)
    };
    assert!(clocks(|_| ()).hardware.usable);
    let without = clocks(|facts| facts.counters.conditional_branches = Probe::problem("none"));
    assert_eq!(without.hardware, Probe::problem("none"));
    let emulated = clocks(|facts| facts.kvm.virtualisation = Virtualisation::Pvm);
    assert!(!emulated.hardware.usable && emulated.step.usable);
    let closed = clocks(|facts| facts.kvm.device = Probe::problem("closed"));
    assert_eq!(closed.step, Probe::problem("closed"));
    assert_eq!(closed.hardware, Probe::problem("closed"));
}
