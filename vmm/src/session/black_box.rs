//! The black box of a replica: a log of all that it recorded or received, kept beside the session.
//!
//! In: every entry of the replica's course, in order: a primary's as it records them, a backup's as they arrive, and whatever either records once
//! it is alone. Out: a log file that `lockstep replay` takes. What always holds: neither the channel nor the guest waits for it. If its disk fails or cannot
//! follow, the log ends, that is told once, and the guest goes on.

use std::path::PathBuf;

use logging_channel::{
    Entry,
    identity::BootChoices,
    log_file::{KEEPER_QUEUE_BYTES, Keeper, LogHeader, LogKeeper, LogOptions, LogWriter},
};

use super::{SessionError, reports::Reporter, setup::Prepared};
use crate::host::with_causes;

/// Where a log is kept, and how.
#[derive(Clone, Debug)]
pub struct BlackBoxOptions {
    /// Its first file.
    pub path: PathBuf,
    /// Begin another file once one has so many bytes.
    pub rotate_bytes: Option<u64>,
    /// Keep the images in it.
    pub with_images: bool,
}

impl BlackBoxOptions {
    /// What that means for this machine.
    #[must_use]
    pub fn log_options(&self, prepared: &Prepared) -> LogOptions {
        LogOptions {
            rotate_bytes: self.rotate_bytes,
            images: if self.with_images {
                prepared.log_images()
            } else {
                Vec::new()
            },
        }
    }
}

/// A replica's log, if it keeps one.
pub struct BlackBox {
    options: Option<BlackBoxOptions>,
    keeper: Option<LogKeeper>,
    reporter: Option<Reporter>,
}

impl BlackBox {
    /// A black box that does nothing yet, or, without `options`, nothing at all.
    #[must_use]
    pub fn new(options: Option<BlackBoxOptions>, reporter: Reporter) -> Self {
        Self {
            options,
            keeper: None,
            reporter: Some(reporter),
        }
    }

    /// Of a replica that keeps no log here.
    #[must_use]
    pub fn none() -> Self {
        Self {
            options: None,
            keeper: None,
            reporter: None,
        }
    }

    /// Begins the log, before the machine's first entry.
    ///
    /// # Errors
    /// If the file cannot be made: whoever asked for a log wants to know before it is needed.
    pub fn begin(
        &mut self,
        prepared: &Prepared,
        boot: &BootChoices,
        keeper: Keeper,
    ) -> Result<(), SessionError> {
        let Some(options) = &self.options else {
            return Ok(());
        };
        let header = LogHeader::new(prepared.identity().clone(), boot.clone(), keeper);
        let mut options_of_log = options.log_options(prepared);
        let images = std::mem::take(&mut options_of_log.images);
        let writer = LogWriter::create(&options.path, &header, &options_of_log)?;
        self.keeper = Some(LogKeeper::start(writer, images, KEEPER_QUEUE_BYTES)?);
        Ok(())
    }

    /// Keeps the next entries.
    pub fn keep(&mut self, entries: &[Entry]) {
        let Some(keeper) = &self.keeper else {
            return;
        };
        if !entries.is_empty() {
            keeper.append(entries.to_vec());
        }
        if let Some(error) = keeper.take_error() {
            self.tell(&error);
            self.keeper = None;
        }
    }

    fn tell(&self, error: &dyn std::error::Error) {
        if let Some(reporter) = &self.reporter {
            reporter.note(&format!(
                "the log has ended, the guest goes on without: {}",
                with_causes(error)
            ));
        }
    }
}

/// What is queued is written.
impl Drop for BlackBox {
    fn drop(&mut self) {
        if let Some(Err(error)) = self.keeper.take().map(LogKeeper::flush_and_close) {
            self.tell(&error);
        }
    }
}
