//! A connection that is opened again whenever it ends.

use super::{
    PostgresConnectError,
    connection::{Connection, Settings, Target},
    server_error::ServerError,
};
use crate::{error_chain::chain, jitter};
use futures_util::future::try_join_all;
use parking_lot::RwLock;
use std::{sync::Arc, time::Duration};
use tokio::{
    task::{JoinHandle, JoinSet},
    time::sleep,
};

/// The first and the longest wait between two attempts to connect.
const FIRST_WAIT: Duration = Duration::from_millis(50);
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// One connection, or none while the server is away; then a request fails at once.
pub(super) struct ReconnectingConnection {
    target: Arc<Target>,
    settings: Settings,
    current: RwLock<Option<Arc<Connection>>>,
}

impl ReconnectingConnection {
    /// As many as `count`, connected for the first time. Tasks in `tasks` connect them again whenever they end.
    pub(super) async fn open(
        count: u16,
        target: &Arc<Target>,
        settings: &Settings,
        tasks: &mut JoinSet<()>,
    ) -> Result<Vec<Arc<Self>>, PostgresConnectError> {
        let opened = try_join_all((0..count.max(1)).map(|_| target.open(settings))).await?;
        let connections = opened.into_iter().map(|(connection, driver)| {
            let reconnecting = Arc::new(Self {
                target: Arc::clone(target),
                settings: settings.clone(),
                current: RwLock::new(Some(Arc::new(connection))),
            });
            tasks.spawn(Arc::clone(&reconnecting).keep(Some(driver)));
            reconnecting
        });
        Ok(connections.collect())
    }

    /// The connection, if there is one.
    pub(super) fn connection(&self) -> Result<Arc<Connection>, ServerError> {
        self.current.read().clone().ok_or(ServerError::NotConnected)
    }

    pub(super) fn is_connected(&self) -> bool {
        self.current.read().is_some()
    }

    /// A connection that is still to be opened, by [`keep`](Self::keep).
    pub(super) fn unopened(target: &Arc<Target>, settings: &Settings) -> Arc<Self> {
        Arc::new(Self {
            target: Arc::clone(target),
            settings: settings.clone(),
            current: RwLock::new(None),
        })
    }

    /// Opens the connection again whenever it ends, for ever. `driver` is the task of the one that is open, if one is.
    pub(super) async fn keep(self: Arc<Self>, mut driver: Option<JoinHandle<()>>) {
        loop {
            if let Some(driver) = driver {
                // It ends when the server closes the connection, and when somebody gives it up.
                let _ = driver.await;
                *self.current.write() = None;
                tracing::debug!("a connection to PostgreSQL ended");
            }
            driver = Some(self.connect().await);
        }
    }

    async fn connect(&self) -> JoinHandle<()> {
        let mut wait = FIRST_WAIT;
        loop {
            match self.target.open(&self.settings).await {
                Ok((connection, driver)) => {
                    *self.current.write() = Some(Arc::new(connection));
                    tracing::debug!("a connection to PostgreSQL is there");
                    return driver;
                }
                Err(error) => {
                    tracing::debug!(cause = %chain(&error), "PostgreSQL cannot be reached");
                    sleep(jitter::retry_pause(wait)).await;
                    wait = (wait * 2).min(LONGEST_WAIT);
                }
            }
        }
    }
}
