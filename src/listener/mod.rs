//! Accepts connections within limits, spreads them over single-threaded workers, and drains them.
//!
//! tonic's and axum's own servers are not used: they have no limit on connections, no time limit before the first request, spin
//! when file descriptors run out, and wait for ever for a silent connection when asked to stop. One single-threaded runtime per
//! core also answers more requests than one runtime over all cores.

mod accept;
mod activity_stream;
mod admission;
mod body;
mod connection;
mod descriptors;
mod keepalive;
mod reply;
mod request;
mod rpc;
mod worker;

pub use body::RequestBody;
pub use descriptors::fit_to_descriptors;
pub use request::Serve;

use crate::shutdown::Shutdown;
use accept::Acceptor;
use admission::Admission;
use socket2::{Domain, Socket, Type};
use std::{io, net::SocketAddr, num::NonZeroUsize, thread, time::Duration};
use tokio::task::JoinHandle;

/// Which protocols a listener speaks. Plain text; both find out by themselves which version a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/2 with prior knowledge, and nothing else: gRPC.
    Rpc,
    /// HTTP/1.1, and HTTP/2 with prior knowledge.
    Web,
}

/// The limits of one listener.
#[derive(Debug, Clone)]
pub struct Options {
    /// What is spoken.
    pub protocol: Protocol,
    /// Threads, each with a runtime of its own. A connection stays with one of them.
    pub workers: NonZeroUsize,
    /// Connections at once; further ones are closed as soon as they are accepted.
    pub connections: usize,
    /// Connections at once from one IPv4 address or one IPv6 /64.
    pub connections_per_source: usize,
    /// Requests at once on one HTTP/2 connection (RFC 9113 §5.1.2).
    pub streams_per_connection: u32,
    /// How long the header of a connection's first request may take from the opening of the connection, and that of a further
    /// HTTP/1 request from its first byte.
    pub header_timeout: Duration,
    /// How long a connection may go without a request.
    pub idle_timeout: Duration,
    /// How often a silent HTTP/2 client is pinged.
    pub keepalive_interval: Duration,
    /// How long its answer to a ping may take. For HTTP/1, how long what was sent may stay unacknowledged.
    pub keepalive_timeout: Duration,
    /// How old a connection may get, give or take a tenth; `None`: any age.
    pub connection_age: Option<Duration>,
    /// How long requests may go on on a connection that was asked to close for its age or its silence.
    pub closing_timeout: Duration,
    /// How long a connection without a request may linger after it was asked to close, so that the GOAWAY and the last answer
    /// get through.
    pub linger_timeout: Duration,
    /// How long open requests may take when the process stops.
    pub drain_timeout: Duration,
}

impl Options {
    /// The limits for a listener of this protocol, unless configured otherwise.
    #[must_use]
    pub fn new(protocol: Protocol) -> Self {
        Self {
            protocol,
            workers: thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
            connections: 10_000,
            connections_per_source: 2_000,
            streams_per_connection: 256,
            header_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(5 * 60),
            keepalive_interval: Duration::from_secs(30),
            keepalive_timeout: Duration::from_secs(20),
            connection_age: None,
            closing_timeout: Duration::from_secs(30),
            linger_timeout: Duration::from_secs(2),
            drain_timeout: Duration::from_secs(30),
        }
    }
}

/// The address that a request came from: an extension of every request on a web listener. A gRPC request has none: its caller is
/// not identified by an address, and to note one would take longer than most checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// The address at the other end of the connection.
    pub address: SocketAddr,
}

/// A bound address, not served yet: clients may connect and wait.
#[derive(Debug)]
pub struct Listener {
    socket: std::net::TcpListener,
    address: SocketAddr,
}

/// The header of one request.
const HEADER_BYTES: u32 = 16 * 1024;

/// Connections that wait in the kernel to be accepted; it lowers the number to its own limit.
const BACKLOG: i32 = 4096;

impl Listener {
    /// Binds an address; port 0 is any free port.
    ///
    /// # Errors
    /// If the address is in use, is not this machine's, or may not be bound by this user.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        // A restart must not wait for the old process's closed connections.
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        socket.set_nonblocking(true)?;
        let socket = std::net::TcpListener::from(socket);
        Ok(Self {
            address: socket.local_addr()?,
            socket,
        })
    }

    /// The address that was bound, with its real port.
    #[must_use]
    pub fn local_address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until the stop is ordered, then drains. Must be called inside a tokio runtime, which accepts; the connections live
    /// on the workers, each with a service from `make_service`, which is called on the worker.
    ///
    /// # Errors
    /// If the threads cannot be started; nothing is served then.
    pub fn serve<S: Serve>(
        self,
        options: Options,
        shutdown: Shutdown,
        make_service: impl Fn() -> S + Clone + Send + 'static,
    ) -> io::Result<Serving> {
        let workers = (0..options.workers.get())
            .map(|number| worker::start(number, &options, shutdown.clone(), make_service.clone()))
            .collect::<io::Result<Vec<_>>>()?;
        let acceptor = Acceptor {
            socket: tokio::net::TcpListener::from_std(self.socket)?,
            admission: Admission::new(options.connections, options.connections_per_source),
            workers,
            user_timeout: options.keepalive_interval + options.keepalive_timeout,
            shutdown,
        };
        Ok(Serving(tokio::spawn(acceptor.run())))
    }
}

/// A listener that is being served.
#[derive(Debug)]
pub struct Serving(JoinHandle<usize>);

impl Serving {
    /// Waits until the stop was ordered and every connection is closed. Says how many requests were cut off because they took
    /// longer than the stop could wait.
    pub async fn drained(self) -> usize {
        // The task fails only if it panicked, and then nothing is served any more.
        self.0.await.unwrap_or(0)
    }
}
