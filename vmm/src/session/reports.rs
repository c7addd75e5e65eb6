//! What the user is told: on stderr in sentences, in `--events` as data.

use std::sync::Arc;

use logging_channel::{Digest, Position, protocol::Report};

use crate::{
    doctor::Choice,
    host::{
        disk::DiskEvent,
        events::{Event, EventSink, Role},
        say,
    },
    machine::inspect::Inspection,
    session::{divergence::DivergenceReport, replica::Ending, second_opinion::Opinion},
    symbols::Symbols,
};

/// Tells the user what happens to one replica.
#[derive(Clone, Debug)]
pub struct Reporter {
    name: &'static str,
    events: EventSink,
    symbols: Arc<Symbols>,
}

impl Reporter {
    /// A reporter for a replica of this role; says which it is.
    #[must_use]
    pub fn new(role: Role, events: EventSink) -> Self {
        let name = match role {
            Role::Solo => "alone",
            Role::Primary => "primary",
            Role::Backup => "backup",
            Role::Arbiter => "arbiter",
            Role::DiskServer => "disk-server",
            Role::Replay => "replay",
        };
        events.emit(&Event::Role { role });
        Self {
            name,
            events,
            symbols: Arc::default(),
        }
    }

    /// The same, which names guest addresses from now on.
    #[must_use]
    pub fn with_symbols(mut self, symbols: Symbols) -> Self {
        self.symbols = Arc::new(symbols);
        self
    }

    /// Something that is no event.
    pub fn note(&self, text: &str) {
        say(&format!("lockstep {}: {text}", self.name));
    }

    /// Which engine runs the guest.
    pub fn engine(&self, choice: &Choice) {
        let Choice { engine, why } = choice;
        self.note(&format!("engine {engine}: {why}"));
        self.events.emit(&Event::Engine {
            engine: *engine,
            why: why.clone(),
        });
    }

    /// Something happened to a disk.
    pub fn disk(&self, event: &DiskEvent) {
        self.note(&event.to_string());
        self.events.emit(&Event::Disk {
            what: event.name().to_owned(),
            text: event.to_string(),
        });
    }

    /// The guest ended.
    pub fn ended(&self, ending: &Ending) {
        let Ending { reason, at, digest } = ending;
        self.note(&format!(
            "the guest ended ({reason:?}) at {at}, digest {digest}"
        ));
        self.events.emit(&Event::Ended {
            reason: format!("{reason:?}"),
            digest: digest.to_string(),
        });
    }

    /// A replay stopped where it was told to.
    pub fn stopped(&self, position: Position, inspection: &Inspection) {
        let Inspection { view, digest } = inspection;
        let symbol = self.symbols.name(view.linear_rip());
        let place = symbol
            .as_ref()
            .map_or(String::new(), |name| format!(" in {name}"));
        self.note(&format!(
            "stopped at {position}{place}, digest {digest}\n{view}"
        ));
        let registers = view.registers;
        self.events.emit(&Event::Stopped {
            position,
            general: registers.general,
            rip: registers.rip,
            rflags: registers.rflags,
            control: registers.control,
            segment_bases: registers.segment_bases,
            mode: view.mode.to_string(),
            symbol,
            digest: digest.to_string(),
        });
    }

    /// The machine does not follow its log.
    pub fn diverged(&self, report: &DivergenceReport) {
        let report = report.clone().named(&self.symbols);
        self.note(&report.to_string());
        let DivergenceReport {
            divergence,
            registers,
            mode,
            symbol,
        } = report;
        self.events.emit(&Event::Divergence {
            position: divergence.at,
            expected: divergence.expected,
            actual: divergence.actual,
            rip: registers.rip,
            mode: mode.to_string(),
            symbol,
            last_entries: divergence.last_entries,
        });
    }

    /// What a second replay says of a divergence.
    pub fn opinion(&self, opinion: &Opinion) {
        let opinion = opinion.clone().named(&self.symbols);
        self.note(&opinion.to_string());
        let first = match &opinion {
            Opinion::Unlike(first) => Some(first),
            _ => None,
        };
        self.events.emit(&Event::SecondOpinion {
            text: opinion.to_string(),
            alike_at: first.map(|first| first.alike_at),
            different_at: first.map(|first| first.at),
        });
    }

    /// The log ends, and the guest had not.
    pub fn log_ended(&self, at: Position, digest: &Digest) {
        self.note(&format!(
            "the log ends at {at}, and the guest had not: digest {digest}"
        ));
        self.events.emit(&Event::LogEnded {
            position: at,
            digest: digest.to_string(),
        });
    }

    /// What the protocol core has to tell.
    pub fn report(&self, report: &Report) {
        if !matches!(report, Report::Lag { .. } | Report::Paced { .. }) {
            self.note(&report.to_string());
        }
        if let Some(event) = event(report) {
            self.events.emit(&event);
        }
    }
}

fn event(report: &Report) -> Option<Event> {
    Some(match report {
        Report::PairFormed { term } => Event::PairFormed { term: *term },
        Report::PeerLost { why } => Event::PeerLost {
            why: why.to_string(),
        },
        Report::Claiming { term } => Event::Claiming { term: *term },
        Report::WaitingForArbiter => Event::WaitingForArbiter,
        Report::ClaimWon { term } => Event::ClaimWon { term: *term },
        Report::ClaimLost { term } => Event::ClaimLost { term: *term },
        Report::Live { term } => Event::Live { term: *term },
        Report::Lag { entries, time } => Event::Lag {
            entries: *entries,
            ms: time.as_millis() as u64,
        },
        Report::Halted { reason } => Event::Halted {
            reason: reason.clone(),
        },
        Report::Refused { reason, .. } => Event::Halted {
            reason: reason.clone(),
        },
        Report::Draining { .. }
        | Report::Paced { .. }
        | Report::Finished
        | Report::Diverged { .. } => return None,
    })
}
