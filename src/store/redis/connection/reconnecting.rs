//! Connections that are kept: opened again when they break, watched while they are silent.

use super::{Connection, failure, is_tls};
use crate::{
    error_chain::chain,
    jitter,
    store::redis::config::{RedisConfig, Server},
};
use futures_util::future::join_all;
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ErrorKind, RedisError, RedisResult, ServerErrorKind,
};
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::{Notify, watch},
    time::{sleep, timeout},
};

/// How often a connection is tried while no request has failed on it.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);

/// The pauses between attempts to connect grow from the first to the second.
const RECONNECT_AFTER: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(800));

/// How long a request waits for a connection that is being opened. Short: while the store is away, operations fail at once.
const CONNECTION_PATIENCE: Duration = Duration::from_millis(100);

/// One place for a connection: holds an open one whenever there is a server to connect to.
///
/// A task looks after it as long as this lives. It tries the connection every second and whenever a request has failed on it,
/// replaces it when it does not answer, and asks the Sentinels whether it still leads to the primary.
pub(crate) struct ReconnectingConnection {
    current: watch::Receiver<Option<Connection>>,
    suspect: Arc<Notify>,
}

impl ReconnectingConnection {
    /// Opens the first connection.
    pub(crate) async fn open(config: &RedisConfig) -> RedisResult<Self> {
        Ok(Self::over(config, Some(Connection::open(config).await?)))
    }

    /// A place whose first connection is still to be opened, by a task of the runtime that this is called on.
    pub(crate) fn opening(config: &RedisConfig) -> Self {
        Self::over(config, None)
    }

    fn over(config: &RedisConfig, first: Option<Connection>) -> Self {
        let (sender, current) = watch::channel(first);
        let suspect = Arc::new(Notify::new());
        tokio::spawn(keep_open(config.clone(), sender, Arc::clone(&suspect)));
        Self { current, suspect }
    }

    /// The connection, if one is open.
    pub(crate) fn ready(&self) -> Option<Connection> {
        self.current.borrow().clone()
    }

    /// The open connection, waited for a moment if need be.
    pub(crate) async fn connection(&self) -> RedisResult<Connection> {
        let mut current = self.current.clone();
        let opened = timeout(CONNECTION_PATIENCE, current.wait_for(Option::is_some)).await;
        match opened {
            Ok(Ok(connection)) => connection.clone().ok_or_else(|| failure("not connected")),
            Ok(Err(_)) | Err(_) => Err(failure("not connected")),
        }
    }

    /// Has the connection tried after a request has failed on it, unless the server itself said why.
    pub(crate) fn noted<T>(&self, result: RedisResult<T>) -> RedisResult<T> {
        if let Err(error) = &result
            && (error.is_io_error()
                || error.is_unrecoverable_error()
                || error.kind() == ErrorKind::Server(ServerErrorKind::ReadOnly))
        {
            self.suspect.notify_one();
        }
        result
    }
}

/// Keeps a connection in `place` until the other end is dropped.
async fn keep_open(config: RedisConfig, place: watch::Sender<Option<Connection>>, suspect: Arc<Notify>) {
    tokio::select! {
        () = place.closed() => {}
        () = fill(&config, &place, &suspect) => {}
    }
}

/// Puts a connection in `place` whenever there is none that is of use.
async fn fill(config: &RedisConfig, place: &watch::Sender<Option<Connection>>, suspect: &Notify) {
    let mut pause = RECONNECT_AFTER.0;
    let mut was_open = false;
    loop {
        let connection = place.borrow().clone();
        if let Some(connection) = connection {
            was_open = true;
            let is_cluster = matches!(connection, Connection::Cluster(_));
            let reason = until_broken(config, connection, suspect).await;
            tracing::warn!(server = ?config.server, reason = %reason, "lost a connection to Redis");
            // The other nodes of a Cluster may well answer: what there is stays in use until there is better.
            if !is_cluster {
                place.send_replace(None);
            }
        }
        match Connection::open(config).await {
            Ok(connection) => {
                if was_open {
                    tracing::info!(server = ?config.server, "connected to Redis again");
                }
                pause = RECONNECT_AFTER.0;
                place.send_replace(Some(connection));
            }
            Err(error) => {
                tracing::debug!(server = ?config.server, cause = %chain(&error), "no connection to Redis");
                sleep(jitter::retry_pause(pause)).await;
                pause = (pause * 2).min(RECONNECT_AFTER.1);
            }
        }
    }
}

/// Returns the reason once the connection is broken.
async fn until_broken(config: &RedisConfig, mut connection: Connection, suspect: &Notify) -> RedisError {
    loop {
        // A suspicion is no reason for one probe after another.
        let _ = timeout(jitter::retry_pause(PROBE_INTERVAL), suspect.notified()).await;
        let probed = timeout(config.timeout, async {
            connection.must_take_writes().await?;
            must_lead_to_primary(config, &connection).await
        });
        match probed.await {
            Ok(Ok(())) => sleep(RECONNECT_AFTER.0).await,
            Ok(Err(error)) => return error,
            Err(_) => return failure("no answer in time"),
        }
    }
}

/// Fails if the Sentinels have made another server the primary: the old one may be cut off from them and not know it.
async fn must_lead_to_primary(config: &RedisConfig, connection: &Connection) -> RedisResult<()> {
    let (Server::Sentinels { addrs, service, .. }, Connection::Node { addr, .. }) =
        (&config.server, connection)
    else {
        return Ok(());
    };
    let named = addrs
        .iter()
        .map(|sentinel| primary_named_by(sentinel, service, config));
    let named: Vec<_> = join_all(named).await.into_iter().flatten().collect();
    // A Sentinel that is cut off from the others may name an old one. Those that do not answer have no say.
    let others = named.iter().filter(|named| named.as_str() != &**addr).count();
    match others * 2 > named.len() {
        true => Err(failure("the Sentinels name another primary")),
        false => Ok(()),
    }
}

/// The `host:port` that this Sentinel gives for the service.
async fn primary_named_by(sentinel: &ConnectionAddr, service: &str, config: &RedisConfig) -> Option<String> {
    let client = match is_tls(sentinel) {
        true => Client::build_with_tls(sentinel.clone(), config.certificates()),
        false => Client::open(sentinel.clone()),
    };
    let settings = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(config.timeout / 2))
        .set_response_timeout(Some(config.timeout / 2));
    let mut connection = client
        .ok()?
        .get_multiplexed_async_connection_with_config(&settings)
        .await
        .ok()?;
    let mut ask = redis::cmd("SENTINEL");
    ask.arg("GET-MASTER-ADDR-BY-NAME").arg(service);
    let (host, port): (String, String) = ask.query_async(&mut connection).await.ok()?;
    Some(format!("{host}:{port}"))
}
