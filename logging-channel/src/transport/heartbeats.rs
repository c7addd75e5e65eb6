//! Heartbeats as UDP datagrams.

use std::net::SocketAddr;

use tokio::net::UdpSocket;

use super::TransportError;
use crate::codec::{HEARTBEAT_MAX_BYTES, decode_heartbeat, encode_heartbeat};
use crate::protocol::Heartbeat;

/// Sends and receives the heartbeats of one pair at a time. Datagrams that are no heartbeat of the
/// pair are dropped and counted; so is whatever the socket reports, since losing a heartbeat is
/// nothing that needs handling.
#[derive(Debug)]
pub struct Heartbeats {
    socket: UdpSocket,
    /// The pair, once known.
    session: Option<u64>,
    /// Where the peer is, once known.
    peer: Option<SocketAddr>,
    ignored: u64,
}

impl Heartbeats {
    /// For a backup: bound to the address it listens on. The peer is unknown until
    /// [`pair`](Self::pair) and the first heartbeat.
    ///
    /// # Errors
    ///
    /// The address is taken.
    pub async fn bind(local: SocketAddr) -> Result<Self, TransportError> {
        let socket = UdpSocket::bind(local)
            .await
            .map_err(|source| TransportError::Listen {
                address: format!("{local} (UDP)"),
                source,
            })?;
        Ok(Self {
            socket,
            session: None,
            peer: None,
            ignored: 0,
        })
    }

    /// For a primary: bound to the local address of its TCP connection, with the same port if it
    /// is free; it sends to `peer`, the other end of that connection.
    ///
    /// # Errors
    ///
    /// No port is free.
    pub async fn connect(
        local: SocketAddr,
        peer: SocketAddr,
        session: u64,
    ) -> Result<Self, TransportError> {
        let mut heartbeats = match Self::bind(local).await {
            Ok(heartbeats) => heartbeats,
            Err(_) => Self::bind(SocketAddr::new(local.ip(), 0)).await?,
        };
        heartbeats.session = Some(session);
        heartbeats.peer = Some(peer);
        Ok(heartbeats)
    }

    /// For a backup: from now on heartbeats of `session` count, and the first shows where the
    /// primary is.
    pub fn pair(&mut self, session: u64) {
        self.session = Some(session);
        self.peer = None;
    }

    /// Sends `heartbeat` if the peer is known and the socket takes it at once.
    pub fn send(&mut self, heartbeat: &Heartbeat) {
        if let Some(peer) = self.peer {
            // A heartbeat that does not go out is one that got lost.
            let _ = self.socket.try_send_to(&encode_heartbeat(heartbeat), peer);
        }
    }

    /// The next heartbeat of the pair. Cancel-safe.
    ///
    /// # Errors
    ///
    /// The socket failed for good.
    pub async fn recv(&mut self) -> Result<Heartbeat, TransportError> {
        // One byte more than any heartbeat, so that a longer datagram shows.
        let mut datagram = [0; HEARTBEAT_MAX_BYTES + 1];
        loop {
            self.socket.readable().await?;
            let received = match self.socket.try_recv_from(&mut datagram) {
                Ok((count, from)) => decode_heartbeat(&datagram[..count])
                    .ok()
                    .filter(|heartbeat| self.session == Some(heartbeat.session))
                    .map(|heartbeat| (heartbeat, from)),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => continue,
                // Such as "port unreachable", the answer to a heartbeat sent before.
                Err(_) => None,
            };
            let Some((heartbeat, from)) = received else {
                self.ignored += 1;
                continue;
            };
            self.peer.get_or_insert(from);
            return Ok(heartbeat);
        }
    }

    /// Datagrams dropped so far.
    #[must_use]
    pub fn ignored(&self) -> u64 {
        self.ignored
    }

    /// The address bound to.
    ///
    /// # Errors
    ///
    /// The socket failed.
    pub fn local_addr(&self) -> Result<SocketAddr, TransportError> {
        Ok(self.socket.local_addr()?)
    }
}
