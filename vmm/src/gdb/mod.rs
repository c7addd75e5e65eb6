//! A debugger for replays: the GDB remote protocol over TCP, one debugger at a time.
//!
//! In: a [`TimeMachine`], and a debugger's requests. Out: registers, memory, and the machine wherever the debugger wants it, forwards and
//! backwards. What always holds: nothing that a debugger does changes the replay; what it may not do is refused.
//!
//! ```text
//!  gdb ◄── TCP ──► gdbstub ──► Target ──► TimeMachine
//!                     ▲          └─ resume, step, backwards: noted, and done in slices,
//!                     └──────────── between which a Ctrl-C is heard
//! ```
//!
//! There is no authentication: whoever reaches the address may read all of the guest's memory.

mod monitor;
mod registers;
mod target;

use std::{
    io::Write,
    net::{SocketAddr, TcpListener, TcpStream},
};

use gdbstub::{
    conn::ConnectionExt,
    stub::{
        DisconnectReason, GdbStub, SingleThreadStopReason,
        run_blocking::{BlockingEventLoop, Event, WaitForStopReasonError},
    },
    target::Target,
};

use crate::{
    engine::{Checkpoint, Inspect},
    host::ConsoleOutput,
    session::time_travel::{TimeMachine, TravelError},
};
use target::Debugged;

/// A debugger cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum GdbError {
    /// The address cannot be listened on.
    #[error("Cannot wait for a debugger at {address}; is another program there?")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The host's answer.
        source: std::io::Error,
    },
    /// The host accepts no connections.
    #[error("Cannot accept a debugger's connection")]
    Accept(#[source] std::io::Error),
    /// See [`TravelError`].
    #[error(transparent)]
    Travel(#[from] TravelError),
}

/// Where debuggers connect.
pub struct Listener {
    listener: TcpListener,
    address: SocketAddr,
}

impl Listener {
    /// Listens at `address`; port 0 is any free one.
    ///
    /// # Errors
    /// [`GdbError::Listen`].
    pub fn bind(address: SocketAddr) -> Result<Self, GdbError> {
        let failed = |source| GdbError::Listen { address, source };
        let listener = TcpListener::bind(address).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self { listener, address })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Serves one debugger after the other, until one kills the machine. What the guest prints goes to `console`.
///
/// # Errors
/// See [`GdbError`].
pub fn serve<E: Checkpoint + Inspect>(
    listener: &Listener,
    replay: TimeMachine<E>,
    console: ConsoleOutput,
) -> Result<(), GdbError> {
    let mut debugged = Debugged::new(replay, console);
    loop {
        let (connection, _) = listener.listener.accept().map_err(GdbError::Accept)?;
        let farewell = connection.try_clone().map_err(GdbError::Accept)?;
        let stub = GdbStub::new(connection);
        match stub.run_blocking::<Loop<E>>(&mut debugged) {
            Ok(DisconnectReason::Kill) => {
                say_killed(farewell);
                return Ok(());
            }
            // It went away, politely or not: another may come.
            Ok(_) => {}
            Err(error) if error.is_target_error() => {
                if let Some(error) = error.into_target_error() {
                    return Err(error.into());
                }
            }
            Err(_) => {}
        }
        debugged.forget_breakpoints();
    }
}

/// The answer to `vKill`, which gdb waits for and the stub leaves out. If it is gone already, all the better.
fn say_killed(mut connection: TcpStream) {
    drop(connection.write_all(b"$OK#9a"));
}

/// The loop between a connection and a target.
struct Loop<E>(std::marker::PhantomData<E>);

impl<E: Checkpoint + Inspect> BlockingEventLoop for Loop<E> {
    type Target = Debugged<E>;
    type Connection = TcpStream;
    type StopReason = SingleThreadStopReason<u64>;

    fn wait_for_stop_reason(
        target: &mut Debugged<E>,
        connection: &mut TcpStream,
    ) -> Result<
        Event<Self::StopReason>,
        WaitForStopReasonError<<Debugged<E> as Target>::Error, std::io::Error>,
    > {
        loop {
            let stop = target.go_on().map_err(WaitForStopReasonError::Target)?;
            if let Some(stop) = stop {
                // `peek` leaves the connection as it must not be written to.
                let blocking = connection.set_nonblocking(false);
                blocking.map_err(WaitForStopReasonError::Connection)?;
                return Ok(Event::TargetStopped(stop));
            }
            let heard = ConnectionExt::peek(connection);
            if heard.map_err(WaitForStopReasonError::Connection)?.is_some() {
                let byte = ConnectionExt::read(connection);
                return Ok(Event::IncomingData(
                    byte.map_err(WaitForStopReasonError::Connection)?,
                ));
            }
        }
    }

    fn on_interrupt(target: &mut Debugged<E>) -> Result<Option<Self::StopReason>, TravelError> {
        target.interrupt().map(Some)
    }
}
