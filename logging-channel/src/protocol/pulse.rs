//! Heartbeats of one replica: its own, and what it has heard of the peer's.

use std::time::Duration;

use super::{Heartbeat, Role};

/// In: time and the peer's heartbeats. Out: this replica's heartbeats. A datagram of another pair,
/// term or role, a repeated and an overtaken one is no sign of life.
#[derive(Debug)]
pub(super) struct Pulse {
    role: Role,
    term: u64,
    session: u64,
    interval: Duration,
    counter: u64,
    heard: u64,
    due_at: Duration,
}

impl Pulse {
    /// The first heartbeat is due at once.
    pub(super) fn new(
        role: Role,
        term: u64,
        session: u64,
        interval: Duration,
        now: Duration,
    ) -> Self {
        Self {
            role,
            term,
            session,
            interval,
            counter: 0,
            heard: 0,
            due_at: now,
        }
    }

    pub(super) fn due_at(&self) -> Duration {
        self.due_at
    }

    /// The next heartbeat, if it is due.
    pub(super) fn beat(&mut self, now: Duration) -> Option<Heartbeat> {
        if now < self.due_at {
            return None;
        }
        self.due_at = now + self.interval;
        self.counter += 1;
        Some(Heartbeat {
            role: self.role,
            term: self.term,
            counter: self.counter,
            heard: self.heard,
            session: self.session,
        })
    }

    /// True if `heartbeat` is a new sign of life of this pair's other replica.
    pub(super) fn hear(&mut self, heartbeat: &Heartbeat) -> bool {
        let genuine = heartbeat.role == self.role.peer()
            && heartbeat.term == self.term
            && heartbeat.session == self.session
            && heartbeat.counter > self.heard
            && heartbeat.heard <= self.counter;
        if genuine {
            self.heard = heartbeat.counter;
        }
        genuine
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_new_heartbeat_of_the_peer_counts() {
        let mut pulse = Pulse::new(
            Role::Primary,
            2,
            9,
            Duration::from_millis(50),
            Duration::ZERO,
        );
        assert!(pulse.beat(Duration::ZERO).is_some());
        let good = Heartbeat {
            role: Role::Backup,
            term: 2,
            counter: 5,
            heard: 1,
            session: 9,
        };
        for stray in [
            Heartbeat {
                role: Role::Primary,
                ..good
            },
            Heartbeat { term: 1, ..good },
            Heartbeat { session: 8, ..good },
            Heartbeat { heard: 2, ..good },
        ] {
            assert!(!pulse.hear(&stray), "{stray:?}");
        }
        assert!(pulse.hear(&good));
        assert!(!pulse.hear(&good), "repeated");
        assert!(!pulse.hear(&Heartbeat { counter: 4, ..good }), "overtaken");
        assert!(pulse.hear(&Heartbeat { counter: 6, ..good }));
    }

    #[test]
    fn heartbeats_come_at_their_interval_and_are_not_caught_up() {
        let ms = Duration::from_millis;
        let mut pulse = Pulse::new(Role::Backup, 1, 1, ms(50), ms(0));
        assert_eq!(pulse.beat(ms(0)).map(|h| h.counter), Some(1));
        assert_eq!(pulse.beat(ms(49)), None);
        assert_eq!(pulse.beat(ms(1000)).map(|h| h.counter), Some(2));
        assert_eq!(pulse.beat(ms(1001)), None);
        assert_eq!(pulse.due_at(), ms(1050));
    }
}
