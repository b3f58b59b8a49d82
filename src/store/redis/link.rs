//! Connections that are kept: opened again when they break, watched while they are silent.

use super::{
    config::{RedisConfig, Server, tcp_settings},
    scripts,
};
use futures_util::future::join_all;
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ErrorKind, Pipeline, RedisError, RedisResult,
    ServerErrorKind, TlsMode, Value,
    aio::{ConnectionLike as _, MultiplexedConnection},
    cluster::ClusterClientBuilder,
    cluster_async::ClusterConnection,
    cluster_routing::{MultipleNodeRoutingInfo, Route, RoutingInfo, SingleNodeRoutingInfo},
    sentinel::{SentinelClientBuilder, SentinelServerType},
};
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::{Notify, watch},
    time::{sleep, timeout},
};

/// How often a connection is tried while nobody suspects it.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);

/// The pauses between attempts to connect grow from the first to the second.
const RECONNECT_AFTER: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(800));

/// How long a request waits for a connection that is being opened. Short: while the store is away, callers are told so at once.
const CONNECTION_PATIENCE: Duration = Duration::from_millis(100);

/// Requests that may wait to be written to one connection.
const QUEUED_REQUESTS: usize = 4096;

/// One open connection, shared by any number of requests at once. To a Cluster: one to each of its nodes.
///
/// A reply never reaches another request (F-12): a task of its own owns the socket, writes whole requests and hands the replies
/// out in the order of the requests. A request that nobody waits for any more keeps its place in that order, so its late reply is
/// dropped and the next one still finds its own. A connection that breaks takes every request on it down with it.
#[derive(Clone)]
pub(super) enum Connection {
    Node {
        connection: MultiplexedConnection,
        /// The server's `host:port`.
        addr: Arc<str>,
    },
    Cluster(ClusterConnection),
}

impl Connection {
    /// Connects and makes sure that the server takes writes.
    pub(super) async fn open(config: &RedisConfig) -> RedisResult<Self> {
        let opened = timeout(config.timeout, async {
            let mut connection = match &config.server {
                Server::Cluster(nodes) => {
                    let mut builder = ClusterClientBuilder::new(nodes.clone())
                        .connection_timeout(config.timeout)
                        .response_timeout(config.timeout)
                        // A node that has just lost its place says where its slots went; every script bears to run twice.
                        .retries(3)
                        .tcp_settings(tcp_settings());
                    if nodes.iter().any(|node| is_tls(node.addr())) {
                        builder = builder.tls(TlsMode::Secure).certs(config.certificates());
                    }
                    Self::Cluster(builder.build()?.get_async_connection().await?)
                }
                Server::Single(_) | Server::Sentinels { .. } => {
                    let settings = AsyncConnectionConfig::new()
                        .set_connection_timeout(Some(config.timeout))
                        .set_response_timeout(Some(config.timeout))
                        .set_pipeline_buffer_size(QUEUED_REQUESTS);
                    let client = client(config).await?;
                    Self::Node {
                        connection: client
                            .get_multiplexed_async_connection_with_config(&settings)
                            .await?,
                        addr: client.get_connection_info().addr().to_string().into(),
                    }
                }
            };
            if let Self::Node { .. } = connection {
                connection.must_take_writes().await?;
            }
            Ok(connection)
        });
        opened
            .await
            .unwrap_or_else(|_| Err(failure("no connection in time")))
    }

    /// The reply to a command.
    ///
    /// If the server does not know the scripts (it has started again, or is another one), they are loaded and it is asked once more. A
    /// command that is refused for that reason has changed nothing.
    pub(super) async fn ask(&mut self, cmd: &Cmd) -> RedisResult<Value> {
        match self.ask_once(cmd).await {
            Err(error) if is_no_script(&error) => {
                self.load_scripts().await?;
                self.ask_once(cmd).await
            }
            answer => answer,
        }
    }

    async fn ask_once(&mut self, cmd: &Cmd) -> RedisResult<Value> {
        let reply = match self {
            Self::Node { connection, .. } => connection.send_packed_command(cmd).await?,
            Self::Cluster(cluster) => cluster.req_packed_command(cmd).await?,
        };
        reply.extract_error()
    }

    /// Sends two commands as one, and gives both replies.
    pub(super) async fn ask_both(&mut self, both: &Pipeline) -> RedisResult<[Value; 2]> {
        match self.ask_both_once(both).await {
            Err(error) if is_no_script(&error) => {
                self.load_scripts().await?;
                self.ask_both_once(both).await
            }
            answer => answer,
        }
    }

    async fn ask_both_once(&mut self, both: &Pipeline) -> RedisResult<[Value; 2]> {
        let replies = match self {
            Self::Node { connection, .. } => connection.req_packed_commands(both, 0, 2).await?,
            Self::Cluster(cluster) => cluster.req_packed_commands(both, 0, 2).await?,
        };
        let replies: Vec<_> = replies
            .into_iter()
            .map(Value::extract_error)
            .collect::<RedisResult<_>>()?;
        replies
            .try_into()
            .map_err(|_| failure("not two replies to two commands"))
    }

    /// The replies to commands that are all sent to the primary of one slot, which a Cluster has.
    pub(super) async fn ask_primary_of(
        &mut self,
        slot: Route,
        commands: Pipeline,
    ) -> RedisResult<Vec<Value>> {
        match self {
            Self::Node { .. } => Err(failure("one server has no slots")),
            Self::Cluster(cluster) => {
                let count = commands.len();
                let primary = SingleNodeRoutingInfo::SpecificNode(slot);
                cluster.route_pipeline(commands, 0, count, primary).await
            }
        }
    }

    pub(super) async fn load_scripts(&mut self) -> RedisResult<()> {
        for script in scripts::all() {
            let mut cmd = redis::cmd("SCRIPT");
            cmd.arg("LOAD").arg(script.source.as_str());
            self.ask_once(&cmd).await?;
        }
        Ok(())
    }

    /// What every primary says; a Cluster has several.
    pub(super) async fn ask_primaries(&mut self, cmd: &Cmd) -> RedisResult<Vec<Value>> {
        match self {
            Self::Node { .. } => Ok(vec![self.ask(cmd).await?]),
            Self::Cluster(cluster) => {
                let everywhere = RoutingInfo::MultiNode((MultipleNodeRoutingInfo::AllMasters, None));
                let reply = cluster
                    .route_command(cmd.clone(), everywhere)
                    .await?
                    .extract_error()?;
                let Value::Map(by_node) = reply else {
                    return Err(failure("not one reply of each primary"));
                };
                Ok(by_node.into_iter().map(|(_, reply)| reply).collect())
            }
        }
    }

    /// Fails if the server, or one primary of a Cluster, does not answer, or is no primary any more and would refuse the next write.
    async fn must_take_writes(&mut self) -> RedisResult<()> {
        if let Self::Cluster(_) = self {
            return self.ask_primaries(&redis::cmd("PING")).await.map(drop);
        }
        match self.ask(&redis::cmd("ROLE")).await {
            Ok(Value::Array(role)) if role.first().is_some_and(is_master) => Ok(()),
            Ok(_) => Err(failure("the server is no primary")),
            // Whoever may not ask for the role learns it from the first write.
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoPerm) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

fn is_no_script(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Server(ServerErrorKind::NoScript)
}

fn is_master(role: &Value) -> bool {
    matches!(role, Value::BulkString(role) if role == b"master")
}

/// An error of our own making.
pub(super) fn failure(what: &'static str) -> RedisError {
    RedisError::from((ErrorKind::Client, what))
}

async fn client(config: &RedisConfig) -> RedisResult<Client> {
    match &config.server {
        Server::Single(node) if is_tls(node.addr()) => {
            Client::build_with_tls(node.clone(), config.certificates())
        }
        Server::Single(node) => Client::open(node.clone()),
        Server::Sentinels {
            addrs,
            service,
            credentials,
        } => {
            let mut builder = SentinelClientBuilder::new(addrs.clone(), service, SentinelServerType::Master)?
                .set_client_to_redis_db(credentials.db())
                .set_client_to_redis_tcp_settings(tcp_settings());
            if let Some(username) = credentials.username() {
                builder = builder.set_client_to_redis_username(username);
            }
            if let Some(password) = credentials.password() {
                builder = builder.set_client_to_redis_password(password);
            }
            if addrs.iter().any(is_tls) {
                builder = builder
                    .set_client_to_redis_tls_mode(TlsMode::Secure)
                    .set_client_to_redis_certificates(config.certificates())
                    .set_client_to_sentinel_certificates(config.certificates());
            }
            builder.build()?.async_get_client().await
        }
        Server::Cluster(_) => Err(failure("a Cluster has no single client")),
    }
}

fn is_tls(addr: &ConnectionAddr) -> bool {
    matches!(addr, ConnectionAddr::TcpTls { .. })
}

/// One place for a connection: holds an open one whenever there is a server to connect to.
///
/// A task looks after it as long as the link lives. It tries the connection every second and whenever a request has failed on it,
/// replaces it when it does not answer, and asks the Sentinels whether it still leads to the primary.
pub(super) struct Link {
    current: watch::Receiver<Option<Connection>>,
    suspect: Arc<Notify>,
}

impl Link {
    /// Opens the first connection.
    pub(super) async fn open(config: &RedisConfig) -> RedisResult<Self> {
        Ok(Self::over(config, Some(Connection::open(config).await?)))
    }

    /// A link whose first connection is still to be opened, by a task of the runtime that this is called on.
    pub(super) fn opening(config: &RedisConfig) -> Self {
        Self::over(config, None)
    }

    fn over(config: &RedisConfig, first: Option<Connection>) -> Self {
        let (sender, current) = watch::channel(first);
        let suspect = Arc::new(Notify::new());
        tokio::spawn(keep(config.clone(), sender, Arc::clone(&suspect)));
        Self { current, suspect }
    }

    /// The connection, if one is open.
    pub(super) fn ready(&self) -> Option<Connection> {
        self.current.borrow().clone()
    }

    /// The open connection, waited for a moment if need be.
    pub(super) async fn connection(&self) -> RedisResult<Connection> {
        let mut current = self.current.clone();
        let opened = timeout(CONNECTION_PATIENCE, current.wait_for(Option::is_some)).await;
        match opened {
            Ok(Ok(connection)) => connection.clone().ok_or_else(|| failure("not connected")),
            Ok(Err(_)) | Err(_) => Err(failure("not connected")),
        }
    }

    /// Has the connection tried after a request has failed on it, unless the server itself said why.
    pub(super) fn noted<T>(&self, result: RedisResult<T>) -> RedisResult<T> {
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

/// Keeps a connection in `place` until nobody holds the link any more.
async fn keep(config: RedisConfig, place: watch::Sender<Option<Connection>>, suspect: Arc<Notify>) {
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
                tracing::debug!(server = ?config.server, %error, "no connection to Redis");
                sleep(jittered(pause)).await;
                pause = (pause * 2).min(RECONNECT_AFTER.1);
            }
        }
    }
}

/// Returns once the connection is of no use any more, and says why.
async fn until_broken(config: &RedisConfig, mut connection: Connection, suspect: &Notify) -> RedisError {
    loop {
        // A suspicion is no reason for one probe after another.
        let _ = timeout(jittered(PROBE_INTERVAL), suspect.notified()).await;
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

fn jittered(span: Duration) -> Duration {
    // Many processes that lost one server do not come back in step. Without randomness they do, which is no worse than slow.
    let random = getrandom::u32().unwrap_or(u32::MAX / 2);
    span.mul_f64(0.5 + f64::from(random) / f64::from(u32::MAX) / 2.0)
}
