//! A worker: one thread, one single-threaded runtime, and the reaper over its connections.

use super::{
    HEADER_BYTES, Options, Peer, Protocol,
    activity_stream::ActivityStream,
    admission::Permit,
    connection::{ConnectionHandle, ConnectionState},
    request::{Serve, counted},
    rpc::Rpc,
};
use crate::{error_chain::chain, jitter, shutdown::Shutdown};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use std::{
    error::Error as StdError,
    io,
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};
use tokio::{
    runtime,
    sync::{mpsc, oneshot},
    time::{MissedTickBehavior, interval},
};

/// Fields in the header of one HTTP/1 request.
const HEADER_FIELDS: usize = 100;

/// What a connection may send ahead of being read, in all its streams together. A request is far smaller.
const CONNECTION_WINDOW: u32 = 1024 * 1024;

/// How long work may go on that no connection waits for: a use case runs to its end even if its caller has gone.
const DETACHED_WORK: Duration = Duration::from_secs(1);

/// How long after its time limit a worker that does not come back is waited for.
const OVERRUN: Duration = Duration::from_secs(1);

/// A connection on its way to a worker.
pub(super) struct AcceptedConnection {
    pub(super) stream: TcpStream,
    pub(super) peer: SocketAddr,
    pub(super) permit: Permit,
}

/// The acceptor's end of a worker.
pub(super) struct Worker {
    connections: mpsc::UnboundedSender<(AcceptedConnection, Load)>,
    load: Arc<AtomicUsize>,
    drained: oneshot::Receiver<usize>,
    drain_timeout: Duration,
}

/// Counts as one of a worker's connections until it is dropped.
struct Load(Arc<AtomicUsize>);

impl Drop for Load {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Worker {
    /// Connections that the worker has, those on their way included.
    ///
    /// A worker that has ended has more than any: it would otherwise be chosen for ever.
    pub(super) fn load(&self) -> usize {
        match self.connections.is_closed() {
            true => usize::MAX,
            false => self.load.load(Ordering::Relaxed),
        }
    }

    /// Takes a connection. If the worker is gone, the connection is closed.
    pub(super) fn take(&self, accepted: AcceptedConnection) {
        self.load.fetch_add(1, Ordering::Relaxed);
        let _ = self.connections.send((accepted, Load(Arc::clone(&self.load))));
    }

    /// Waits until the worker has closed its connections. Says how many requests it cut off.
    pub(super) async fn drained(self) -> usize {
        drop(self.connections);
        // A handler that blocks its thread must not keep the process.
        let limit = self.drain_timeout + DETACHED_WORK + OVERRUN;
        tokio::time::timeout(limit, self.drained)
            .await
            .map_or(0, |drained| drained.unwrap_or(0))
    }
}

/// Starts a worker thread.
pub(super) fn start<S: Serve>(
    number: usize,
    options: &Options,
    shutdown: Shutdown,
    make_service: impl Fn() -> S + Send + 'static,
) -> io::Result<Worker> {
    let (sender, connections) = mpsc::unbounded_channel();
    let (done, drained) = oneshot::channel();
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    let reaper = Reaper {
        server: Server::new(options),
        options: options.clone(),
        connections: Vec::new(),
    };
    let name = match options.protocol {
        Protocol::Rpc => format!("rpc-{number}"),
        Protocol::Web => format!("web-{number}"),
    };
    thread::Builder::new().name(name).spawn(move || {
        let cut_off = runtime.block_on(async move {
            let service = make_service();
            reaper.run(connections, shutdown, service).await
        });
        // The acceptor may have gone already.
        let _ = done.send(cut_off);
    })?;
    Ok(Worker {
        connections: sender,
        load: Arc::default(),
        drained,
        drain_timeout: options.drain_timeout,
    })
}

/// How connections are spoken to.
#[derive(Clone)]
enum Server {
    Rpc(Rpc),
    Web(auto::Builder<TokioExecutor>),
}

impl Server {
    fn new(options: &Options) -> Self {
        match options.protocol {
            Protocol::Rpc => Self::Rpc(Rpc::new(options)),
            Protocol::Web => {
                let mut builder = auto::Builder::new(TokioExecutor::new());
                builder
                    .http1()
                    // hyper's own limit would also end the pause between two requests; the reaper keeps ours.
                    .header_read_timeout(None)
                    .max_buf_size(HEADER_BYTES as usize)
                    .max_headers(HEADER_FIELDS);
                builder
                    .http2()
                    .timer(TokioTimer::new())
                    .max_concurrent_streams(options.streams_per_connection)
                    .max_header_list_size(HEADER_BYTES)
                    .initial_connection_window_size(CONNECTION_WINDOW)
                    .keep_alive_interval(options.keepalive_interval)
                    .keep_alive_timeout(options.keepalive_timeout);
                Self::Web(builder)
            }
        }
    }
}

/// A worker's view of its connections. Must run on the worker's runtime.
struct Reaper {
    server: Server,
    options: Options,
    connections: Vec<ConnectionHandle>,
}

impl Reaper {
    async fn run<S: Serve>(
        mut self,
        mut accepted: mpsc::UnboundedReceiver<(AcceptedConnection, Load)>,
        mut shutdown: Shutdown,
        service: S,
    ) -> usize {
        let mut rounds = interval(self.round_length());
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = shutdown.draining() => break,
                connection = accepted.recv() => match connection {
                    Some(connection) => self.admit(connection, &service),
                    None => break,
                },
                _ = rounds.tick(), if !self.connections.is_empty() => {
                    self.round(self.options.closing_timeout);
                }
            }
        }
        // The acceptor may have handed over one more before it learned of the stop.
        accepted.close();
        while let Some(connection) = accepted.recv().await {
            self.admit(connection, &service);
        }
        self.drain(shutdown).await
    }

    /// How often the reaper goes round: often enough to keep every limit within a quarter of it, or half a second.
    fn round_length(&self) -> Duration {
        let shortest = self
            .options
            .header_timeout
            .min(self.options.idle_timeout)
            .min(self.options.linger_timeout);
        (shortest / 4).clamp(Duration::from_millis(5), Duration::from_millis(500))
    }

    fn round(&mut self, closing_timeout: Duration) {
        self.connections.retain(|connection| !connection.is_closed());
        let now = Instant::now();
        for connection in &mut self.connections {
            connection.inspect(now, &self.options, closing_timeout);
        }
    }

    async fn drain(mut self, mut shutdown: Shutdown) -> usize {
        let now = Instant::now();
        for connection in &mut self.connections {
            connection.start_closing(now);
        }
        let deadline = tokio::time::Instant::from_std(now + self.options.drain_timeout);
        let mut rounds = interval(Duration::from_millis(20));
        loop {
            tokio::select! {
                biased;
                () = shutdown.immediate() => break,
                () = tokio::time::sleep_until(deadline) => break,
                _ = rounds.tick() => {}
            }
            self.round(self.options.drain_timeout);
            if self.connections.is_empty() {
                await_detached_work(&mut shutdown).await;
                return 0;
            }
        }
        let cut_off: u64 = self.connections.iter().map(ConnectionHandle::open_requests).sum();
        for connection in &self.connections {
            connection.cut();
        }
        usize::try_from(cut_off).unwrap_or(usize::MAX)
    }

    fn admit<S: Serve>(&mut self, (accepted, load): (AcceptedConnection, Load), service: &S) {
        let AcceptedConnection { stream, peer, permit } = accepted;
        let stream = match tokio::net::TcpStream::from_std(stream) {
            Ok(stream) => stream,
            Err(error) => {
                tracing::error!(cause = %chain(&error), "cannot serve a connection");
                return;
            }
        };
        let state = Arc::new(ConnectionState::default());
        let service = service.clone();
        let server = self.server.clone();
        let task_state = Arc::clone(&state);
        let task = tokio::spawn(async move {
            let outcome: Result<(), Box<dyn StdError + Send + Sync>> = match server {
                Server::Rpc(rpc) => rpc.serve(stream, service, task_state).await,
                Server::Web(builder) => {
                    let service = counted(service, Peer { address: peer }, Arc::clone(&task_state));
                    let stream = TokioIo::new(ActivityStream::new(stream, Arc::clone(&task_state)));
                    task_state.drive(builder.serve_connection(stream, service)).await
                }
            };
            // A client that breaks the protocol or disconnects is no failure of ours.
            if let Err(error) = outcome {
                tracing::debug!(cause = %chain(&*error), %peer, "connection failed");
            }
            drop((permit, load));
        });
        let age_limit = self.options.connection_age.map(jitter::interval);
        self.connections
            .push(ConnectionHandle::new(state, task, age_limit));
    }
}

/// Waits until nothing runs on this worker any more: what is left when its runtime goes is cut off in the middle.
async fn await_detached_work(shutdown: &mut Shutdown) {
    let metrics = runtime::Handle::current().metrics();
    let idle = async {
        while metrics.num_alive_tasks() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        () = shutdown.immediate() => {}
        () = tokio::time::sleep(DETACHED_WORK) => {}
        () = idle => {}
    }
}
