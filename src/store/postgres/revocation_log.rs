//! The log of revocations that all processes share: three tables, read over a connection on which the server tells of new entries.

use super::{rows, server_error::ServerError, shared_connections::SharedConnections};
use crate::store::{
    Cursor,
    log_follower::{LogPage, SharedLog},
};
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::Notify,
    time::{Instant, sleep},
};

/// How long the log may go without being confirmed. Also how late a revocation is told whose process died before it said so.
const CONFIRMED_EVERY: Duration = Duration::from_millis(200);

/// Entries that are numbered, or read, in one statement.
const READ_AT_ONCE: i64 = 5_000;

/// The shared log.
pub(super) struct PostgresLog {
    pub(super) connection: SharedConnections,
    pub(super) call_timeout: Duration,
    /// There is something new, be it that this process has written it or that the server tells of it.
    pub(super) woken: Arc<Notify>,
}

impl PostgresLog {
    /// Which log it is, and its last entry.
    pub(super) async fn head(&self) -> Result<Cursor, ServerError> {
        Ok(self.number().await?.0)
    }

    /// Gives numbers to entries that have none, and says how far the log goes and whether every entry has one.
    async fn number(&self) -> Result<(Cursor, bool), ServerError> {
        let connection = self.connection.connection()?;
        let numbering = async {
            let statement = &connection.statements.number_revocations;
            let row = connection.client.query_one(statement, &[&READ_AT_ONCE]).await?;
            let head = Cursor {
                log: rows::number(&row, 0)?,
                sequence: rows::number(&row, 1)?,
            };
            Ok((head, row.try_get(2)?))
        };
        connection
            .answer_by(Instant::now() + self.call_timeout, numbering)
            .await
    }
}

impl SharedLog for PostgresLog {
    type Error = ServerError;

    async fn read_after(&mut self, at: Cursor) -> Result<LogPage, ServerError> {
        let (head, is_numbered) = self.number().await?;
        let mut page = LogPage {
            head,
            entries: Vec::new(),
            is_last: is_numbered,
        };
        if head.log != at.log || head.sequence <= at.sequence {
            return Ok(page);
        }
        let connection = self.connection.connection()?;
        let after = i64::try_from(at.sequence).map_err(|_| ServerError::Unreadable("number"))?;
        let reading = async {
            let statement = &connection.statements.revocations_after;
            Ok(connection
                .client
                .query(statement, &[&after, &READ_AT_ONCE])
                .await?)
        };
        let entries = connection
            .answer_by(Instant::now() + self.call_timeout, reading)
            .await?;
        for entry in &entries {
            let (sequence, revocation) = rows::revocation(entry)?;
            page.entries.push((sequence, Some(revocation)));
        }
        if page.entries.is_empty() {
            // All of them were trimmed while this process was away.
            page.entries.push((head.sequence, None));
        }
        let is_read = |(sequence, _): &(u64, _)| *sequence >= head.sequence;
        page.is_last &= page.entries.last().is_some_and(is_read);
        Ok(page)
    }

    async fn wait(&mut self) {
        tokio::select! {
            () = self.woken.notified() => (),
            () = sleep(CONFIRMED_EVERY) => (),
        }
    }

    /// The connection is opened again by itself.
    async fn reconnect(&mut self) -> Result<(), ServerError> {
        Ok(())
    }
}
