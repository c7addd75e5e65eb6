//! The core's decisions, made atomic and lasting: lock, load, decide, save, flush, answer.
//!
//! What always holds: no answer is given before the state that it tells of is on the disk, and two
//! stores on one file, in one process or on two hosts, decide one after the other.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::core::{Identity, Outcome, State, TermExhausted};
use crate::deadline::Deadline;
use crate::error::ArbiterError;
use crate::flag_file::{self, FlagFile};

/// A state file that exists and was found to be whole. Its format is in `block.rs`.
///
/// The file is opened anew for each operation, so that a share that went away and came back is
/// found again; but it is made only by [`Store::open`], so that a file that vanished is an error
/// and not a new term 0.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
}

impl Store {
    /// Opens the state file at `path`, or makes one at term 0 where there is none. Blocks, up to
    /// `timeout` for the file's lock, and for as long as the disk takes.
    ///
    /// # Errors
    ///
    /// [`ArbiterError::Corrupt`] when there is a file that cannot be believed,
    /// [`ArbiterError::StateFile`] when the host refuses it, and [`ArbiterError::Unreachable`] when
    /// its lock or its disk cannot be had.
    pub fn open(path: impl Into<PathBuf>, timeout: Duration) -> Result<Self, ArbiterError> {
        Self::open_by(path.into(), Deadline::after(timeout))
    }

    pub(crate) fn open_by(path: PathBuf, deadline: Deadline) -> Result<Self, ArbiterError> {
        flag_file::ensure_exists(&path)?;
        let store = Self { path };
        store.read(deadline)?;
        Ok(store)
    }

    /// The state file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The state that is on the disk now. Blocks, as [`Store::open`] does.
    ///
    /// # Errors
    ///
    /// As [`Store::open`].
    pub fn state(&self, timeout: Duration) -> Result<State, ArbiterError> {
        self.read(Deadline::after(timeout))
    }

    pub(crate) fn read(&self, deadline: Deadline) -> Result<State, ArbiterError> {
        self.transact(deadline, |state| Ok((state, state)))
    }

    pub(crate) fn claim(
        &self,
        expected_term: u64,
        identity: Identity,
        deadline: Deadline,
    ) -> Result<Outcome, ArbiterError> {
        self.transact(deadline, |state| state.claim(expected_term, identity))
    }

    /// `decide` turns the current state into the next one and an answer.
    fn transact<T>(
        &self,
        deadline: Deadline,
        decide: impl FnOnce(State) -> Result<(State, T), TermExhausted>,
    ) -> Result<T, ArbiterError> {
        let file = FlagFile::lock(&self.path, deadline)?;
        let state = file.load()?;
        let (next, answer) = decide(state)?;
        if next != state {
            file.save(&next)?;
        }
        Ok(answer)
    }
}
