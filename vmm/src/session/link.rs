//! The pair's connection and heartbeats, as one source of what is heard.

use logging_channel::{
    protocol::{Heartbeat, Message},
    transport::{Connection, Heartbeats, MessageReader, MessageWriter},
};

use super::SessionError;

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
    reader: Option<MessageReader>,
    writer: MessageWriter,
    heartbeats: Heartbeats,
}

impl Link {
    /// Sends, and never waits: what the peer does not take is queued, within the protocol's own bounds.
    pub fn send(&mut self, message: Message) {
        self.writer.send(message);
    }
}
