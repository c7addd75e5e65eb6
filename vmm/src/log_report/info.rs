//! What a log says about itself, and what reading it through shows.
//!
//! In: a [`LogReader`] that was just opened. Out: [`LogInfo`]. Reading through checks every checksum, the sequence, and that positions and times never go back.

use std::fmt;

use logging_channel::{
    Event, Position,
    log_file::{LogError, LogHeader, LogReader},
};
use serde::Serialize;

use crate::host::with_causes;

/// How a log ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "how", rename_all = "snake_case")]
pub enum LogEnd {
    /// With the guest's end.
    Whole {
        /// Why the guest ended.
        reason: String,
    },
    /// Between two frames: whoever kept it was stopped.
    Open,
    /// Inside a frame: whoever kept it was killed, or the disk was full. All before is good.
    Torn {
        /// Where.
        what: String,
    },
    /// With bytes or entries that cannot be right. All before is good.
    Damaged {
        /// What and where.
        what: String,
    },
}

/// A log in short.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LogInfo {
    /// The header of its first segment.
    pub header: LogHeader,
    /// The images that are in it: name and size, bytes.
    pub images: Vec<(String, u64)>,
    /// Segments that were read.
    pub segments: u32,
    /// Bytes of all segments.
    pub bytes: u64,
    /// Entries that can be read.
    pub entries: u64,
    /// Where the last of them is.
    pub last_at: Position,
    /// The latest guest time that an entry tells, nanoseconds since boot.
    pub guest_ns: u64,
    /// How it ends.
    pub end: LogEnd,
}

impl LogInfo {
    /// Reads the log through.
    #[must_use]
    pub fn read(reader: &mut LogReader) -> Self {
        let (images, bad_images) = match reader.images() {
            Ok(images) => (images, None),
            Err(error) => (Vec::new(), Some(with_causes(&error))),
        };
        let mut order = Order::default();
        let mut segments = vec![reader.place().file];
        let end = loop {
            match reader.next_batch() {
                Ok(Some(entries)) => {
                    if let Err(what) = entries.iter().try_for_each(|entry| order.check(entry)) {
                        break LogEnd::Damaged { what };
                    }
                }
                Ok(None) => break order.end(),
                Err(error @ LogError::Torn { .. }) => {
                    break LogEnd::Torn {
                        what: with_causes(&error),
                    };
                }
                Err(error) => {
                    break LogEnd::Damaged {
                        what: with_causes(&error),
                    };
                }
            }
            let file = reader.place().file;
            if segments.last() != Some(&file) {
                segments.push(file);
            }
        };
        let images = images.iter();
        Self {
            header: reader.header().clone(),
            images: images
                .map(|image| (image.kind.to_string(), image.bytes.len() as u64))
                .collect(),
            segments: segments.len() as u32,
            bytes: reader.total_bytes(),
            entries: order.entries,
            last_at: order.at,
            guest_ns: order.guest_ns,
            end: bad_images.map_or(end, |what| LogEnd::Damaged { what }),
        }
    }

    /// Whether nothing is wrong with it. A torn tail is: something was lost.
    #[must_use]
    pub fn is_good(&self) -> bool {
        matches!(self.end, LogEnd::Whole { .. } | LogEnd::Open)
    }
}

/// What must hold from entry to entry.
#[derive(Default)]
struct Order {
    entries: u64,
    at: Position,
    guest_ns: u64,
    ended: Option<String>,
}

impl Order {
    fn check(&mut self, entry: &logging_channel::Entry) -> Result<(), String> {
        let seq = entry.seq;
        if let Some(reason) = &self.ended {
            return Err(format!("entry {seq} follows the guest's end ({reason})"));
        }
        if entry.at < self.at {
            return Err(format!(
                "entry {seq} is at {}, before {} where the entry before it is",
                entry.at, self.at
            ));
        }
        if let Some(guest_ns) = entry.event.guest_ns() {
            if guest_ns < self.guest_ns {
                return Err(format!(
                    "entry {seq} takes guest time back from {} to {guest_ns} ns",
                    self.guest_ns
                ));
            }
            self.guest_ns = guest_ns;
        }
        if let Event::End { reason, .. } = entry.event {
            self.ended = Some(format!("{reason:?}"));
        }
        self.entries += 1;
        self.at = entry.at;
        Ok(())
    }

    fn end(&mut self) -> LogEnd {
        match self.ended.take() {
            Some(reason) => LogEnd::Whole { reason },
            None => LogEnd::Open,
        }
    }
}

impl fmt::Display for LogEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole { reason } => write!(f, "whole: the guest ended ({reason})"),
            Self::Open => f.write_str("whole so far: the guest had not ended"),
            Self::Torn { what } => write!(f, "torn: {what}"),
            Self::Damaged { what } => write!(f, "damaged: {what}"),
        }
    }
}

impl fmt::Display for LogInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let LogHeader {
            identity,
            boot,
            keeper,
            program,
            written_unix_s,
            ..
        } = &self.header;
        let mut row = |label: &str, value: String| writeln!(f, "{label:<18}{value}");
        row(
            "kept by",
            format!("{keeper}, lockstep {program}, at Unix time {written_unix_s} s"),
        )?;
        row("format", identity.format_version.to_string())?;
        row("clock", identity.clock.clone())?;
        row("CPU model", identity.cpu_model.clone())?;
        row("memory", format!("{} bytes", identity.memory_bytes))?;
        row("command line", format!("{:?}", identity.command_line))?;
        row("boot", identity.boot.clone())?;
        row("kernel", identity.kernel.to_string())?;
        let initrd = identity.initrd.map(|digest| digest.to_string());
        row(
            "initial RAM disk",
            initrd.unwrap_or_else(|| "none".to_owned()),
        )?;
        row("devices", identity.devices.join(", "))?;
        row("clock at boot", format!("Unix time {} s", boot.unix_time_s))?;
        let images = self.images.iter();
        let images: Vec<String> = images
            .map(|(name, bytes)| format!("{name}, {bytes} bytes"))
            .collect();
        row(
            "images in it",
            if images.is_empty() {
                "none".to_owned()
            } else {
                images.join("; ")
            },
        )?;
        row(
            "size",
            format!("{} bytes in {} files", self.bytes, self.segments),
        )?;
        row(
            "entries",
            format!(
                "{}, the last at {}, {:.3} s of guest time",
                self.entries,
                self.last_at,
                self.guest_ns as f64 / 1e9
            ),
        )?;
        row("end", self.end.to_string())
    }
}
