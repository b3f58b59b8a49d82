//! Connections that callers share, and those of single threads that only check.

use super::{
    connection::{Connection, Settings, Target},
    reconnecting::ReconnectingConnection,
    server_error::ServerError,
};
use crate::store::thread_connections::PerThread;
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};
use tokio::task::AbortHandle;

/// Connections that all callers share: requests follow one another without waiting for answers. For statements that are over in
/// no time and wait for no lock.
pub(super) struct SharedConnections {
    connections: Vec<Arc<ReconnectingConnection>>,
    next: AtomicUsize,
}

impl SharedConnections {
    pub(super) fn new(connections: Vec<Arc<ReconnectingConnection>>) -> Self {
        Self {
            connections,
            next: AtomicUsize::new(0),
        }
    }

    /// The next connection in turn that is there.
    pub(super) fn connection(&self) -> Result<Arc<Connection>, ServerError> {
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        let in_turn = (0..self.connections.len())
            .map(|n| &self.connections[turn.wrapping_add(n) % self.connections.len()]);
        in_turn
            .into_iter()
            .find_map(|reconnecting| reconnecting.connection().ok())
            .ok_or(ServerError::NotConnected)
    }
}

/// Threads that have a connection of their own: of all processes together, the server lets in no more than its `max_connections`.
pub(super) const THREAD_LIMIT: usize = 16;

/// Connections for checks: of the threads that make them, and shared ones for everybody else.
pub(super) struct CheckConnections {
    per_thread: PerThread<ThreadConnection>,
    shared: SharedConnections,
    target: Arc<Target>,
    settings: Settings,
}

impl CheckConnections {
    pub(super) fn new(
        shared: Vec<Arc<ReconnectingConnection>>,
        target: &Arc<Target>,
        settings: &Settings,
    ) -> Self {
        Self {
            per_thread: PerThread::new(THREAD_LIMIT),
            shared: SharedConnections::new(shared),
            target: Arc::clone(target),
            settings: settings.clone(),
        }
    }

    /// The connection of this thread; while it has none, a shared one.
    pub(super) fn connection(&self) -> Result<Arc<Connection>, ServerError> {
        self.per_thread
            .here(|| ThreadConnection::opening(&self.target, &self.settings))
            .and_then(|own| own.reconnecting.connection().ok())
            .map_or_else(|| self.shared.connection(), Ok)
    }

    /// Gives up the connections of threads, once their requests are answered.
    pub(super) fn close_threads(&self) {
        self.per_thread.close();
    }
}

/// A connection whose tasks run on the thread that uses it.
struct ThreadConnection {
    reconnecting: Arc<ReconnectingConnection>,
    keeping: AbortHandle,
}

impl ThreadConnection {
    fn opening(target: &Arc<Target>, settings: &Settings) -> Self {
        let reconnecting = ReconnectingConnection::unopened(target, settings);
        let keeping = tokio::spawn(Arc::clone(&reconnecting).keep(None)).abort_handle();
        Self {
            reconnecting,
            keeping,
        }
    }
}

impl Drop for ThreadConnection {
    fn drop(&mut self) {
        self.keeping.abort();
    }
}
