//! The way of a request to Redis: over one of several connections that all share, for checks over that of the thread that asks; with
//! the scripts loaded, and for writes with the replicas waited for.

use super::{
    config::RedisConfig,
    link::{Connection, Link, failure},
};
use crate::store::thread_connections::PerThread;
use redis::{Cmd, Pipeline, RedisError, RedisResult, Value, cluster_routing::Route};
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// Threads that have a connection of their own.
pub(super) const THREAD_LIMIT: usize = 64;

/// All connections of a store.
pub(super) struct Wire {
    config: RedisConfig,
    per_thread: PerThread<Link>,
    readers: Vec<Link>,
    /// Connections for writes that wait for replicas; a read behind such a write would wait too. Empty: the readers' are used.
    writers: Vec<Link>,
    next: AtomicUsize,
}

impl Wire {
    pub(super) async fn open(config: &RedisConfig) -> RedisResult<Self> {
        let connections = config.connections.max(1);
        let wire = Self {
            config: config.clone(),
            per_thread: PerThread::new(THREAD_LIMIT),
            readers: open(config, connections).await?,
            writers: open(config, config.strict_replicas.map_or(0, |_| connections)).await?,
            next: AtomicUsize::new(0),
        };
        wire.connection(&wire.readers).await?.0.load_scripts().await?;
        Ok(wire)
    }

    /// Gives up the connections of threads; what they ask from now on goes over those that all share.
    pub(super) fn close_threads(&self) {
        self.per_thread.close();
    }

    /// A link whose connection is open, if there is one.
    async fn connection<'a>(&self, links: &'a [Link]) -> RedisResult<(Connection, &'a Link)> {
        let first = self.next.fetch_add(1, Ordering::Relaxed) % links.len().max(1);
        let (before, after) = links.split_at(first);
        for link in after.iter().chain(before) {
            if let Some(connection) = link.ready() {
                return Ok((connection, link));
            }
        }
        let link = after.first().ok_or_else(|| failure("no connection"))?;
        Ok((link.connection().await?, link))
    }

    /// The reply to a command that changes nothing.
    pub(super) async fn read(&self, cmd: &Cmd) -> RedisResult<Value> {
        let (mut connection, link) = self.connection(&self.readers).await?;
        link.noted(connection.ask(cmd).await)
    }

    /// As [`read`](Self::read), over the connection of this thread. If that is broken, a shared one is asked.
    ///
    /// For checks: what changes something must not be asked twice, and so would fail on each thread in turn after the server was away.
    pub(super) async fn read_here(&self, cmd: &Cmd) -> RedisResult<Value> {
        if let Some((lane, mut connection)) = self.lane() {
            match lane.noted(connection.ask(cmd).await) {
                Err(error) if is_broken(&error) => {}
                answer => return answer,
            }
        }
        self.read(cmd).await
    }

    /// As [`read_here`](Self::read_here), for commands that are sent to the primary of one slot of a Cluster.
    pub(super) async fn read_here_at(&self, slot: Route, commands: &Pipeline) -> RedisResult<Vec<Value>> {
        if let Some((lane, mut connection)) = self.lane() {
            match lane.noted(connection.ask_primary_of(slot, commands.clone()).await) {
                Err(error) if is_broken(&error) => {}
                answer => return answer,
            }
        }
        let (mut connection, link) = self.connection(&self.readers).await?;
        link.noted(connection.ask_primary_of(slot, commands.clone()).await)
    }

    /// The connection of this thread. While it has none, others may.
    fn lane(&self) -> Option<(Arc<Link>, Connection)> {
        let lane = self.per_thread.here(|| Link::opening(&self.config))?;
        let connection = lane.ready()?;
        Some((lane, connection))
    }

    /// The reply to a command that changes something: once it is there, the change is as safe as the configuration asks.
    pub(super) async fn write(&self, cmd: &Cmd) -> RedisResult<Value> {
        let Some(replicas) = self.config.strict_replicas else {
            return self.read(cmd).await;
        };
        let (mut connection, link) = self.connection(&self.writers).await?;
        let mut both = redis::Pipeline::with_capacity(2);
        let patience = u64::try_from(self.config.timeout.as_millis() / 2).unwrap_or(u64::MAX);
        both.add_command(cmd.clone());
        both.cmd("WAIT").arg(replicas).arg(patience.max(1));
        let [reply, acknowledged] = link.noted(connection.ask_both(&both).await)?;
        let acknowledged: u32 = redis::from_redis_value(acknowledged)?;
        // Whoever asks again finds out what became of the write; nobody has been told that it is there.
        match acknowledged >= replicas {
            true => Ok(reply),
            false => Err(failure("too few replicas have the write")),
        }
    }

    /// What every primary says.
    pub(super) async fn read_primaries(&self, cmd: &Cmd) -> RedisResult<Vec<Value>> {
        let (mut connection, link) = self.connection(&self.readers).await?;
        link.noted(connection.ask_primaries(cmd).await)
    }
}

/// Whether the connection is of no use any more, and has said so at once: whoever has waited in vain does not wait again.
fn is_broken(error: &RedisError) -> bool {
    !error.is_timeout() && (error.is_io_error() || error.is_unrecoverable_error())
}

async fn open(config: &RedisConfig, links: usize) -> RedisResult<Vec<Link>> {
    let mut opened = Vec::with_capacity(links);
    for _ in 0..links {
        opened.push(Link::open(config).await?);
    }
    Ok(opened)
}
