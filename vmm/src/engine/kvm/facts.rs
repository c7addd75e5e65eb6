//! What there is of KVM on this host.

use std::path::Path;

use kvm_ioctls::Kvm;
use serde::Serialize;

use super::pvm;
use crate::host::survey::Probe;

/// What makes KVM work on this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Virtualisation {
    /// Intel's VMX.
    Vmx,
    /// AMD's SVM.
    Svm,
    /// VMX, in a virtual machine.
    NestedVmx,
    /// SVM, in a virtual machine.
    NestedSvm,
    /// The module `kvm_pvm`: no help from the processor, guest kernel code is emulated.
    Pvm,
    /// None that is known.
    None,
}

impl Virtualisation {
    /// By the processor's description, as in `/proc/cpuinfo`, and whether the module `kvm_pvm` is loaded.
    #[must_use]
    pub fn of(cpuinfo: &str, pvm_module: bool) -> Self {
        let flags = cpuinfo.lines().find(|line| line.starts_with("flags"));
        let has =
            |flag| flags.is_some_and(|line| line.split_ascii_whitespace().any(|word| word == flag));
        match (pvm_module, has("vmx"), has("svm"), has("hypervisor")) {
            (true, ..) => Self::Pvm,
            (_, true, _, false) => Self::Vmx,
            (_, true, _, true) => Self::NestedVmx,
            (_, _, true, false) => Self::Svm,
            (_, _, true, true) => Self::NestedSvm,
            _ => Self::None,
        }
    }
}

/// `/dev/kvm`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KvmFacts {
    /// The device is there.
    pub present: bool,
    /// Whether this user can open it.
    pub device: Probe,
    /// `KVM_GET_API_VERSION`; 12 since 2007.
    pub api_version: Option<i32>,
    /// What it works with.
    pub virtualisation: Virtualisation,
}

/// Looks at KVM.
#[must_use]
pub fn survey() -> KvmFacts {
    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let opened = Kvm::new();
    KvmFacts {
        present: Path::new("/dev/kvm").exists(),
        api_version: opened.as_ref().ok().map(Kvm::get_api_version),
        device: Probe::of(opened),
        virtualisation: Virtualisation::of(&cpuinfo, pvm::present()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_processors_flags_and_the_module_tell_what_kvm_works_with() {
        let of = |flags: &str, pvm| {
            let cpuinfo = format!("processor\t: 0\nvmx flags\t: none\nflags\t\t: fpu {flags} lm\n");
            Virtualisation::of(&cpuinfo, pvm)
        };
        assert_eq!(of("vmx", false), Virtualisation::Vmx);
        assert_eq!(of("svm", false), Virtualisation::Svm);
        assert_eq!(of("vmx hypervisor", false), Virtualisation::NestedVmx);
        assert_eq!(of("svm hypervisor", false), Virtualisation::NestedSvm);
        assert_eq!(of("hypervisor", true), Virtualisation::Pvm);
        assert_eq!(
            of("svm", true),
            Virtualisation::Pvm,
            "what is loaded counts"
        );
        assert_eq!(of("hypervisor", false), Virtualisation::None);
        assert_eq!(of("vmx_like", false), Virtualisation::None);
        assert_eq!(Virtualisation::of("", false), Virtualisation::None);
    }
}
