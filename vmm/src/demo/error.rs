//! Why a demo cannot be shown.

use std::{io, path::PathBuf, process::ExitStatus, time::Duration};

use super::images::Guest;

/// Why a demo, or a test that uses its pieces, cannot go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DemoError {
    /// Not root.
    #[error("Only root may make a network for the pair: run this as root")]
    NotRoot,
    /// iproute2 is missing.
    #[error("Cannot run `ip`: install the package iproute2")]
    NoIpCommand {
        /// The host's answer.
        source: io::Error,
    },
    /// `ip` refused.
    #[error("Cannot {doing}: `ip` says {said:?}. Does this kernel have bridges, veth and taps?")]
    Network {
        /// What was tried.
        doing: &'static str,
        /// Its standard error.
        said: String,
    },
    /// Namespaces cannot be used.
    #[error("Cannot {doing}: does this container allow network namespaces?")]
    Namespace {
        /// What was tried.
        doing: &'static str,
        /// The host's answer.
        source: io::Error,
    },
    /// A file of the pair cannot be used.
    #[error("Cannot {doing} {path}", path = path.display())]
    File {
        /// What was tried.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// The host's answer.
        source: io::Error,
    },
    /// An events file has a line that is none.
    #[error("Line {line} of {path} is no event", path = path.display())]
    Event {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// A process cannot be started.
    #[error("Cannot start the {name} ({program})", program = program.display())]
    Start {
        /// Its part.
        name: &'static str,
        /// The program.
        program: PathBuf,
        /// The host's answer.
        source: io::Error,
    },
    /// A process cannot be signalled or waited for.
    #[error("Cannot {doing} the {name}")]
    Control {
        /// What was tried.
        doing: &'static str,
        /// Its part.
        name: &'static str,
        /// The host's answer.
        source: io::Error,
    },
    /// Nobody has started it.
    #[error("There is no {name}: start it first")]
    NotStarted {
        /// Its part.
        name: &'static str,
    },
    /// A process ended that should not have.
    #[error(
        "Waited for {what}, but the {name} ended by itself ({status}){}",
        said_last(last_words)
    )]
    Ended {
        /// Its part.
        name: &'static str,
        /// How.
        status: ExitStatus,
        /// What should have happened first.
        what: String,
        /// The last line of its standard error.
        last_words: Option<String>,
    },
    /// The replicas have lost each other before the demo parted them.
    #[error(
        "The pair parted before anybody was killed: the {name} found that its peer was lost, {why}. If the host is so busy, give a longer --failure-timeout"
    )]
    Parted {
        /// Who found it.
        name: &'static str,
        /// Why.
        why: String,
    },
    /// Something did not happen.
    #[error("Waited {} s in vain for {what}", waited.as_secs())]
    TimedOut {
        /// What.
        what: String,
        /// How long.
        waited: Duration,
    },
    /// The connection to the guest's service is of no use.
    #[error("The connection to the guest's service at {address} failed")]
    Client {
        /// The service's address.
        address: std::net::SocketAddr,
        /// What the network says.
        source: io::Error,
    },
    /// The guest's service said what it should not.
    #[error("The guest's service answered {said:?}, which is no number")]
    NoNumber {
        /// The line.
        said: String,
    },
    /// A service of the guest said what is no answer.
    #[error("The guest's service answered {said:?}, which makes no sense here")]
    NoAnswer {
        /// The line.
        said: String,
    },
    /// The guest's journal could not do what was asked.
    #[error("The guest's journal refused: {said}. What does the guest's console say?")]
    Refused {
        /// Its reason.
        said: String,
    },
    /// A record that the guest's journal has brought is not the one that was asked for.
    #[error("Record {number} of the guest's journal {fault}")]
    Record {
        /// Counted from 1.
        number: u64,
        /// What is wrong with it.
        fault: guest_journal::Fault,
    },
    /// A program for file systems is missing.
    #[error("Cannot run `{program}`: install the package e2fsprogs")]
    NoFileSystemProgram {
        /// Its name.
        program: &'static str,
        /// The host's answer.
        source: io::Error,
    },
    /// A program for file systems failed.
    #[error("Cannot {doing} {image}: {said}", image = image.display())]
    Image {
        /// What was tried.
        doing: &'static str,
        /// The disk's image.
        image: PathBuf,
        /// What the program said.
        said: String,
    },
    /// Images were neither named nor can be built.
    #[error(
        "There is no image of the {guest} guest: run `make images` in lockstep's checkout, then run this inside it, \
         or name the files with --kernel, --initrd and --cmdline"
    )]
    NoImages {
        /// Which guest.
        guest: Guest,
    },
    /// A folder is none of recipes.
    #[error("There is no recipe {script}: name lockstep's folder guest-images", script = script.display())]
    NoRecipe {
        /// What was looked for.
        script: PathBuf,
    },
    /// A recipe failed.
    #[error("{script} failed ({status}): see what it says above", script = script.display())]
    Recipe {
        /// The recipe.
        script: PathBuf,
        /// How it ended.
        status: ExitStatus,
    },
    /// A recipe did not say where the image is.
    #[error("{script} succeeded without a line {key}=…: is it of another version?", script = script.display())]
    RecipeSilent {
        /// The recipe.
        script: PathBuf,
        /// The line's key.
        key: &'static str,
    },
}

fn said_last(words: &Option<String>) -> String {
    words
        .as_ref()
        .map(|words| format!(": {words}"))
        .unwrap_or_default()
}
