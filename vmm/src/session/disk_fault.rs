//! A fault on purpose: the process is killed or stopped at a named point of a disk request's way, so that tests can show what becomes of the request.
//!
//! In: passages of the points. Out: a signal to this process, at the passage asked for. Without a fault nothing happens.

use std::{
    str::FromStr,
    sync::atomic::{AtomicU64, Ordering},
};

use rustix::process::{Signal, getpid, kill_process};

/// Where on its way a change of a disk is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskPoint {
    /// Recorded and held: the backup has not acknowledged it.
    BeforeAck,
    /// Released, and not yet given to the disk.
    BeforeWrite,
    /// Done by the disk, and not yet told.
    BeforeCompletion,
    /// A flush was given to the disk.
    DuringFlush,
}

impl DiskPoint {
    /// Every point, in order.
    pub const ALL: [Self; 4] = [
        Self::BeforeAck,
        Self::BeforeWrite,
        Self::BeforeCompletion,
        Self::DuringFlush,
    ];

    /// As on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::BeforeAck => "before-ack",
            Self::BeforeWrite => "before-write",
            Self::BeforeCompletion => "before-completion",
            Self::DuringFlush => "during-flush",
        }
    }
}

/// What is done to the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Kill,
    Stop,
}

/// `POINT:COUNT:kill` or `POINT:COUNT:stop`: at the COUNT-th passage of the point.
#[derive(Debug)]
pub struct DiskFault {
    point: DiskPoint,
    action: Action,
    /// Passages until then.
    left: AtomicU64,
}

/// Another copy, which counts anew.
impl Clone for DiskFault {
    fn clone(&self) -> Self {
        Self {
            left: AtomicU64::new(self.left.load(Ordering::Relaxed)),
            ..*self
        }
    }
}

impl DiskFault {
    /// A request passes `point`.
    pub fn pass(&self, point: DiskPoint) {
        if point != self.point || self.left.fetch_sub(1, Ordering::SeqCst) != 1 {
            return;
        }
        let signal = match self.action {
            Action::Kill => Signal::KILL,
            Action::Stop => Signal::STOP,
        };
        kill_process(getpid(), signal).expect("a process may signal itself");
    }
}

impl FromStr for DiskFault {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            let points = DiskPoint::ALL.map(DiskPoint::name).join(", ");
            format!(
                "{text:?} is no such fault: give POINT:COUNT:kill or POINT:COUNT:stop, POINT one of {points}, COUNT at least 1"
            )
        };
        let parts: Vec<&str> = text.split(':').collect();
        let [point, count, action] = parts[..] else {
            return Err(wrong());
        };
        let mut points = DiskPoint::ALL.into_iter();
        let point = points.find(|known| known.name() == point);
        let count = count.parse().ok().filter(|count| *count > 0);
        let action = match action {
            "kill" => Some(Action::Kill),
            "stop" => Some(Action::Stop),
            _ => None,
        };
        match (point, count, action) {
            (Some(point), Some(count), Some(action)) => Ok(Self {
                point,
                action,
                left: AtomicU64::new(count),
            }),
            _ => Err(wrong()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_read_and_refused() {
        let fault: DiskFault = "during-flush:3:stop".parse().expect("a good fault");
        assert_eq!(
            (fault.point, fault.action),
            (DiskPoint::DuringFlush, Action::Stop)
        );
        // Other points, and passages too early, do nothing: this process lives on.
        fault.pass(DiskPoint::BeforeAck);
        fault.pass(DiskPoint::DuringFlush);
        assert_eq!(fault.left.load(Ordering::Relaxed), 2);
        for bad in [
            "",
            "during-flush",
            "x:1:kill",
            "before-ack:0:kill",
            "before-ack:1:run",
            "before-ack:1:kill:2",
        ] {
            assert!(bad.parse::<DiskFault>().is_err(), "{bad}");
        }
    }
}
