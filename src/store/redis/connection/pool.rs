//! All connections of a store, and which of them a request takes.

use super::{Connection, failure, reconnecting::ReconnectingConnection};
use crate::store::{redis::config::RedisConfig, thread_connections::PerThread};
use redis::{Cmd, Pipeline, RedisError, RedisResult, Value, cluster_routing::Route};
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// Threads that have a connection of their own.
pub(super) const THREAD_LIMIT: usize = 64;

/// All connections of a store.
pub(crate) struct ConnectionPool {
    config: RedisConfig,
    per_thread: PerThread<ReconnectingConnection>,
    readers: Vec<ReconnectingConnection>,
    /// Connections for writes that wait for replicas; a read behind such a write would wait too. Empty: the readers' are used.
    writers: Vec<ReconnectingConnection>,
    next: AtomicUsize,
}

impl ConnectionPool {
    pub(crate) async fn open(config: &RedisConfig) -> RedisResult<Self> {
        let connections = config.connections.max(1);
        let pool = Self {
            config: config.clone(),
            per_thread: PerThread::new(THREAD_LIMIT),
            readers: open(config, connections).await?,
            writers: open(config, config.strict_replicas.map_or(0, |_| connections)).await?,
            next: AtomicUsize::new(0),
        };
        let (mut connection, _) = pool.take(&pool.readers).await?;
        connection.load_scripts().await?;
        Ok(pool)
    }

    /// Gives up the connections of threads; what they ask from now on goes over those that all share.
    pub(crate) fn close_threads(&self) {
        self.per_thread.close();
    }

    /// One of these that is open, if there is one.
    async fn take<'a>(
        &self,
        from: &'a [ReconnectingConnection],
    ) -> RedisResult<(Connection, &'a ReconnectingConnection)> {
        let first = self.next.fetch_add(1, Ordering::Relaxed) % from.len().max(1);
        let (before, after) = from.split_at(first);
        for one in after.iter().chain(before) {
            if let Some(connection) = one.ready() {
                return Ok((connection, one));
            }
        }
        let one = after.first().ok_or_else(|| failure("no connection"))?;
        Ok((one.connection().await?, one))
    }

    /// The reply to a command that changes nothing, or whose change need not wait for replicas.
    pub(crate) async fn read(&self, cmd: &Cmd) -> RedisResult<Value> {
        let (mut connection, one) = self.take(&self.readers).await?;
        one.noted(connection.ask(cmd).await)
    }

    /// As [`read`](Self::read), over the connection of this thread. If that is broken, over a shared one.
    ///
    /// For checks only: a command that changes something must not be sent twice, so it would fail once on each thread after the
    /// server was away.
    pub(crate) async fn read_on_thread(&self, cmd: &Cmd) -> RedisResult<Value> {
        if let Some((own, mut connection)) = self.of_thread() {
            match own.noted(connection.ask(cmd).await) {
                Err(error) if is_broken(&error) => {}
                answer => return answer,
            }
        }
        self.read(cmd).await
    }

    /// As [`read_on_thread`](Self::read_on_thread), for commands that are sent to the primary of one slot of a Cluster.
    pub(crate) async fn read_on_thread_at(
        &self,
        slot: Route,
        commands: &Pipeline,
    ) -> RedisResult<Vec<Value>> {
        if let Some((own, mut connection)) = self.of_thread() {
            match own.noted(connection.ask_primary_of(slot, commands.clone()).await) {
                Err(error) if is_broken(&error) => {}
                answer => return answer,
            }
        }
        let (mut connection, one) = self.take(&self.readers).await?;
        one.noted(connection.ask_primary_of(slot, commands.clone()).await)
    }

    /// The connection of this thread. While it has none, others may.
    fn of_thread(&self) -> Option<(Arc<ReconnectingConnection>, Connection)> {
        let own = self
            .per_thread
            .here(|| ReconnectingConnection::opening(&self.config))?;
        let connection = own.ready()?;
        Some((own, connection))
    }

    /// The reply to a command that changes something: once it is there, the change is as safe as the configuration asks.
    pub(crate) async fn write(&self, cmd: &Cmd) -> RedisResult<Value> {
        let Some(replicas) = self.config.strict_replicas else {
            return self.read(cmd).await;
        };
        let (mut connection, one) = self.take(&self.writers).await?;
        let mut both = redis::Pipeline::with_capacity(2);
        let patience = u64::try_from(self.config.timeout.as_millis() / 2).unwrap_or(u64::MAX);
        both.add_command(cmd.clone());
        both.cmd("WAIT").arg(replicas).arg(patience.max(1));
        let [reply, acknowledged] = one.noted(connection.ask_both(&both).await)?;
        let acknowledged: u32 = redis::from_redis_value(acknowledged)?;
        // A second attempt finds out what became of the write, which has not been acknowledged.
        match acknowledged >= replicas {
            true => Ok(reply),
            false => Err(failure("too few replicas have the write")),
        }
    }

    /// The replies of all primaries.
    pub(crate) async fn read_primaries(&self, cmd: &Cmd) -> RedisResult<Vec<Value>> {
        let (mut connection, one) = self.take(&self.readers).await?;
        one.noted(connection.ask_primaries(cmd).await)
    }
}

/// Whether the request failed at once because its connection is broken. A request that has waited for its time limit is not sent
/// again.
fn is_broken(error: &RedisError) -> bool {
    !error.is_timeout() && (error.is_io_error() || error.is_unrecoverable_error())
}

async fn open(config: &RedisConfig, count: usize) -> RedisResult<Vec<ReconnectingConnection>> {
    let mut opened = Vec::with_capacity(count);
    for _ in 0..count {
        opened.push(ReconnectingConnection::open(config).await?);
    }
    Ok(opened)
}
