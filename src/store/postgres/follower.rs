//! How the log of revocations that all processes share reaches this one.

use super::{rows, server_error::ServerError, shared_connections::SharedConnections};
use crate::store::{Cursor, RevocationLog, monotonic_millis};
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::Notify,
    time::{Instant, sleep},
};

/// How long the log may go without being confirmed. Also how late a revocation is published whose process died before it could
/// notify the others.
const CONFIRMED_EVERY: Duration = Duration::from_millis(200);

/// Entries that are numbered, or read, in one statement.
const READ_AT_ONCE: i64 = 5_000;

/// What one process has of the shared log.
pub(super) struct Follower {
    connection: SharedConnections,
    at: Cursor,
    answer_within: Duration,
}

impl Follower {
    /// Starts at the end of the log. `connection` is one on which the server notifies of new entries.
    pub(super) async fn start(
        connection: SharedConnections,
        answer_within: Duration,
    ) -> Result<Self, ServerError> {
        let mut follower = Self {
            connection,
            at: Cursor { log: 0, sequence: 0 },
            answer_within,
        };
        follower.at = follower.number().await?.0;
        Ok(follower)
    }

    /// Where the log stood at the start.
    pub(super) fn cursor(&self) -> Cursor {
        self.at
    }

    /// Keeps `log` up to date for as long as the store is open. `woken`: there is something new, written by this process or
    /// announced by the server.
    pub(super) async fn follow(mut self, log: RevocationLog, woken: Arc<Notify>) {
        let mut is_well = true;
        loop {
            match self.catch_up(&log).await {
                Ok(()) if is_well => (),
                Ok(()) => {
                    is_well = true;
                    tracing::info!("the log of revocations is up to date again");
                }
                Err(error) => {
                    if is_well {
                        let error = &error as &dyn std::error::Error;
                        tracing::warn!(
                            error,
                            "the log of revocations cannot be read: PostgreSQL does not answer"
                        );
                    }
                    is_well = false;
                    sleep(CONFIRMED_EVERY).await;
                }
            }
            tokio::select! {
                () = woken.notified() => (),
                () = sleep(CONFIRMED_EVERY) => (),
            }
        }
    }

    async fn catch_up(&mut self, log: &RevocationLog) -> Result<(), ServerError> {
        loop {
            let asked_at = monotonic_millis();
            let (head, is_complete) = self.number().await?;
            // A log with another name, or one that has lost numbers, is not the one that was followed.
            if head.log != self.at.log || head.sequence < self.at.sequence {
                self.at = head;
                log.restart(head);
            }
            while self.at.sequence < head.sequence {
                self.read(head, log).await?;
            }
            if is_complete {
                log.confirm(asked_at);
                return Ok(());
            }
        }
    }

    /// Gives numbers to what has none, and says how far the log goes and whether everything has one.
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
            .answer_by(Instant::now() + self.answer_within, numbering)
            .await
    }

    /// Reads what comes next, on the way to `head`.
    async fn read(&mut self, head: Cursor, log: &RevocationLog) -> Result<(), ServerError> {
        let connection = self.connection.connection()?;
        let after = i64::try_from(self.at.sequence).map_err(|_| ServerError::Unreadable("number"))?;
        let reading = async {
            let statement = &connection.statements.revocations_after;
            Ok(connection
                .client
                .query(statement, &[&after, &READ_AT_ONCE])
                .await?)
        };
        let entries = connection
            .answer_by(Instant::now() + self.answer_within, reading)
            .await?;
        for entry in &entries {
            let (sequence, revocation) = rows::revocation(entry)?;
            if sequence != self.at.sequence + 1 {
                break;
            }
            log.publish_at(sequence, revocation);
            self.at.sequence = sequence;
        }
        // The log has no gaps: where one entry is missing, the log was trimmed while this process was away.
        let first = entries.first().map(rows::revocation).transpose()?;
        if first.is_none_or(|(first, _)| first > self.at.sequence) {
            self.at = head;
            log.restart(head);
        }
        Ok(())
    }
}
