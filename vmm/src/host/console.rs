//! The guest's serial console on the host: where its output goes, and where its input comes from.
//!
//! With `--console stdio` on a terminal, the terminal is in raw mode, so that every key reaches the guest, Ctrl-C
//! too. Ctrl-A is the way out: Ctrl-A x quits, Ctrl-A Ctrl-A sends one Ctrl-A.

use std::convert::Infallible;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::str::FromStr;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::termios::{OptionalActions, OutputModes, Termios, tcgetattr, tcsetattr};
use tokio::sync::mpsc;

use super::HostError;

/// What the user chose with `--console`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Console {
    /// Standard input and output.
    Stdio,
    /// Output is thrown away; no input.
    None,
    /// Output is appended to a file; no input.
    File(PathBuf),
}

impl FromStr for Console {
    type Err = Infallible;

    /// `stdio`, `none`, or a file. (`./none` is a file.)
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text {
            "stdio" => Self::Stdio,
            "none" => Self::None,
            path => Self::File(path.into()),
        })
    }
}

impl fmt::Display for Console {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stdio => f.write_str("stdio"),
            Self::None => f.write_str("none"),
            Self::File(path) => write!(f, "{}", path.display()),
        }
    }
}

impl Console {
    /// Opens the output. A file is appended to, so that a backup that goes live continues what its
    /// primary wrote, if they share it.
    ///
    /// # Errors
    ///
    /// [`HostError::ConsoleFile`] if the file cannot be opened.
    pub fn open(&self) -> Result<ConsoleOutput, HostError> {
        Ok(match self {
            Self::Stdio => ConsoleOutput::Stdout,
            Self::None => ConsoleOutput::Nowhere,
            Self::File(path) => {
                let file = OpenOptions::new()
                    .append(true)
                    .create(true)
                    .open(path)
                    .map_err(|source| HostError::ConsoleFile {
                        path: path.clone(),
                        source,
                    })?;
                ConsoleOutput::File {
                    file,
                    path: path.clone(),
                }
            }
        })
    }

    /// Starts to read standard input, if this is [`Console::Stdio`]. What is typed comes out of
    /// the receiver; when input ends it is closed. A process in the background must not call this.
    ///
    /// The thread behind it blocks while the receiver is full, and stays until input ends or the process does.
    ///
    /// # Errors
    ///
    /// [`HostError::ConsoleThread`] if there can be no thread.
    pub fn input(&self) -> Result<Option<mpsc::Receiver<Typed>>, HostError> {
        if *self != Self::Stdio {
            return Ok(None);
        }
        let (sender, receiver) = mpsc::channel(INPUT_CHUNKS_MAX);
        std::thread::Builder::new()
            .name("console-input".into())
            .spawn(move || read_input(io::stdin(), io::stdin().is_terminal(), &sender))
            .map_err(|source| HostError::ConsoleThread { source })?;
        Ok(Some(receiver))
    }
}

/// Where the guest's console output goes.
#[derive(Debug)]
pub enum ConsoleOutput {
    /// Standard output, unbuffered.
    Stdout,
    /// It is thrown away.
    Nowhere,
    /// The end of a file.
    File {
        /// Open for appending.
        file: File,
        /// For messages.
        path: PathBuf,
    },
}

impl ConsoleOutput {
    /// Writes all of `bytes`; waits as long as a slow reader takes.
    ///
    /// # Errors
    ///
    /// [`HostError::ConsoleWrite`]: some of `bytes` may have been written.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), HostError> {
        let (result, target) = match self {
            Self::Nowhere => return Ok(()),
            Self::Stdout => (
                write_all(rustix::stdio::stdout(), bytes),
                "standard output".to_owned(),
            ),
            Self::File { file, path } => {
                (write_all(file.as_fd(), bytes), path.display().to_string())
            }
        };
        result.map_err(|errno| HostError::ConsoleWrite {
            target,
            source: errno.into(),
        })
    }
}

/// Like `Write::write_all`, also on a descriptor that someone else has made non-blocking: a terminal's
/// standard output shares that with whatever else uses the terminal.
fn write_all(fd: BorrowedFd, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match rustix::io::write(fd, bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => wait_until_writable(fd)?,
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

fn wait_until_writable(fd: BorrowedFd) -> Result<(), Errno> {
    match poll(&mut [PollFd::new(&fd, PollFlags::OUT)], None) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(errno) => Err(errno),
    }
}

/// What came from standard input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Typed {
    /// Bytes for the guest.
    Bytes(Vec<u8>),
    /// Ctrl-A x: the user wants to quit.
    Quit,
}

/// At most so many pieces of input wait for the guest; then the terminal's own buffer fills.
const INPUT_CHUNKS_MAX: usize = 64;
const INPUT_CHUNK_BYTES: usize = 256;

/// Reads until input ends or nobody listens. Only what comes from a terminal has escapes.
fn read_input(mut input: impl Read, is_terminal: bool, sender: &mpsc::Sender<Typed>) {
    let mut escape = Escape::default();
    let mut buffer = [0; INPUT_CHUNK_BYTES];
    loop {
        let bytes = match input.read(&mut buffer) {
            Ok(0) => return,
            Ok(length) => &buffer[..length],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => return,
        };
        let (bytes, quit) = if is_terminal {
            escape.feed(bytes)
        } else {
            (bytes.to_vec(), false)
        };
        let closed = !bytes.is_empty() && sender.blocking_send(Typed::Bytes(bytes)).is_err();
        if closed || (quit && sender.blocking_send(Typed::Quit).is_err()) {
            return;
        }
    }
}

/// Takes the Ctrl-A commands out of what is typed.
#[derive(Default)]
struct Escape {
    /// The last byte was Ctrl-A.
    pending: bool,
}

impl Escape {
    const PREFIX: u8 = 0x01;

    /// The bytes for the guest, and whether to quit.
    fn feed(&mut self, typed: &[u8]) -> (Vec<u8>, bool) {
        let mut bytes = Vec::with_capacity(typed.len());
        for byte in typed {
            match (std::mem::take(&mut self.pending), *byte) {
                (false, Self::PREFIX) => self.pending = true,
                (true, b'x' | b'X') => return (bytes, true),
                // Ctrl-A and any other key: nothing is lost but one Ctrl-A.
                (_, other) => bytes.push(other),
            }
        }
        (bytes, false)
    }
}

/// The terminal on standard input in raw mode; it gets its old mode back when this is dropped.
pub struct RawTerminal<'a> {
    terminal: BorrowedFd<'a>,
    before: Termios,
}

impl RawTerminal<'static> {
    /// Sets the terminal on standard input to raw mode; `None` if there is none.
    ///
    /// # Errors
    ///
    /// [`HostError::Terminal`] if it refuses.
    pub fn enter() -> Result<Option<Self>, HostError> {
        match io::stdin().is_terminal() {
            true => RawTerminal::enter_on(rustix::stdio::stdin()).map(Some),
            false => Ok(None),
        }
    }
}

impl<'a> RawTerminal<'a> {
    fn enter_on(terminal: BorrowedFd<'a>) -> Result<Self, HostError> {
        let error = |errno: Errno| HostError::Terminal {
            source: errno.into(),
        };
        let before = tcgetattr(terminal).map_err(error)?;
        let mut raw = before.clone();
        raw.make_raw();
        // Our own messages go to the same terminal and end their lines with a bare line feed.
        raw.output_modes |= before.output_modes & (OutputModes::OPOST | OutputModes::ONLCR);
        tcsetattr(terminal, OptionalActions::Now, &raw).map_err(error)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for RawTerminal<'_> {
    fn drop(&mut self) {
        // If the terminal is gone there is nothing to restore.
        let _ = tcsetattr(self.terminal, OptionalActions::Now, &self.before);
    }
}

#[cfg(test)]
#[path = "console_tests.rs"]
mod tests;
