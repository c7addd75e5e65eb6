//! What two replicas must agree on before they may form a pair.

use serde::{Deserialize, Serialize};

use crate::Digest;

/// Version of the entries, the messages and the log format. Any change of their bytes counts it up.
pub const FORMAT_VERSION: u32 = 4;

/// Everything that decides a guest's course besides its log. Both replicas work it out from their
/// own command line and host; the backup refuses a primary whose identity differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// [`FORMAT_VERSION`] of the program that made it.
    pub format_version: u32,
    /// The engine's clock, with the injection points that a host adds: `exits`, `exits+pvm-user-faults`, `instructions`.
    pub clock: String,
    /// The CPU model the guest sees, with whatever the host lets through.
    pub cpu_model: String,
    /// Guest memory, bytes.
    pub memory_bytes: u64,
    /// Kernel command line.
    pub command_line: String,
    /// Digest of the kernel file.
    pub kernel: Digest,
    /// How the kernel is entered: `auto`, `linux64` or `pvh`.
    pub boot: String,
    /// Digest of the initial RAM disk.
    pub initrd: Option<Digest>,
    /// The devices of the machine, in order, with their guest-visible configuration, such as `virtio-net mac=52:54:00:00:00:01`.
    pub devices: Vec<String>,
}

/// What the primary chooses at random or from its host once, before the guest's first instruction, and the
/// backup adopts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootChoices {
    /// The real-time clock at guest time zero, seconds since 1970 UTC.
    pub unix_time_s: u64,
    /// The seed that the loader hands to the guest kernel's random number generator.
    pub rng_seed: [u8; 32],
}

/// One field in which two identities differ.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{field} differs: the primary has {primary}, the backup has {backup}")]
pub struct Mismatch {
    /// The field's name, in words of the command line where there is one.
    pub field: String,
    /// The primary's value.
    pub primary: String,
    /// The backup's value.
    pub backup: String,
}

impl Identity {
    /// Every field in which `self`, the primary's identity, and `backup` differ, in order.
    #[must_use]
    pub fn mismatches(&self, backup: &Self) -> Vec<Mismatch> {
        let initrd = |digest: &Option<Digest>| match digest {
            Some(digest) => format!("digest {digest}"),
            None => "none".to_owned(),
        };
        let fields = [
            (
                "log format version",
                self.format_version.to_string(),
                backup.format_version.to_string(),
            ),
            ("clock", self.clock.clone(), backup.clock.clone()),
            (
                "CPU model",
                self.cpu_model.clone(),
                backup.cpu_model.clone(),
            ),
            (
                "--memory",
                format!("{} bytes", self.memory_bytes),
                format!("{} bytes", backup.memory_bytes),
            ),
            (
                "--cmdline",
                format!("\"{}\"", self.command_line),
                format!("\"{}\"", backup.command_line),
            ),
            (
                "--kernel",
                format!("digest {}", self.kernel),
                format!("digest {}", backup.kernel),
            ),
            ("--boot", self.boot.clone(), backup.boot.clone()),
            ("--initrd", initrd(&self.initrd), initrd(&backup.initrd)),
            (
                "devices",
                format!("{:?}", self.devices),
                format!("{:?}", backup.devices),
            ),
        ];
        fields
            .into_iter()
            .filter(|(_, primary, backup)| primary != backup)
            .map(|(field, primary, backup)| Mismatch {
                field: field.to_owned(),
                primary,
                backup,
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_that_differs_is_named_and_none_else() {
        let primary = Identity {
            format_version: 1,
            clock: "exits".to_owned(),
            cpu_model: "a".to_owned(),
            memory_bytes: 1,
            command_line: "quiet".to_owned(),
            kernel: Digest([0; 16]),
            boot: "auto".to_owned(),
            initrd: None,
            devices: vec!["a".to_owned(), "b".to_owned()],
        };
        assert_eq!(primary.mismatches(&primary), []);
        let backup = Identity {
            format_version: 2,
            clock: "instructions".to_owned(),
            cpu_model: "b".to_owned(),
            memory_bytes: 2,
            command_line: "quiet ".to_owned(),
            kernel: Digest([1; 16]),
            boot: "pvh".to_owned(),
            initrd: Some(Digest([2; 16])),
            devices: vec!["a, b".to_owned()],
        };
        let mismatches = primary.mismatches(&backup);
        let fields: Vec<&str> = mismatches.iter().map(|m| m.field.as_str()).collect();
        let all = [
            "log format version",
            "clock",
            "CPU model",
            "--memory",
            "--cmdline",
            "--kernel",
            "--boot",
            "--initrd",
            "devices",
        ];
        assert_eq!(fields, all);
        assert_eq!(
            mismatches[4].to_string(),
            "--cmdline differs: the primary has \"quiet\", the backup has \"quiet \""
        );
    }
}
