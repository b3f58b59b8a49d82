//! The way of a request to Redis: over one of several connections that all share, for checks over that of the thread that asks;
//! with the scripts loaded, and for writes with the replicas waited for.

pub(super) mod check_batcher;
pub(super) mod pool;
mod reconnecting;

use super::{
    config::{RedisConfig, Server, tcp_settings},
    protocol::scripts,
};
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ErrorKind, Pipeline, RedisError, RedisResult,
    ServerErrorKind, TlsMode, Value,
    aio::{ConnectionLike as _, MultiplexedConnection},
    cluster::ClusterClientBuilder,
    cluster_async::ClusterConnection,
    cluster_routing::{MultipleNodeRoutingInfo, Route, RoutingInfo, SingleNodeRoutingInfo},
    sentinel::{SentinelClientBuilder, SentinelServerType},
};
use std::sync::Arc;
use tokio::time::timeout;

/// Requests that may wait to be written to one connection.
const QUEUED_REQUESTS: usize = 4096;

/// One open connection, shared by any number of requests at once. To a Cluster: one to each of its nodes.
///
/// A reply never reaches another request (F-12): a task of its own owns the socket, writes whole requests and hands the replies
/// out in the order of the requests. A request whose caller has stopped waiting keeps its place in that order, so its late reply is
/// dropped and the next one still finds its own. A connection that breaks takes every request on it down with it.
#[derive(Clone)]
pub(crate) enum Connection {
    Node {
        connection: MultiplexedConnection,
        /// The server's `host:port`.
        addr: Arc<str>,
    },
    Cluster(ClusterConnection),
}

impl Connection {
    /// Connects and makes sure that the server takes writes.
    pub(crate) async fn open(config: &RedisConfig) -> RedisResult<Self> {
        let opened = timeout(config.timeout, async {
            let mut connection = match &config.server {
                Server::Cluster(nodes) => {
                    let mut builder = ClusterClientBuilder::new(nodes.clone())
                        .connection_timeout(config.timeout)
                        .response_timeout(config.timeout)
                        // A node that has just lost its place says where its slots went; every script may run twice.
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
    /// If the server does not know the scripts (it has started again, or is another one), they are loaded and the command is sent
    /// once more. A command that is refused for that reason has changed nothing.
    pub(crate) async fn ask(&mut self, cmd: &Cmd) -> RedisResult<Value> {
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
    pub(crate) async fn ask_both(&mut self, both: &Pipeline) -> RedisResult<[Value; 2]> {
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
    pub(crate) async fn ask_primary_of(
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

    pub(crate) async fn load_scripts(&mut self) -> RedisResult<()> {
        for script in scripts::all() {
            let mut cmd = redis::cmd("SCRIPT");
            cmd.arg("LOAD").arg(script.source());
            self.ask_once(&cmd).await?;
        }
        Ok(())
    }

    /// The replies of all primaries; a Cluster has several.
    pub(crate) async fn ask_primaries(&mut self, cmd: &Cmd) -> RedisResult<Vec<Value>> {
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

    /// Fails if the server, or one primary of a Cluster, does not answer, or is no primary any more and would refuse the next
    /// write.
    async fn must_take_writes(&mut self) -> RedisResult<()> {
        if let Self::Cluster(_) = self {
            return self.ask_primaries(&redis::cmd("PING")).await.map(drop);
        }
        match self.ask(&redis::cmd("ROLE")).await {
            Ok(Value::Array(role)) if role.first().is_some_and(is_master) => Ok(()),
            Ok(_) => Err(failure("the server is no primary")),
            // A user who may not read the role finds out with the first write.
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

/// Whether the server was reached and does not let this user in, or not do that.
pub(crate) fn is_forbidden(error: &RedisError) -> bool {
    error.kind() == ErrorKind::AuthenticationFailed
        || error.kind() == ErrorKind::Server(ServerErrorKind::NoPerm)
        || matches!(error.code(), Some("NOAUTH" | "WRONGPASS" | "NOPERM"))
}

/// Whether the server refused a write because its memory is full.
pub(crate) fn is_full(error: &RedisError) -> bool {
    // Before 7.0, the error of a script quotes that of the command.
    let quotes = |detail: &str| detail.contains("-OOM ");
    error.code() == Some("OOM") || error.detail().is_some_and(quotes)
}

/// An error of our own making.
pub(crate) fn failure(what: &'static str) -> RedisError {
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
