//! The pair's connection and heartbeats, as one source of what is heard.
//!
//! In: messages and heartbeats to send; sending never waits. Out: what the peer says. A connection that fails in any
//! way is [`Heard::Closed`], once; heartbeats may still come.

use std::time::Duration;

use logging_channel::{
    protocol::{Heartbeat, Message},
    transport::{Connection, Heartbeats, MessageReader, MessageWriter, TransportError},
};

use super::SessionError;

/// How long a peer has for our last words.
const LAST_WORDS_TIMEOUT: Duration = Duration::from_secs(1);

/// What came from the peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// On the connection.
    Message(Message),
    /// A datagram.
    Heartbeat(Heartbeat),
    /// The connection ended, or brought bytes that are no message.
    Closed,
}

/// A connection to the peer.
pub struct Link {
    /// `None` once the connection has failed.
    halves: Option<(MessageReader, MessageWriter)>,
    told_closed: bool,
    heartbeats: Heartbeats,
}

impl Link {
    /// A primary's end.
    ///
    /// # Errors
    /// If no port is free for heartbeats.
    pub async fn to_backup(connection: Connection, session: u64) -> Result<Self, SessionError> {
        let heartbeats =
            Heartbeats::connect(connection.local_addr(), connection.peer_addr(), session).await?;
        Ok(Self {
            halves: Some(connection.split()),
            told_closed: false,
            heartbeats,
        })
    }

    /// A backup's end.
    ///
    /// # Errors
    /// If the port is taken for heartbeats.
    pub async fn to_primary(connection: Connection) -> Result<Self, SessionError> {
        let heartbeats = Heartbeats::bind(connection.local_addr()).await?;
        Ok(Self {
            halves: Some(connection.split()),
            told_closed: false,
            heartbeats,
        })
    }

    /// At a backup: heartbeats of this pair count from now on.
    pub fn pair(&mut self, session: u64) {
        self.heartbeats.pair(session);
    }

    /// Sends a message, or keeps it until the peer takes it.
    pub fn send(&mut self, message: &Message) {
        if let Some((_, writer)) = &mut self.halves
            && writer.write(message).is_err()
        {
            self.halves = None;
        }
    }

    /// The peer is given up: it notices soonest by the connection's end.
    pub fn disconnect(&mut self) {
        self.halves = None;
        self.told_closed = true;
    }

    /// Sends a heartbeat, if the network takes it now.
    pub fn send_heartbeat(&mut self, heartbeat: &Heartbeat) {
        self.heartbeats.send(heartbeat);
    }

    /// Waits for what comes next; `read` is false while no messages can be taken. Cancel-safe.
    pub async fn next(&mut self, read: bool) -> Heard {
        loop {
            let Some((reader, writer)) = &mut self.halves else {
                if !std::mem::replace(&mut self.told_closed, true) {
                    return Heard::Closed;
                }
                return Heard::Heartbeat(hear(&mut self.heartbeats).await);
            };
            let failed = tokio::select! {
                message = reader.next(), if read => match message {
                    Ok(Some(message)) => return Heard::Message(message),
                    Ok(None) | Err(_) => true,
                },
                heartbeat = hear(&mut self.heartbeats) => return Heard::Heartbeat(heartbeat),
                flushed = writer.flush(), if writer.has_unsent() => flushed.is_err(),
            };
            if failed {
                self.halves = None;
            }
        }
    }

    /// Sends what waits, our last words, and closes. A peer that does not take them in time does without.
    pub async fn finish(self) {
        let Some((mut reader, writer)) = self.halves else {
            return;
        };
        let last_words = async {
            writer.finish().await?;
            // The system may throw away what the peer has not read yet, if we leave before it does.
            while reader.next().await?.is_some() {}
            Ok::<(), TransportError>(())
        };
        // How it ends changes nothing any more.
        drop(tokio::time::timeout(LAST_WORDS_TIMEOUT, last_words).await);
    }
}

/// A heartbeat; a socket that has failed brings none any more.
async fn hear(heartbeats: &mut Heartbeats) -> Heartbeat {
    match heartbeats.recv().await {
        Ok(heartbeat) => heartbeat,
        Err(_) => std::future::pending().await,
    }
}
