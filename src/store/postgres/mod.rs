//! Users and sessions in PostgreSQL, shared by any number of processes.
//!
//! Every operation is one statement, and every statement a transaction: there is no transaction that a lost connection, a caller
//! that goes away or a stopped process could leave open.

use crate::store::{RevocationLog, log_follower};
use check_batcher::{CheckBatcher, CheckServer};
use connection::{Settings, Target};
use pool::ConnectionPool;
use reconnecting::ReconnectingConnection;
use revocation_log::PostgresLog;
use server_error::ServerError;
use shared_connections::{CheckConnections, SharedConnections};
use std::{fmt, sync::Arc, time::Duration};
use tokio::{sync::Notify, task::JoinSet};
use touches::Touches;

mod check_batcher;
mod config;
mod connection;
mod pool;
mod reconnecting;
mod revocation_log;
mod rows;
mod schema;
mod server_error;
mod sessions;
mod shared_connections;
mod statements;
mod tls;
mod touches;
mod users;

pub use config::{InvalidPostgresUrl, PostgresConfig, PostgresUrl};
pub use tls::PostgresTlsError;

/// How much longer than other statements those may take that look at every session: counts, and the sweep's batches.
const SLOW_FACTOR: u32 = 3;

/// Why the store cannot be opened. Holds nothing of the URL.
#[derive(Debug, thiserror::Error)]
pub enum PostgresConnectError {
    /// The URL is not one that sessiond would use.
    #[error(transparent)]
    Url(#[from] InvalidPostgresUrl),
    /// The certificates to trust cannot be used.
    #[error("PostgreSQL cannot be verified")]
    Tls(#[from] PostgresTlsError),
    /// The server cannot be reached, does not let sessiond in, or refused a statement.
    #[error("PostgreSQL cannot be used")]
    Server(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The server did not answer in time.
    #[error("PostgreSQL did not answer in time")]
    Unanswered,
    /// A newer release has migrated the schema.
    #[error("the schema in PostgreSQL has version {found}, and this program knows versions up to {known}")]
    SchemaTooNew {
        /// The schema's version.
        found: i32,
        /// The newest version that this program knows.
        known: i32,
    },
    /// A migration failed; the schema is as it was before that migration.
    #[error("the schema in PostgreSQL cannot be migrated")]
    Migration(#[from] refinery::Error),
}

impl From<ServerError> for PostgresConnectError {
    fn from(error: ServerError) -> Self {
        match error {
            ServerError::Unanswered => Self::Unanswered,
            error @ (ServerError::Refused { .. }
            | ServerError::Broken(_)
            | ServerError::Unreadable(_)
            | ServerError::NotConnected) => Self::Server(Box::new(error)),
        }
    }
}

impl From<tokio_postgres::Error> for PostgresConnectError {
    fn from(error: tokio_postgres::Error) -> Self {
        ServerError::from(error).into()
    }
}

/// Users and sessions in PostgreSQL.
///
/// Connections that end are opened again in the background; until then every operation fails at once. Dropping the store closes
/// them. They must lead to the server itself, or through a proxy that gives each a server process of its own: statements are
/// prepared and told of on them, which a pooler that takes turns between transactions would break.
pub struct PostgresStore {
    checks: Arc<Checks>,
    writes: Arc<ConnectionPool>,
    /// For statements that read whole tables: nothing else waits for them.
    slow: Arc<ConnectionPool>,
    touches: Arc<Touches>,
    log: RevocationLog,
    /// Wakes the follower of the log.
    woken: Arc<Notify>,
    call_timeout: Duration,
    _tasks: JoinSet<()>,
}

/// What checks need. Those that are under way share it with the store.
struct Checks {
    connections: Arc<CheckConnections>,
    batcher: CheckBatcher,
    call_timeout: Duration,
}

impl fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PostgresStore(..)")
    }
}

impl PostgresStore {
    /// Connects to the server, and brings the schema up to date if it is not: of several processes that start at once, one does.
    ///
    /// # Errors
    /// If the server cannot be reached, is no primary, or has a schema that is newer than this program.
    pub async fn connect(config: PostgresConfig) -> Result<Self, PostgresConnectError> {
        let (driver_config, tls) = config::target(&config.url, config.connect_timeout)?;
        let target = Arc::new(Target {
            config: driver_config,
            tls,
            connect_timeout: config.connect_timeout,
        });
        schema::bring_up_to_date(&target).await?;

        let woken = Arc::new(Notify::new());
        let settings = Settings {
            statement_timeout: config.statement_timeout,
            lock_timeout: config.lock_timeout,
            listener: None,
        };
        let slow_settings = Settings {
            statement_timeout: config.statement_timeout * SLOW_FACTOR,
            ..settings.clone()
        };
        let following_settings = Settings {
            listener: Some(Arc::clone(&woken)),
            ..settings.clone()
        };

        let mut tasks = JoinSet::new();
        let checks =
            ReconnectingConnection::open(config.check_connections, &target, &settings, &mut tasks).await?;
        let writes =
            ReconnectingConnection::open(config.write_connections, &target, &settings, &mut tasks).await?;
        let slow = ReconnectingConnection::open(1, &target, &slow_settings, &mut tasks).await?;
        let following = ReconnectingConnection::open(1, &target, &following_settings, &mut tasks).await?;

        let writes = ConnectionPool::new(writes, config.call_timeout);
        let touches = Arc::new(Touches::default());
        tasks.spawn(Arc::clone(&touches).write_down(Arc::clone(&writes)));
        let shared_log = PostgresLog {
            connection: SharedConnections::new(following),
            call_timeout: config.call_timeout,
            woken: Arc::clone(&woken),
        };
        let log = RevocationLog::following(shared_log.head().await?);
        tasks.spawn(log_follower::follow(shared_log, log.clone()));

        let checks = Arc::new(CheckConnections::new(checks, &target, &settings));
        let server = CheckServer {
            checks: Arc::clone(&checks),
            call_timeout: config.call_timeout,
        };
        Ok(Self {
            checks: Arc::new(Checks {
                batcher: server.batcher(config.check_connections),
                connections: checks,
                call_timeout: config.call_timeout,
            }),
            writes,
            slow: ConnectionPool::new(slow, config.call_timeout * SLOW_FACTOR),
            touches,
            log,
            woken,
            call_timeout: config.call_timeout,
            _tasks: tasks,
        })
    }

    /// Brings the schema up to date, as [`connect`](Self::connect) does, and nothing else.
    ///
    /// # Errors
    /// As of `connect`.
    pub async fn migrate(config: &PostgresConfig) -> Result<(), PostgresConnectError> {
        let (driver_config, tls) = config::target(&config.url, config.connect_timeout)?;
        let target = Target {
            config: driver_config,
            tls,
            connect_timeout: config.connect_timeout,
        };
        schema::bring_up_to_date(&target).await
    }
}
