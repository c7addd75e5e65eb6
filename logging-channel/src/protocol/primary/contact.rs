//! When the backup last heard this primary, as far as the primary can prove it.
//!
//! What arrives from the backup says little by itself: it may have waited in a socket while this
//! process was stopped. But every ack and every heartbeat echoes something the primary sent, and
//! the primary knows when it sent that. So the moment of *sending* what was echoed is the proof:
//! the backup heard the primary no earlier than then, and will not suspect it of silence before
//! its failure timeout has passed from then on. Nothing that waits in a socket can make that
//! proof fresher than it is.

use std::collections::VecDeque;
use std::time::Duration;

#[derive(Debug)]
pub(super) struct Contact {
    timeout: Duration,
    proven_at: Duration,
    /// Counter and time of sending of heartbeats that a later echo can still prove something by:
    /// those sent within the timeout.
    heartbeats: VecDeque<(u64, Duration)>,
}

impl Contact {
    /// The pair was formed just now. Nothing sent before counts: an output needs an ack of an entry
    /// sent after this, and that ack is a proof by itself.
    pub(super) fn new(timeout: Duration, now: Duration) -> Self {
        Self {
            timeout,
            proven_at: now,
            heartbeats: VecDeque::new(),
        }
    }

    pub(super) fn heartbeat_sent(&mut self, counter: u64, now: Duration) {
        while let Some(&(_, sent_at)) = self.heartbeats.front()
            && sent_at + self.timeout < now
        {
            self.heartbeats.pop_front();
        }
        self.heartbeats.push_back((counter, now));
    }

    /// The backup has heard the heartbeat `counter`.
    pub(super) fn heartbeat_echoed(&mut self, counter: u64) {
        while let Some(&(sent, sent_at)) = self.heartbeats.front()
            && sent <= counter
        {
            self.heartbeats.pop_front();
            self.proved(sent_at);
        }
    }

    /// The backup has heard something that was sent at `sent_at`.
    pub(super) fn proved(&mut self, sent_at: Duration) {
        self.proven_at = self.proven_at.max(sent_at);
    }

    pub(super) fn silence(&self, now: Duration) -> Duration {
        now.saturating_sub(self.proven_at)
    }

    /// From here on the backup may have given this primary up.
    pub(super) fn lost_at(&self) -> Duration {
        self.proven_at + self.timeout
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_echo_proves_the_time_of_sending_not_of_arrival() {
        let ms = Duration::from_millis;
        let mut contact = Contact::new(ms(500), ms(0));
        contact.heartbeat_sent(1, ms(100));
        contact.heartbeat_sent(2, ms(150));
        contact.heartbeat_sent(3, ms(200));
        contact.heartbeat_echoed(2);
        assert_eq!(contact.lost_at(), ms(650));
        contact.heartbeat_echoed(1);
        contact.heartbeat_echoed(2);
        assert_eq!(contact.lost_at(), ms(650), "an old echo proves nothing new");
        contact.proved(ms(120));
        assert_eq!(contact.lost_at(), ms(650));
        assert_eq!(contact.silence(ms(400)), ms(250));
    }

    #[test]
    fn memory_is_bounded_by_the_timeout() {
        let ms = Duration::from_millis;
        let mut contact = Contact::new(ms(500), ms(0));
        for counter in 0..10_000 {
            contact.heartbeat_sent(counter, ms(counter * 50));
        }
        assert!(contact.heartbeats.len() <= 12);
    }
}
