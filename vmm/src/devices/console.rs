//! What the serial port sends, gathered into lines.
//!
//! In: single bytes. Out: runs of bytes to print. A run ends at a newline, at
//! [`RUN_LIMIT_BYTES`], or at [`Console::flush`], which the machine calls at points of the guest's
//! own making; so runs are a function of the guest alone, and an output costs one log
//! entry instead of one for each byte.

use serde::{Deserialize, Serialize};

/// A run of console bytes is never longer.
pub const RUN_LIMIT_BYTES: usize = 128;

/// The run that has not ended yet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Console {
    run: Vec<u8>,
}

impl Console {
    /// Adds a byte; the run, if this byte ends it.
    pub fn push(&mut self, byte: u8) -> Option<Vec<u8>> {
        self.run.push(byte);
        if byte == b'\n' || self.run.len() >= RUN_LIMIT_BYTES {
            self.flush()
        } else {
            None
        }
    }

    /// Ends the run; `None` if it is empty.
    pub fn flush(&mut self) -> Option<Vec<u8>> {
        if self.run.is_empty() {
            None
        } else {
            Some(std::mem::take(&mut self.run))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newline_ends_a_run() {
        let mut console = Console::default();
        assert_eq!(console.push(b'a'), None);
        assert_eq!(console.push(b'\n'), Some(b"a\n".to_vec()));
        assert_eq!(console.flush(), None);
    }

    #[test]
    fn a_run_is_bounded() {
        let mut console = Console::default();
        for _ in 1..RUN_LIMIT_BYTES {
            assert_eq!(console.push(b'x'), None);
        }
        assert_eq!(console.push(b'x').unwrap().len(), RUN_LIMIT_BYTES);
    }

    #[test]
    fn flush_ends_a_run() {
        let mut console = Console::default();
        console.push(b'#');
        assert_eq!(console.flush(), Some(b"#".to_vec()));
    }
}
