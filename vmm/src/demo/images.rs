//! Which guest, and where its files are: named by the user, or made by the recipes in `guest-images/`.

use std::{
    fmt,
    fs::File,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use super::{
    DemoError, Process,
    network::{CLIENT_ADDRESS, GUEST_ADDRESS},
    wait,
};

/// A kernel is built in minutes; on a machine that does much else in many.
const BUILD_LIMIT: Duration = Duration::from_secs(3600);

/// A guest with the counter on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Guest {
    /// Linux with `counterd`.
    Linux,
    /// The bare-metal guest `echo`.
    Bare,
}

impl Guest {
    /// The name that users know.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Linux => "linux",
            Self::Bare => "bare",
        }
    }

    /// Memory that it is comfortable with, as `--memory` takes it.
    #[must_use]
    pub fn memory(self) -> &'static str {
        match self {
            Self::Linux => "96M",
            Self::Bare => "16M",
        }
    }

    /// How long its boot may take on a host that is slow and busy.
    #[must_use]
    pub fn boot_limit(self) -> Duration {
        match self {
            Self::Linux => Duration::from_secs(600),
            Self::Bare => Duration::from_secs(120),
        }
    }

    /// Whether a line on its console says that its services listen.
    #[must_use]
    pub fn is_ready(self, console_line: &str) -> bool {
        let line = console_line.trim();
        match self {
            Self::Linux => line == "lockstep: ready",
            Self::Bare => line == "ready",
        }
    }

    /// The command line `given` with the guest's address, if it has none, and without devices, which the VMM adds.
    fn command_line(self, given: &str) -> String {
        let (key, address) = match self {
            Self::Linux => (
                "ip=",
                format!("{GUEST_ADDRESS}::{CLIENT_ADDRESS}:255.255.255.0::eth0:off"),
            ),
            Self::Bare => ("net.ip=", GUEST_ADDRESS.to_string()),
        };
        let mut words: Vec<&str> = given
            .split_ascii_whitespace()
            .filter(|word| !word.starts_with("virtio_mmio.device="))
            .collect();
        let own = format!("{key}{address}");
        if !words.iter().any(|word| word.starts_with(key)) {
            words.push(&own);
        }
        words.join(" ")
    }
}

impl fmt::Display for Guest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A guest's files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Images {
    /// Which guest it is.
    pub guest: Guest,
    /// Its ELF file.
    pub kernel: PathBuf,
    /// Its initial RAM disk.
    pub initrd: Option<PathBuf>,
    /// Its command line, with its address on the demo's network.
    pub command_line: String,
}

impl Images {
    /// Files that the user has named; `command_line` needs no address.
    #[must_use]
    pub fn named(
        guest: Guest,
        kernel: PathBuf,
        initrd: Option<PathBuf>,
        command_line: &str,
    ) -> Self {
        Self {
            guest,
            kernel,
            initrd,
            command_line: guest.command_line(command_line),
        }
    }

    /// What `recipe` printed, as `KEY=VALUE` lines.
    ///
    /// # Errors
    /// [`DemoError::RecipeSilent`] if it does not say where the kernel is.
    pub fn from_recipe(recipe: &Recipe, printed: &str) -> Result<Self, DemoError> {
        let value = |key: &str| {
            printed
                .lines()
                .find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
        };
        let key = match recipe.guest {
            Guest::Linux => "KERNEL",
            Guest::Bare => "echo",
        };
        let kernel = value(key).ok_or_else(|| DemoError::RecipeSilent {
            script: recipe.script.clone(),
            key,
        })?;
        let initrd = value("INITRD").map(PathBuf::from);
        Ok(Self::named(
            recipe.guest,
            kernel.into(),
            initrd,
            value("CMDLINE").unwrap_or_default(),
        ))
    }
}

/// A script that makes a guest's files and says where they are.
#[derive(Clone, Debug)]
pub struct Recipe {
    guest: Guest,
    script: PathBuf,
}

impl Recipe {
    /// The recipe for `guest` in the folder `guest-images` next to one of `places` or above.
    ///
    /// # Errors
    /// [`DemoError::NoImages`] if there is none.
    pub fn find(guest: Guest, places: &[PathBuf]) -> Result<Self, DemoError> {
        let script = |folder: &Path| {
            folder
                .join("guest-images")
                .join(guest.name())
                .join("build.sh")
        };
        let found = places
            .iter()
            .flat_map(|place| place.ancestors())
            .map(script)
            .find(|script| script.is_file());
        let script = found.ok_or(DemoError::NoImages { guest })?;
        Ok(Self { guest, script })
    }

    /// The script.
    #[must_use]
    pub fn script(&self) -> &Path {
        &self.script
    }

    /// Runs the script, which shows its progress on standard error.
    ///
    /// # Errors
    /// If it fails, or does not say where the files are.
    pub async fn make(&self) -> Result<Images, DemoError> {
        let folder = tempfile::tempdir().map_err(file_failed(
            "make a temporary folder in",
            &std::env::temp_dir(),
        ))?;
        let printed = folder.path().join("printed");
        let output = File::create(&printed).map_err(file_failed("create", &printed))?;
        let mut command = Command::new(&self.script);
        command.stdin(Stdio::null()).stdout(output);
        let mut script = Process::start_as_it_is("recipe", command, Path::new("/dev/null"))?;
        let status = wait::until("the guest's image", BUILD_LIMIT, || script.ended()).await?;
        if !status.success() {
            return Err(DemoError::Recipe {
                script: self.script.clone(),
                status,
            });
        }
        let printed = std::fs::read_to_string(&printed).map_err(file_failed("read", &printed))?;
        Images::from_recipe(self, &printed)
    }
}

fn file_failed(doing: &'static str, path: &Path) -> impl Fn(std::io::Error) -> DemoError {
    move |source| DemoError::File {
        doing,
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_added_once_and_devices_are_not_kept() {
        let line =
            Guest::Linux.command_line("console=ttyS0  virtio_mmio.device=4K@0xd0000000:5 quiet");
        assert_eq!(
            line,
            "console=ttyS0 quiet ip=172.31.0.2::172.31.0.1:255.255.255.0::eth0:off"
        );
        assert_eq!(Guest::Linux.command_line("ip=dhcp"), "ip=dhcp");
        assert_eq!(Guest::Bare.command_line(""), "net.ip=172.31.0.2");
    }

    #[test]
    fn only_the_guests_own_line_says_that_it_is_ready() {
        assert!(Guest::Linux.is_ready("lockstep: ready\r"));
        assert!(!Guest::Linux.is_ready("eth0: link becomes ready"));
        assert!(Guest::Bare.is_ready("ready"));
    }

    fn recipe(script: &str, guest: Guest) -> (tempfile::TempDir, Recipe) {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("guest-images").join(guest.name());
        std::fs::create_dir_all(&path).expect("made");
        std::fs::write(path.join("build.sh"), format!("#!/bin/sh\n{script}\n")).expect("written");
        std::fs::set_permissions(path.join("build.sh"), PermissionsExt::from_mode(0o755))
            .expect("set");
        let below = folder.path().join("target").join("release");
        let recipe = Recipe::find(guest, &["/nowhere".into(), below]).expect("it is above");
        (folder, recipe)
    }

    #[tokio::test]
    async fn a_recipe_says_where_the_files_are() {
        let (_folder, linux) = recipe(
            "echo KERNEL=/k; echo INITRD_SHELL=/s; echo INITRD=/i; echo 'CMDLINE=quiet a=b'",
            Guest::Linux,
        );
        let images = linux.make().await.expect("images");
        assert_eq!(
            (images.kernel, images.initrd),
            ("/k".into(), Some("/i".into()))
        );
        assert!(
            images.command_line.starts_with("quiet a=b ip="),
            "{}",
            images.command_line
        );

        let (_folder, bare) = recipe("echo counter=/c; echo echo=/e", Guest::Bare);
        let images = bare.make().await.expect("images");
        assert_eq!((images.kernel, images.initrd), ("/e".into(), None));
    }

    #[tokio::test]
    async fn a_recipe_that_fails_or_says_nothing_is_named() {
        let (_folder, failing) = recipe("exit 3", Guest::Bare);
        assert!(matches!(
            failing.make().await,
            Err(DemoError::Recipe { .. })
        ));
        let (_folder, silent) = recipe("echo KERNEL_OF=/x", Guest::Linux);
        assert!(matches!(
            silent.make().await,
            Err(DemoError::RecipeSilent { key: "KERNEL", .. })
        ));
        let nowhere = Recipe::find(Guest::Bare, &["/nowhere".into()]).expect_err("there is none");
        assert!(nowhere.to_string().contains("make images"), "{nowhere}");
    }
}
