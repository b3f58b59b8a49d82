//! Connections that each serve one caller at a time.

use super::{connection::Connection, reconnecting::ReconnectingConnection, server_error::ServerError};
use parking_lot::Mutex;
use std::{sync::Arc, time::Duration};
use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout_at},
};

/// Connections that one caller at a time has. For statements that may take a while.
pub(super) struct ConnectionPool {
    connections: Vec<Arc<ReconnectingConnection>>,
    /// Those that are free: as many as there are permits.
    free: Mutex<Vec<usize>>,
    permits: Arc<Semaphore>,
    call_timeout: Duration,
}

impl ConnectionPool {
    pub(super) fn new(connections: Vec<Arc<ReconnectingConnection>>, call_timeout: Duration) -> Arc<Self> {
        Arc::new(Self {
            free: Mutex::new((0..connections.len()).collect()),
            permits: Arc::new(Semaphore::new(connections.len())),
            connections,
            call_timeout,
        })
    }

    /// What the server answers to `question`, which has a connection to itself.
    pub(super) async fn ask<T>(
        self: &Arc<Self>,
        question: impl AsyncFnOnce(&Connection) -> Result<T, ServerError>,
    ) -> Result<T, ServerError> {
        let deadline = Instant::now() + self.call_timeout;
        let pooled = timeout_at(deadline, self.check_out())
            .await
            .map_err(|_| ServerError::Unanswered)??;
        let connection = Arc::clone(&pooled.connection);
        let returned = ReturnedWhenAnswered(Some(pooled));
        let answer = connection.answer_by(deadline, question(&connection)).await;
        returned.now();
        answer
    }

    async fn check_out(self: &Arc<Self>) -> Result<PooledConnection, ServerError> {
        let permit = Arc::clone(&self.permits)
            .acquire_owned()
            .await
            .map_err(|_| ServerError::NotConnected)?;
        let mut free = self.free.lock();
        let place = free
            .iter()
            .position(|at| self.connections[*at].is_connected())
            .ok_or(ServerError::NotConnected)?;
        let connection = self.connections[free[place]].connection()?;
        Ok(PooledConnection {
            at: free.swap_remove(place),
            pool: Arc::clone(self),
            connection,
            _permit: permit,
        })
    }
}

/// A connection that one caller has. It is free for others when this is dropped.
struct PooledConnection {
    pool: Arc<ConnectionPool>,
    at: usize,
    connection: Arc<Connection>,
    _permit: OwnedSemaphorePermit,
}

impl Drop for PooledConnection {
    fn drop(&mut self) {
        self.pool.free.lock().push(self.at);
    }
}

/// Keeps a connection from others until its statement is answered, also if the caller stops waiting: the next one would have to
/// wait for the answer to a question that is not its own.
struct ReturnedWhenAnswered(Option<PooledConnection>);

impl ReturnedWhenAnswered {
    fn now(mut self) {
        self.0 = None;
    }
}

impl Drop for ReturnedWhenAnswered {
    fn drop(&mut self) {
        let (Some(pooled), Ok(runtime)) = (self.0.take(), Handle::try_current()) else {
            return;
        };
        runtime.spawn(async move {
            // Answers come in order: that of an empty question comes last.
            let deadline = Instant::now() + pooled.pool.call_timeout;
            let last = async {
                pooled
                    .connection
                    .client
                    .batch_execute("")
                    .await
                    .map_err(ServerError::from)
            };
            let _ = pooled.connection.answer_by(deadline, last).await;
        });
    }
}
