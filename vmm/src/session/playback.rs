//! Replaying a log file: no tap, no network, no clock.

use std::{io::Read, path::PathBuf};

use logging_channel::{
    Entry,
    log_file::{LogReader, LogFileError},
};

use super::{
    replica::{Ending, Replica, ReplicaError},
};
use crate::{
    effect::Effect,
    engine::Engine,
    inputs::{InputError, Logged, logged::LogSource},
    machine::Machine,
};

/// Entries from a file.
pub struct FileSource<R> {
    reader: LogReader<R>,
    outputs: Box<dyn FnMut(Effect) + Send>,
}
