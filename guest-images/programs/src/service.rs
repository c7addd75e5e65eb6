//! The two TCP services: one thread for each listener, one for each connection.
//!
//! A thread that blocks in `read` needs no `poll`: a request costs two system calls, however many
//! connections there are. Their number is bounded, and so is what each one holds.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;

use crate::console::say;
use crate::counter::Requests;

/// A TCP service of the guest.
#[derive(Clone, Copy, Debug)]
pub enum Service {
    /// Answers each line `incr` with the next number.
    Counter,
    /// Sends back what it receives.
    Echo,
}

impl Service {
    fn name(self) -> &'static str {
        match self {
            Service::Counter => "counterd",
            Service::Echo => "echod",
        }
    }

    fn port(self) -> u16 {
        match self {
            Service::Counter => 7000,
            Service::Echo => 7007,
        }
    }
}

/// Connections that one service holds at once; one more is closed as soon as it is accepted.
const CONNECTIONS: usize = 32;
/// Bytes that one `read` asks for.
const READ_BYTES: usize = 4096;
/// Stack of a connection's thread: the read buffer and little else.
const STACK_BYTES: usize = 32 * 1024;

/// The last number given, to whomever.
static COUNT: AtomicU64 = AtomicU64::new(0);

/// Listens on `service`'s port. The kernel queues connections from then on.
pub fn listen(service: Service) -> std::io::Result<TcpListener> {
    TcpListener::bind((Ipv4Addr::UNSPECIFIED, service.port()))
}

/// Serves `listener` on a thread of its own, for good.
pub fn spawn(service: Service, listener: TcpListener) -> std::io::Result<()> {
    thread::Builder::new()
        .stack_size(STACK_BYTES)
        .spawn(move || accept(service, &listener))
        .map(drop)
}

/// `service` as a program of its own. Returns only if it cannot listen.
pub fn serve_alone(service: Service) {
    match listen(service) {
        Ok(listener) => {
            say("ready");
            accept(service, &listener);
        }
        Err(error) => {
            let (name, port) = (service.name(), service.port());
            say(&format!("{name} cannot listen on port {port}: {error}"));
            std::process::exit(1);
        }
    }
}

fn accept(service: Service, listener: &TcpListener) -> ! {
    static OPEN: [AtomicUsize; 2] = [AtomicUsize::new(0), AtomicUsize::new(0)];
    let open = &OPEN[service as usize];
    loop {
        // A connection that fails before it is accepted is the client's affair.
        let Ok((stream, _)) = listener.accept() else {
            continue;
        };
        if open.load(Ordering::Relaxed) == CONNECTIONS {
            continue;
        }
        open.fetch_add(1, Ordering::Relaxed);
        let spawned = thread::Builder::new()
            .stack_size(STACK_BYTES)
            .spawn(move || {
                // The client went away; there is nobody to tell.
                let _ = serve(service, stream);
                open.fetch_sub(1, Ordering::Relaxed);
            });
        if let Err(error) = spawned {
            open.fetch_sub(1, Ordering::Relaxed);
            say(&format!("{} has no thread: {error}", service.name()));
        }
    }
}

fn serve(service: Service, mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut received = [0; READ_BYTES];
    let mut requests = Requests::default();
    let mut answers = Vec::new();
    loop {
        let length = match stream.read(&mut received) {
            Ok(0) => return Ok(()),
            Ok(length) => length,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        match service {
            Service::Echo => stream.write_all(&received[..length])?,
            Service::Counter => {
                let next = || COUNT.fetch_add(1, Ordering::Relaxed) + 1;
                requests.feed(&received[..length], next, &mut answers);
                if !answers.is_empty() {
                    stream.write_all(&answers)?;
                    answers.clear();
                }
            }
        }
    }
}
