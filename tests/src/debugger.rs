//! A real gdb on a replay: `lockstep replay --gdb`, and Debian's debugger.

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::Path,
    process::{Child, ChildStderr, Command, Stdio},
};

use crate::{images, twins::Recording};

/// gdb gives up after so many seconds.
const GDB_LIMIT_S: &str = "120";
/// What comes before the address that a replay is debugged at.
const ANNOUNCEMENT: &str = "'target remote ";

/// A replay that waits for a debugger. It ends with this value.
pub struct DebuggedReplay {
    child: Child,
    /// Kept open: the replay may have more to say.
    _errors: BufReader<ChildStderr>,
    /// Where it listens.
    pub address: SocketAddr,
}

impl DebuggedReplay {
    /// Starts a replay of `recording`.
    ///
    /// # Panics
    /// If it does not say where it listens.
    #[must_use]
    pub fn start(recording: &Recording) -> Self {
        let mut child = Command::new(images::lockstep())
            .args(recording.replay_arguments(&recording.log()))
            .args(["--console", "none", "--gdb", "0"])
            .stderr(Stdio::piped())
            .spawn()
            .expect("lockstep starts");
        let mut errors = BufReader::new(child.stderr.take().expect("stderr is piped"));
        let mut said = String::new();
        let address = loop {
            let mut line = String::new();
            let count = errors.read_line(&mut line).expect("text");
            assert!(count > 0, "lockstep ended:\n{said}");
            if let Some((_, behind)) = line.split_once(ANNOUNCEMENT) {
                let address = behind.trim_end().trim_end_matches('\'');
                break address.parse().expect("an address");
            }
            said += &line;
        };
        Self {
            child,
            _errors: errors,
            address,
        }
    }

    /// Has a gdb that knows the symbols of `program` connect and do `commands`, each whether or not those before worked. What it said, on
    /// either stream.
    ///
    /// # Panics
    /// If there is no gdb.
    #[must_use]
    pub fn gdb(&self, program: &Path, commands: &[&str]) -> String {
        let mut command = Command::new("timeout");
        command.args([GDB_LIMIT_S, "gdb", "-nx", "-batch"]);
        command.args(["-ex", "set pagination off", "-ex", "set confirm off"]);
        command.args(["-ex", &format!("target remote {}", self.address)]);
        for text in commands {
            command.args(["-ex", text]);
        }
        let output = command.arg(program).output();
        let output = output.expect("gdb starts: run scripts/packages.sh");
        String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr)
    }

    /// Waits for the replay's end, after a debugger killed it; whether it ended well.
    ///
    /// # Panics
    /// If it cannot be waited for.
    #[must_use]
    pub fn ends(mut self) -> bool {
        self.child.wait().expect("a child").success()
    }
}

impl Drop for DebuggedReplay {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
