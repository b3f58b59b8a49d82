//! One connection to the server: opening it, sending statements, giving it up.

use super::{PostgresConnectError, server_error::ServerError, statements::Statements, tls::Tls};
use std::{future::poll_fn, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::Notify,
    task::{AbortHandle, JoinHandle},
    time::{Instant, timeout, timeout_at},
};
use tokio_postgres::{AsyncMessage, Client, Config, NoTls, Socket};

/// Where the server is, and how a connection to it is opened.
#[derive(Clone)]
pub(super) struct Target {
    pub(super) config: Config,
    pub(super) tls: Tls,
    pub(super) connect_timeout: Duration,
}

/// How patient the server is to be with the statements of a connection, and whether it sends notifications of revocations.
#[derive(Clone)]
pub(super) struct Settings {
    pub(super) statement_timeout: Duration,
    pub(super) lock_timeout: Duration,
    /// Notified when the server sends that revocations got numbers.
    pub(super) listener: Option<Arc<Notify>>,
}

impl Settings {
    fn sql(&self) -> String {
        let mut sql = format!(
            "SET statement_timeout = {}; SET lock_timeout = {}; \
             SET default_transaction_isolation = 'read committed'; SET plan_cache_mode = force_generic_plan; SET jit = off; \
             SELECT set_config('synchronous_commit', 'on', false) \
             WHERE current_setting('synchronous_commit') IN ('off', 'local');",
            self.statement_timeout.as_millis(),
            self.lock_timeout.as_millis(),
        );
        if self.listener.is_some() {
            sql.push_str("LISTEN sessiond_revocations;");
        }
        sql
    }
}

impl Target {
    /// A connection without settings or statements, and the task that drives it.
    pub(super) async fn connect(
        &self,
        listener: Option<Arc<Notify>>,
    ) -> Result<(Client, JoinHandle<()>), PostgresConnectError> {
        let connecting = async {
            Ok(match &self.tls {
                Tls::Off => {
                    let (client, connection) = self.config.connect(NoTls).await?;
                    (client, tokio::spawn(drive(connection, listener)))
                }
                Tls::Verified(connector) => {
                    let (client, connection) = self.config.connect(connector.clone()).await?;
                    (client, tokio::spawn(drive(connection, listener)))
                }
            })
        };
        // The driver's own limit ends with the TCP handshake, which a hung server's kernel still performs.
        timeout(self.connect_timeout, connecting)
            .await
            .map_err(|_| PostgresConnectError::Unanswered)?
    }

    /// A connection that can be asked, and the task that drives it, which ends with the connection.
    pub(super) async fn open(
        &self,
        settings: &Settings,
    ) -> Result<(Connection, JoinHandle<()>), PostgresConnectError> {
        let (client, driver) = self.connect(settings.listener.clone()).await?;
        let driving = driver.abort_handle();
        let preparing = async {
            client.batch_execute(&settings.sql()).await?;
            Statements::prepare(&client).await
        };
        let prepared = timeout(self.connect_timeout, preparing).await;
        match prepared
            .map_err(|_| PostgresConnectError::Unanswered)
            .and_then(|prepared| Ok(prepared?))
        {
            Ok(statements) => Ok((
                Connection {
                    client,
                    statements,
                    driving,
                },
                driver,
            )),
            Err(error) => {
                driving.abort();
                Err(error)
            }
        }
    }
}

/// Carries requests and answers until the connection ends.
async fn drive<T>(mut connection: tokio_postgres::Connection<Socket, T>, listener: Option<Arc<Notify>>)
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    while let Some(message) = poll_fn(|cx| connection.poll_message(cx)).await {
        match message {
            Ok(AsyncMessage::Notification(_)) => {
                if let Some(listener) = &listener {
                    listener.notify_one();
                }
            }
            Ok(_) => (),
            // The driver fails every request that waits for an answer.
            Err(_) => return,
        }
    }
}

/// A connection with its statements.
///
/// Requests of many callers may be under way at once. The driver gives every request a channel of its own and fills the channels
/// in the order in which it has sent the requests, which is the order in which the server answers. A caller that stops waiting
/// drops its end; the answer is read all the same and thrown away, so the next answer still goes to whom it belongs (F-12).
pub(super) struct Connection {
    pub(super) client: Client,
    pub(super) statements: Statements,
    driving: AbortHandle,
}

impl Connection {
    /// The answer to a request on this connection, if it comes until `deadline`. If not, the connection is given up, and a late
    /// answer with it.
    pub(super) async fn answer_by<T>(
        &self,
        deadline: Instant,
        answer: impl Future<Output = Result<T, ServerError>>,
    ) -> Result<T, ServerError> {
        timeout_at(deadline, answer).await.unwrap_or_else(|_| {
            self.give_up();
            Err(ServerError::Unanswered)
        })
    }

    /// Closes the connection. Requests that wait for an answer on it fail now.
    pub(super) fn give_up(&self) {
        self.driving.abort();
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.give_up();
    }
}
